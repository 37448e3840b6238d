"""GeoTIFF: masks that lie on a map where their images lie, for QGIS and other GIS programs."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from advcam.data import Drawn
from advcam.data.images import bytes_of
from advcam.errors import ImageError, SettingsError
from advcam.limits import IGNORE, MAX_IMAGE_BYTES
from advcam.store import write_bytes
from advcam.store.masks import voc_palette

from .files import Folder, Held, held
from .masks import Add, Found, Ids, Losses, Masked, Names, Size, Wishes

PLACED = ("GTiff", "JP2OpenJPEG", "PNG", "JPEG")
"""GDAL's names of the images that can say where they lie, themselves or in a world file beside them."""
SUFFIXES = (".tif", ".tiff")
NAMES = "ADVCAM_CLASSES"
"""The metadata of a mask that holds the name of each id."""


@contextmanager
def write(out: Path, wishes: Wishes, losses: Losses) -> Iterator[Add]:
    """Writes ``ID.tif`` of ids with the transform and CRS of the image, VOC's colours and 255 as nodata.

    Where the image has no data, the mask has 255. An image without a place gives a mask without one, which is counted.

    Raises:
        SettingsError: rasterio is not installed.
    """
    rasterio, folder = _library("--to geotiff"), Folder(out, "--to geotiff")
    named = json.dumps(Names(wishes.names.classes).written() | {IGNORE: wishes.names.label}, ensure_ascii=False)

    def add(masked: Masked) -> None:
        place, missing = _place(rasterio, masked)
        losses.unplaced += not place
        ids = masked.ids if missing is None else np.where(missing, IGNORE, masked.ids).astype(np.uint8)
        write_bytes(folder.place(f"{masked.id}.tif"), _packed(rasterio, ids, place, named))

    with folder:
        yield add


def _place(rasterio: Any, masked: Masked) -> tuple[dict[str, Any], Ids | None]:
    """Where an image lies, as arguments for a new file, and where it has no data, None if it has data throughout.

    Raises:
        ImageError: an image that is stored turned, so that its transform is not that of its mask.
    """
    with _quiet(), _opened(rasterio, masked.path) as image:
        if image is None:  # not of a kind that lies anywhere
            return {}, None
        points, of_points = image.gcps
        found: dict[str, Any] = {"gcps": points, "crs": of_points} if points else {}
        if image.crs or not image.transform.is_identity:
            found = {"crs": image.crs, "transform": image.transform}
        if image.rpcs:
            found["rpcs"] = image.rpcs
        if not found:
            return {}, None
        if (image.height, image.width) != masked.ids.shape or _turned(masked.path):
            raise ImageError(f"{masked.path}: is stored turned (EXIF orientation), and its transform is not; save it upright")
        try:
            return found, _missing(image)
        except rasterio.errors.RasterioError as error:
            raise ImageError(f"{masked.path}: cannot be read by GDAL ({error}); copy it again") from None


@contextmanager
def _opened(rasterio: Any, path: Any) -> Iterator[Any]:
    """An image, opened by GDAL as one of the kinds in :data:`PLACED`; None if it is none of these."""
    with contextlib.ExitStack() as opened:
        source: Any = path if isinstance(path, Path) else opened.enter_context(rasterio.MemoryFile(bytes_of(path)))
        image = None
        for driver in PLACED:
            with contextlib.suppress(rasterio.errors.RasterioError):
                image = rasterio.open(source, driver=driver) if source is path else source.open(driver=driver)
                break
        yield image if image is None else opened.enter_context(image)


def _missing(image: Any) -> Ids | None:
    """Where every band holds the value for no data; alpha is not looked at, as many programs call a fourth band alpha."""
    told = [nodata for nodata in image.nodatavals if nodata is not None]
    if len(told) < image.count:
        return None
    missing = np.ones((image.height, image.width), dtype=bool)
    for band, nodata in enumerate(told, 1):
        values = image.read(band)
        missing &= np.isnan(values) if np.isnan(nodata) else values == nodata
    return missing if missing.any() else None


def _turned(path: Any) -> bool:
    try:
        with Image.open(io.BytesIO(bytes_of(path))) as image:
            return int(image.getexif().get(274, 1)) != 1
    except Exception:  # Pillow may raise anything, also on what GDAL reads
        return False


def _packed(rasterio: Any, ids: Ids, place: dict[str, Any], named: str) -> bytes:
    """A GeoTIFF in memory: nothing is written beside it."""
    height, width = ids.shape
    rpcs = place.pop("rpcs", None)
    with _quiet(), rasterio.MemoryFile() as memory:
        with memory.open(
            driver="GTiff", height=height, width=width, count=1, dtype="uint8", nodata=IGNORE, compress="deflate",
            photometric="palette", bigtiff="if_safer", **place,
        ) as file:  # fmt: skip
            file.write(ids, 1)
            colours = np.array(voc_palette()).reshape(256, 3).tolist()
            file.write_colormap(1, {number: (*colour, 255) for number, colour in enumerate(colours)})
            file.update_tags(**{NAMES: named})
            if rpcs:
                file.rpcs = rpcs
        return bytes(memory.getbuffer())


def read(source: Path, names: Names) -> Iterator[Found]:
    """Reads a folder or zip archive of ``ID.tif`` with one band of ids.

    The file's own names of its ids count, where :func:`write` has written them. 0 is background; another value that stands for
    no data is not known.

    Raises:
        SettingsError: rasterio is not installed.
        DataError: no such folder or archive.
    """
    rasterio = _library("--from geotiff")
    with held(source) as files:
        for name in sorted(files.names):
            if name.lower().endswith(SUFFIXES):
                yield Found((name.rpartition(".")[0],), _drawer(rasterio, files, name, names))


def _drawer(rasterio: Any, files: Held, name: str, names: Names) -> Callable[[Size], Drawn]:
    def draw(size: Size) -> Drawn:
        where = files.where(name)
        try:
            with (
                _quiet(),
                rasterio.MemoryFile(files.take(name, MAX_IMAGE_BYTES)) as memory,
                memory.open(driver="GTiff") as file,
            ):
                if (file.count, file.height, file.width) != (1, *size):
                    raise ImageError(
                        f"{where}: has {file.count} bands of {file.width}x{file.height}, expected one of its image's"
                        f" {size[1]}x{size[0]}"
                    )
                values, nodata, told = file.read(1), file.nodata, _named(file.tags().get(NAMES))
        except ImageError:
            raise
        except Exception as error:  # GDAL may raise anything on a damaged file
            raise ImageError(f"{where}: cannot be read as a GeoTIFF ({error}); export it again") from None
        return Drawn(_ids(values, nodata, told, names, where), ())

    return draw


def _named(text: str | None) -> dict[int, str]:
    try:
        return {int(number): str(name) for number, name in json.loads(text or "{}").items()}
    except (ValueError, AttributeError, RecursionError):
        return {}


def _ids(values: np.ndarray[Any, Any], nodata: float | None, told: dict[int, str], names: Names, where: str) -> Ids:
    found, inverse = np.unique(values, return_inverse=True)
    ids = list[int]()
    for value in found.tolist():
        if value in (0, IGNORE):
            ids.append(value)
        elif value == nodata or value != value:
            ids.append(IGNORE)
        elif value in told:
            ids.append(names.id_of(told[value], where))
        elif value in names.classes.ids:
            ids.append(int(value))
        else:
            raise ImageError(f"{where}: holds {value:g}, which is the id of no class")
    return np.array(ids, dtype=np.uint8)[inverse].reshape(values.shape)


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of files without a place
        yield


def _library(what: str) -> Any:
    try:
        return importlib.import_module("rasterio")
    except ModuleNotFoundError:
        raise SettingsError(f"{what} needs rasterio: pip install 'advcam[geo]'") from None
