"""The page and the model cards, made from the files of a run folder; only the steps of a climb are computed again, if asked."""

from .card import write_card
from .config import ReportConfig
from .growth import grow
from .images import coloured, grid, heat
from .page import chosen_to_grow, write_report

__all__ = ["ReportConfig", "chosen_to_grow", "coloured", "grid", "grow", "heat", "write_card", "write_report"]
