"""Predicts masks of any images with a trained segmentation network."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from advcam.data import ClassTable, Normalisation, Windows, fit_within
from advcam.errors import ImageError, NetworkError, RunError, SettingsError, StoreError, out_of_memory
from advcam.models.classifiers import Backbone
from advcam.models.encoders import STRIDE
from advcam.models.segmentation import segmentation_network
from advcam.models.weights import load_state, load_weights
from advcam.refinement import argmax_mask, dense_crf, unary_from_probabilities
from advcam.runtime import resolve_precision
from advcam.store import read_json
from advcam.store.records import NetworkRecord

MERGES = ("mean", "max")
MOST_LOGITS = 2**26
"""Most logits of an image in windows that are kept at once; of larger ones, blocks of pixels share theirs."""
LEAST = 32
"""Smallest window and smallest long side, pixels."""


def check_views(scales: tuple[float, ...], merge: str, long_side: int, window: int | None = None) -> None:
    """Checks the settings of prediction, before a network is trained.

    Raises:
        SettingsError: a setting is out of range.
    """
    if not scales or not all(0.1 <= scale <= 10 for scale in scales):
        raise SettingsError(f"scales are factors from 0.1 to 10, e.g. 0.75,1,1.25; got {scales}")
    if merge not in MERGES:
        raise SettingsError(f"merge is one of {', '.join(MERGES)}; got {merge!r}")
    if long_side < LEAST or (window is not None and window < LEAST):
        raise SettingsError(f"long side and window must be at least {LEAST} pixels; got {long_side} and {window}")


@dataclass(frozen=True)
class Segmenter:
    """A segmentation network and its settings for prediction.

    Args:
        network: returns logits [N, L, H, W], background first.
        ids: [L] the class id of each output in masks.
        normalise: normalisation of its input.
        long_side: larger images are scaled down to it; ignored with a window.
        scales: scales of the image whose probabilities are merged.
        mirror: merge the mirror image too.
        merge: how the views' probabilities are merged, ``mean`` or ``max`` (DeepLab's rule, divided by the sum over labels).
        window: side in pixels of sliding windows on the full-size image, which overlap by half; logits are averaged where
            they overlap. None passes the whole image at once.
        crf: refine the prediction by a dense CRF with DeepLab's settings on VOC.
        precision: of the network, ``float32`` or ``bfloat16``; ``auto`` is bfloat16 if the device supports it in hardware.
            Probabilities are float32.

    Raises:
        SettingsError: a setting is out of range.
    """

    network: nn.Module
    ids: np.ndarray[Any, Any]
    normalise: Normalisation
    long_side: int
    scales: tuple[float, ...] = (1.0,)
    mirror: bool = True
    merge: str = "mean"
    window: int | None = None
    crf: bool = False
    precision: str = "auto"

    def __post_init__(self) -> None:
        check_views(self.scales, self.merge, self.long_side, self.window)
        object.__setattr__(self, "precision", resolve_precision(self.precision, self._device))

    @classmethod
    def load(cls, folder: Path, device: torch.device, precision: str = "auto") -> Segmenter:
        """Loads the network of a run's step, with the settings in its record.

        Raises:
            RunError: the folder holds no network, or a damaged record.
            NetworkError: the weights do not fit the network in the record.
        """
        record, path = read_record(folder), folder / "model.safetensors"
        network = build_network(record)
        try:
            load_weights(network, load_state(path), str(path))
        except NetworkError as error:
            raise NetworkError(f"{error}. It and model.json belong together: copy both from one run") from None
        return cls(
            network.eval().to(device),
            np.array([0, *ClassTable.from_record(record.classes).ids], dtype=np.uint8),
            Normalisation(*Backbone.from_record(record.backbone).normalisation()),
            record.long_side,
            record.predict_scales,
            record.predict_mirror,
            record.predict_merge,
            crf=record.predict_crf,
            precision=precision,
        )

    def __call__(self, image: Image.Image, shown: Sequence[int] | None = None) -> np.ndarray[Any, Any]:
        """Returns the class ids uint8 [H, W] of an image: at each pixel the class with the highest probability.

        Args:
            image: of any size.
            shown: positions of the classes that the image is known to show, 0 the first; others are left out. None: not known.

        Raises:
            ImageError: not enough memory for the image.
        """
        with _memory_for(image):
            merged = self._merged(image, shown)
            return self.mask(self._refined(image, merged) if self.crf else merged, (image.height, image.width))

    def probabilities(self, image: Image.Image, shown: Sequence[int] | None = None) -> Float[Tensor, "l y x"]:
        """Returns the probabilities float32 [L, H, W] of an image, which sum to 1 over labels, on the network's device.

        ``shown`` is as in a call.

        Raises:
            ImageError: not enough memory for the image.
        """
        with _memory_for(image):
            merged = self._merged(image, shown)
            return self._refined(image, merged) if self.crf else _enlarged(merged, image)

    def mask(self, probabilities: Float[Tensor, "l y x"], size: tuple[int, int] | None = None) -> np.ndarray[Any, Any]:
        """Returns the class ids uint8 [H, W] of the highest probabilities [L, h, w], enlarged to ``size`` if given."""
        ids: np.ndarray[Any, Any] = argmax_mask(probabilities, self.ids.tolist(), -1.0, size).cpu().numpy()
        return ids

    @torch.no_grad()
    def _merged(self, image: Image.Image, known: Sequence[int] | None = None) -> Float[Tensor, "l h w"]:
        """Returns the merged probabilities of all views, at the size of the network's input, of the known classes alone."""
        views = list(self._in_windows(image, self.window) if self.window else self._at_once(image))
        if self.merge != "max" and known is None:
            return torch.stack(views).mean(0)
        merged = torch.stack(views).amax(0) if self.merge == "max" else torch.stack(views).mean(0)
        if known is not None:
            kept = merged.new_zeros(len(merged), 1, 1)
            kept[[0, *(position + 1 for position in known)]] = 1
            merged = (merged * kept).clamp_min(torch.finfo(merged.dtype).tiny) * kept
        return merged / merged.sum(0)

    def _refined(self, image: Image.Image, probability: Float[Tensor, "l h w"]) -> Float[Tensor, "l y x"]:
        """Returns the marginals of the dense CRF, with the published settings of DeepLab on VOC."""
        pixels = torch.from_numpy(np.array(image)).to(probability.device).permute(2, 0, 1)
        unary = unary_from_probabilities(_enlarged(probability, image)[None])
        return dense_crf(pixels[None], unary, 10, gaussian=(1.0, 3.0), bilateral=(67.0, 3.0, 4.0))[0]

    def _at_once(self, image: Image.Image) -> Iterator[Float[Tensor, "l h w"]]:
        """Yields the probabilities of each view, scaled down to the long side; small images are padded, see _whole."""
        shown = fit_within(image, self.long_side)
        pixels, size = self.normalise(shown)[None].to(self._device), (shown.height, shown.width)
        for scale in self.scales:
            view = pixels
            if scale != 1:
                scaled = [max(1, round(side * scale)) for side in size]
                view = F.interpolate(pixels, size=scaled, mode="bilinear", align_corners=False)
            for mirrored in self._mirrored:
                yield _probability(self._whole(view, mirrored), size)

    def _in_windows(self, image: Image.Image, window: int) -> Iterator[Float[Tensor, "l h w"]]:
        """Yields the probabilities of each view at full size; logits are averaged over windows, and over blocks of pixels."""
        source = Windows(image, self.normalise, self._device)
        size = tuple(-(-side // self._block(source.size)) for side in source.size)
        for scale in self.scales:
            height, width = (max(1, round(side * scale)) for side in source.size)
            block = self._block((height, width))
            for mirrored in self._mirrored:
                total = torch.zeros(1, len(self.ids), -(-height // block), -(-width // block), device=self._device)
                seen = total.new_zeros(total.shape[2:])
                for top in _starts(height, window, block):
                    for left in _starts(width, window, block):
                        rows, columns = slice(top, min(top + window, height)), slice(left, min(left + window, width))
                        scores = self._whole(source.window((height, width), rows, columns)[None], mirrored)
                        scores = F.avg_pool2d(scores, block, ceil_mode=True) if block > 1 else scores
                        y, x = top // block, left // block
                        at = (..., slice(y, y + scores.shape[2]), slice(x, x + scores.shape[3]))
                        total[at] += scores
                        seen[at] += 1
                yield _probability(total.div_(seen), size)

    def _block(self, size: tuple[int, int]) -> int:
        """The side of the blocks of pixels that share their logits, so that those of all labels fit memory; mostly 1."""
        return math.ceil(math.sqrt(len(self.ids) * size[0] * size[1] / MOST_LOGITS))

    @property
    def _mirrored(self) -> tuple[bool, ...]:
        return (False, True) if self.mirror else (False,)

    def _whole(self, image: Float[Tensor, "1 b y x"], mirrored: bool) -> Float[Tensor, "1 l y x"]:
        """Returns the logits of an image, or of its mirror image, turned back; it is padded to a multiple of the stride."""
        height, width = image.shape[2:]
        image = image.flip(-1) if mirrored else image
        padded = F.pad(image, (0, -width % STRIDE, 0, -height % STRIDE)).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            scores: Tensor = self.network(padded)[:, :, :height, :width]
        return scores.float().flip(-1) if mirrored else scores.float()

    @property
    def _device(self) -> torch.device:
        return next(self.network.parameters()).device


def read_record(folder: Path) -> NetworkRecord:
    """Reads and checks the model.json of a trained segmentation network.

    Raises:
        RunError: the folder holds no such network, or its record is invalid.
    """
    path = folder / "model.json"
    if not path.is_file() or not (folder / "model.safetensors").is_file():
        raise RunError(
            f"{folder}: expected model.json and model.safetensors of a trained network; `--model RUN/4-segment` has them"
        )
    remedy = "copy the folder from its run again, or train again: advcam segment (or semi) --run RUN --redo"
    try:
        record = read_json(path, NetworkRecord, remedy, "does not describe a trained network")
    except StoreError as error:
        raise RunError(str(error)) from None
    ids = [one["id"] for one in record.classes]
    try:
        if len({*ids}) < len(ids):
            raise SettingsError(f"class ids must be distinct, got {ids}")
        check_views(record.predict_scales, record.predict_merge, record.long_side)
        Backbone.from_record(record.backbone)
    except SettingsError as error:
        raise RunError(f"{path}: does not describe a trained network ({error}); {remedy}") from None
    return record


def build_network(record: NetworkRecord) -> nn.Module:
    """Builds the network that a record describes, without its weights: images [N, C, H, W] to logits [N, L, H, W].

    Raises:
        SettingsError: unknown network, or a backbone that it does not support.
    """
    backbone, outputs = Backbone.from_record(record.backbone), 1 + len(record.classes)
    if record.network == "cct":
        from advcam.models.cct import CCT

        return CCT(backbone, outputs, record.output_stride or 8, auxiliary={})
    return segmentation_network(record.network, backbone, outputs, record.output_stride)


@contextmanager
def _memory_for(image: Image.Image) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise ImageError(
            f"not enough memory for an image of {image.width}x{image.height}; give --window 512 (predicts window by"
            " window), smaller --scales or --long-side, or --no-crf"
        ) from error


def _enlarged(probability: Float[Tensor, "l h w"], image: Image.Image) -> Float[Tensor, "l y x"]:
    size = (image.height, image.width)
    if tuple(probability.shape[1:]) == size:
        return probability
    return F.interpolate(probability[None], size=size, mode="bilinear", align_corners=False)[0]


def _probability(scores: Float[Tensor, "1 l y x"], size: tuple[int, ...]) -> Float[Tensor, "l h w"]:
    return F.interpolate(scores, size=size, mode="bilinear", align_corners=False).softmax(1)[0]


def _starts(side: int, window: int, block: int = 1) -> list[int]:
    """Returns the offsets of windows that cover a side, multiples of ``block``; neighbours overlap by about half."""
    rest = max(0, side - window)
    steps = -(-rest // (window // 2))
    starts = [at * rest // steps // block * block for at in range(steps)] if steps else []
    return [*starts, -(-rest // block) * block]
