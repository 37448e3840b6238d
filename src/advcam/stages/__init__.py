"""The steps: each has a frozen config and a ``run``; they exchange files and do not import each other."""
