"""One self-contained page read from a run folder; nothing is computed again."""

from .card import write_card
from .images import grid, heat
from .page import write_report

__all__ = ["grid", "heat", "write_card", "write_report"]
