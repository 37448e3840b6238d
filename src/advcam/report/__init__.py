"""One self-contained page read from a run folder; nothing is computed again."""

from .card import write_card
from .page import write_report
from .pictures import grid, heat

__all__ = ["grid", "heat", "write_card", "write_report"]
