"""Map files: ``.npz`` without pickle."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from advcam.errors import StoreError

from .atomic import whole


@dataclass(frozen=True)
class StoredMaps:
    """The maps of one image.

    Args:
        classes: the class ids that masks use, one a map.
        maps: [k, h, w] at stride 4, each with maximum 1 (or all zeros).
        size: (H, W) of the image.
    """

    classes: tuple[int, ...]
    maps: Float[Tensor, "k h w"]
    size: tuple[int, int]


def save_maps(path: Path, stored: StoredMaps) -> None:
    """Writes ``classes`` int16 [k], ``maps`` float16 [k, h, w], ``size`` int32 [2], compressed, whole or not at all."""
    with whole(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            classes=np.array(stored.classes, dtype=np.int16),
            maps=stored.maps.cpu().numpy().astype(np.float16),
            size=np.array(stored.size, dtype=np.int32),
        )


def load_maps(path: Path) -> StoredMaps:
    """Reads a map file; the maps become float32.

    Raises:
        StoreError: missing, or not such a file.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            height, width = file["size"].tolist()
            return StoredMaps(tuple(file["classes"].tolist()), torch.from_numpy(file["maps"]).float(), (height, width))
    except FileNotFoundError:
        raise StoreError(f"{path}: there is no such map file; `advcam climb` makes it") from None
    except Exception as error:  # a damaged zip raises anything from KeyError to zlib.error
        raise StoreError(f"{path}: not a map file ({type(error).__name__}: {error}); delete it and climb again") from error
