"""What notebooks show: maps, sweeps, and a run folder with its numbers, maps and masks as arrays."""

from . import drawings as drawings  # registers how results are drawn
