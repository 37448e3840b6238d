"""One self-contained page read from a run folder; nothing is computed again."""

from .page import write_report

__all__ = ["write_report"]
