"""Lottery tickets: sparse subnetworks of priors, found, kept, moved and made fast."""

from cs_lip.tickets.channels import channel_mask, dense_channels
from cs_lip.tickets.compaction import compact
from cs_lip.tickets.criteria import CRITERIA, Evidence, score
from cs_lip.tickets.mask import DEFAULT_ROLES, Density, Mask
from cs_lip.tickets.schedules import densities
from cs_lip.tickets.selection import select
from cs_lip.tickets.store import bundled_tickets, load_ticket
from cs_lip.tickets.synflow import synflow_mask
from cs_lip.tickets.ticket import About, Ticket, read_ticket, write_ticket
from cs_lip.tickets.timing import Timing, time_prior
from cs_lip.tickets.transfer import mask_onto, ticketed, ticketed_for, values_onto

__all__ = [
    "CRITERIA",
    "DEFAULT_ROLES",
    "About",
    "Density",
    "Evidence",
    "Mask",
    "Ticket",
    "Timing",
    "bundled_tickets",
    "channel_mask",
    "compact",
    "dense_channels",
    "densities",
    "load_ticket",
    "mask_onto",
    "read_ticket",
    "score",
    "select",
    "synflow_mask",
    "ticketed",
    "ticketed_for",
    "time_prior",
    "values_onto",
    "write_ticket",
]
