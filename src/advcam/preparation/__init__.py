"""Before a run: a data set looked at, or brought into our own form."""

from .check import CheckConfig, check
from .convert import convert

__all__ = ["CheckConfig", "check", "convert"]
