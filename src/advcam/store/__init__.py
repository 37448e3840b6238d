"""Files of a run: written atomically, without pickle, and checked when they are read."""

from .alone import alone, at_work
from .atomic import (
    atomic_write,
    csv_text,
    json_of,
    json_text,
    read_json,
    remove,
    sweep,
    write_bytes,
    write_csv,
    write_json,
    write_text,
)
from .maps import StoredMaps, load_maps, read_arrays, save_maps
from .masks import (
    Colours,
    lacks,
    load_mask,
    load_scores,
    made_of,
    mask_bytes,
    mask_file,
    only_value,
    save_confidence,
    save_mask,
)
from .run import RESTORE, RunFolder, digest

__all__ = [
    "RESTORE",
    "Colours",
    "RunFolder",
    "StoredMaps",
    "alone",
    "at_work",
    "atomic_write",
    "csv_text",
    "digest",
    "json_of",
    "json_text",
    "lacks",
    "load_maps",
    "load_mask",
    "load_scores",
    "made_of",
    "mask_bytes",
    "mask_file",
    "only_value",
    "read_arrays",
    "read_json",
    "remove",
    "save_confidence",
    "save_maps",
    "save_mask",
    "sweep",
    "write_bytes",
    "write_csv",
    "write_json",
    "write_text",
]
