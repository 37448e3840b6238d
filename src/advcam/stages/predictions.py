"""Predictions of the network that a step trained."""

from __future__ import annotations

from collections.abc import Iterator

from advcam.data import Skip
from advcam.engines import Row, Unit, Work, reading
from advcam.errors import ImageError
from advcam.segmenter import Segmenter
from advcam.store import save_mask

from .context import Context
from .sharing import listed_left_out, share_out


def predict(context: Context, step: str, precision: str) -> list[Skip]:
    """Writes predictions/ID.png of the images for scoring, or of all if there are none, shared out by the run's engine.

    Returns:
        Images that did not fit into memory, or ended the processes that predicted them, also listed in skipped.csv in the
        step's folder.

    Raises:
        RunError: images could not be read; they are listed in failed.csv, the others are predicted.
    """
    everything = list(context.data.eval or context.data.items)
    left = [Unit.single(item.id) for item in everything if not context.run.prediction(item.id, step).is_file()]
    found = share_out(context, step, "predict", len(everything), left, saving, (step, precision))
    return listed_left_out(context, step, found)


def saving(context: Context, config: tuple[str, str]) -> Work:
    """Returns what predicts an image by the network of a step, in a precision, and writes its file."""
    step, precision = config
    segmenter = Segmenter.load(context.run.folder(step), context.runtime.torch_device(), precision)
    items = {item.id: item for item in context.data.items}

    def save(unit: Unit) -> Iterator[Row]:
        for name in unit.wanted:
            with reading():
                image = items[name].read()
            try:
                ids = segmenter(image)
            except ImageError as error:
                said = f"{items[name].path}: {error}, with `advcam predict --model {context.run.folder(step)}`"
                yield Row(name, left_out=said)
            else:
                save_mask(context.run.prediction(name, step), ids)
                yield Row(name)

    return save
