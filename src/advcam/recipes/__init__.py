"""Settings under a name, one TOML file each; ``--recipe NAME`` takes them, flags change them."""
