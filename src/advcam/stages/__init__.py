"""The steps: each a frozen config and a ``run``; they meet on disk and do not know each other."""
