"""Commands that need no run folder: each has a frozen config and a ``run`` from (config, session) to an outcome."""

from .session import Outcome, Session
from .table import COMMANDS, GROUPS, Command

__all__ = ["COMMANDS", "GROUPS", "Command", "Outcome", "Session"]
