"""The command line, ``advcam VERB``. Each verb calls one function of a lower layer."""

from .main import main

__all__ = ["main"]
