"""Compressive sensing with learned image priors."""

from importlib.metadata import version

__version__ = version("cs-lip")
