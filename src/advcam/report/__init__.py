"""The page and the model cards, made from the files of a run folder; nothing is computed again."""

from .card import write_card
from .images import grid, heat
from .page import write_report

__all__ = ["grid", "heat", "write_card", "write_report"]
