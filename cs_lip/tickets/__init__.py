"""Lottery tickets: sparse subnetworks of priors, found, kept, moved and made fast."""

from cs_lip.tickets.criteria import CRITERIA, Evidence, score
from cs_lip.tickets.mask import DEFAULT_ROLES, Density, Mask
from cs_lip.tickets.schedules import densities
from cs_lip.tickets.selection import select
from cs_lip.tickets.synflow import synflow_mask

__all__ = ["CRITERIA", "DEFAULT_ROLES", "Density", "Evidence", "Mask", "densities", "score", "select", "synflow_mask"]
