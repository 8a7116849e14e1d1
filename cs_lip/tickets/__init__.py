"""Lottery tickets: sparse subnetworks of priors, found, kept, moved and made fast."""

from cs_lip.tickets.mask import DEFAULT_ROLES, Density, Mask

__all__ = ["DEFAULT_ROLES", "Density", "Mask"]
