"""The images that the page shows: those of a run, those of a folder, and those that were dropped on the page."""

from __future__ import annotations

import hashlib
import io
import re
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from advcam.data import Item, Reading, fit_within, read_image
from advcam.data.places import Place
from advcam.errors import ImageError, InputError
from advcam.limits import MAX_IMAGE_BYTES
from advcam.store import write_bytes

DROPPED = "dropped:"
"""Prefix of the names of images that were dropped on the page."""
KEPT = 8
"""Images that were dropped are forgotten from the ninth on."""
SHOWN_SIDE = 4096
"""Larger images are sent to the page in this size, pixels; masks always have the image's own."""
MAX_DROPPED_BYTES = min(MAX_IMAGE_BYTES, 2**27)


@dataclass
class Pictures:
    """Images by name.

    Args:
        files: the path of each image of a run or folder.
        items: the images of a run, which are checked not to have changed.
        reading: how the values of files become 8-bit RGB.
        scratch: folder of the images that were dropped; removed with the server.
    """

    files: Mapping[str, Place]
    items: Mapping[str, Item]
    reading: Reading
    scratch: Path
    dropped: OrderedDict[str, Place] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def path(self, name: str) -> Place:
        """Returns the file of an image.

        Raises:
            InputError: there is no such image.
        """
        with self._lock:
            path = self.dropped.get(name) or self.files.get(name)
        if path is None:
            again = "; drop it again" if name.startswith(DROPPED) else ""
            raise InputError(f"there is no image {name!r:.80} here{again}")
        return path

    def read(self, name: str) -> Image.Image:
        """Returns an image as 8-bit RGB.

        Raises:
            InputError: there is no such image.
            ImageError: it is gone, damaged, or has changed since the run looked at it.
        """
        path = self.path(name)
        return self.items[name].read() if name in self.items else read_image(path, None, self.reading)

    def shown(self, name: str) -> bytes:
        """Returns an image as a JPEG for the page, which scales it to the size that it knows.

        Raises:
            InputError, ImageError: as for :meth:`read`.
        """
        stream = io.BytesIO()
        fit_within(self.read(name), SHOWN_SIDE).save(stream, "JPEG", quality=92)
        return stream.getvalue()

    def drop(self, file: str, data: bytes) -> str:
        """Takes an image that was dropped on the page; returns the name by which it goes from now on.

        Raises:
            ImageError: it is no image that can be read.
            StoreError: the disk is full.
        """
        made = hashlib.blake2b(data, digest_size=8).hexdigest()
        suffix = Path(file).suffix
        path = self.scratch / f"{made}{suffix if re.fullmatch(r'[.][A-Za-z0-9]{1,8}', suffix) else ''}"
        write_bytes(path, data)
        try:
            read_image(path, None, self.reading)
        except ImageError as error:
            path.unlink(missing_ok=True)
            raise ImageError(str(error).replace(str(path), Path(file).name[:80])) from None
        name = f"{DROPPED}{made}:{Path(file).name[:80]}"
        with self._lock:
            self.dropped[name] = path
            while len(self.dropped) > KEPT:
                oldest = self.dropped.popitem(last=False)[1]
                if oldest not in self.dropped.values():
                    Path(str(oldest)).unlink(missing_ok=True)
        return name
