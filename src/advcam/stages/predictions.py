"""Predictions of the network that a step trained."""

from __future__ import annotations

from advcam.data import Skip
from advcam.errors import ImageError
from advcam.segmenter import Segmenter
from advcam.store import save_mask

from .context import Context, list_skips


def predict(context: Context, step: str, precision: str) -> list[Skip]:
    """Writes predictions/ID.png of the images for scoring, or of all if there are none; each process writes its share.

    Returns:
        Images that did not fit into memory, also listed in skipped.csv in the step's folder.
    """
    segmenter = Segmenter.load(context.run.folder(step), context.runtime.torch_device(), precision)
    everything = list(context.data.eval or context.data.items)
    wanted = context.runtime.share(everything)
    left = [item for item in wanted if not context.run.prediction(item.id, step).is_file()]
    with context.reporter.bar("predict", len(wanted), done=len(wanted) - len(left)) as advance:
        for item in left:
            image = item.read()
            try:
                ids = segmenter(image)
            except ImageError as error:
                context.reporter.warn(f"{item.path}: {error}, with `advcam predict --model {context.run.folder(step)}`")
            else:
                save_mask(context.run.prediction(item.id, step), ids)
            advance(1)
    context.runtime.wait()
    without = [item.id for item in everything if not context.run.prediction(item.id, step).is_file()]
    skips = [Skip(name, "not enough memory; advcam predict --window 512 predicts it in windows") for name in without]
    if context.runtime.first:
        list_skips(context.run.folder(step) / "skipped.csv", skips)
    return skips
