"""How good the maps are on every data set with every network, in one table: ``make bench-quality``."""
