"""Files: whole or not at all, no pickle."""

from .atomic import read_json, whole, write_bytes, write_json, write_text
from .maps import StoredMaps, load_maps, save_maps
from .masks import load_mask, only_value, save_mask
from .run import STEPS, RunFolder, digest

__all__ = [
    "STEPS",
    "RunFolder",
    "StoredMaps",
    "digest",
    "load_maps",
    "load_mask",
    "only_value",
    "read_json",
    "save_maps",
    "save_mask",
    "whole",
    "write_bytes",
    "write_json",
    "write_text",
]
