"""The door: ``advcam VERB``. Each verb is one call below."""

from .main import main

__all__ = ["main"]
