"""A trained segmentation network -> masks of any pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from advcam.data import Normalisation, fit_within
from advcam.errors import RunError
from advcam.models.classifiers import Backbone
from advcam.models.encoders import STRIDE
from advcam.models.segmentation import segmentation_network
from advcam.models.weights import fill, load_state
from advcam.refinement import label
from advcam.store import read_json


@dataclass(frozen=True)
class Segmenter:
    """A segmentation network with what it needs to be used.

    Args:
        network: returns scores [N, L, H, W], background first.
        ids: [L] the id that masks use for each output.
        normalise: of its input.
        long_side: larger pictures are scaled down to it.
        scales: factors whose probabilities are averaged.
        mirror: average with the mirror image too.
    """

    network: nn.Module
    ids: np.ndarray[Any, Any]
    normalise: Normalisation
    long_side: int
    scales: tuple[float, ...] = (1.0,)
    mirror: bool = True

    @classmethod
    def load(cls, folder: Path, device: torch.device) -> Segmenter:
        """The network of a run's segment step.

        Raises:
            RunError: the folder holds none.
        """
        if not (folder / "model.json").is_file() or not (folder / "model.safetensors").is_file():
            raise RunError(
                f"{folder}: expected model.json and model.safetensors of a trained network; `--model RUN/4-segment` has them"
            )
        record = read_json(folder / "model.json")
        backbone = Backbone.from_record(record["backbone"])
        ids = np.array([0, *(c["id"] for c in record["classes"])], dtype=np.uint8)
        network = segmentation_network(record["network"], backbone, len(ids))
        path = folder / "model.safetensors"
        fill(network, load_state(path), str(path))
        normalise = Normalisation(*backbone.normalisation())
        network.eval().to(device)
        return cls(network, ids, normalise, record["long_side"], tuple(record["predict_scales"]), record["predict_mirror"])

    def __call__(self, picture: Image.Image) -> np.ndarray[Any, Any]:
        """Class ids uint8 [H, W] of a picture."""
        device = next(self.network.parameters()).device
        small = fit_within(picture, self.long_side)
        image = self.normalise(small)[None].to(device)
        with torch.no_grad():
            probability = torch.stack(
                [
                    self._probability(view, (small.height, small.width))
                    for scale in self.scales
                    for view in self._views(image, scale)
                ]
            )
            strongest = label(probability.mean(0), self.ids.tolist(), -1.0, (picture.height, picture.width))
        ids: np.ndarray[Any, Any] = strongest.cpu().numpy()
        return ids

    def _views(self, image: Tensor, scale: float) -> list[tuple[Tensor, bool]]:
        if scale != 1:
            size = [max(1, round(side * scale)) for side in image.shape[2:]]
            image = F.interpolate(image, size=size, mode="bilinear", align_corners=False)
        return [(image, False), (image.flip(-1), True)] if self.mirror else [(image, False)]

    def _probability(self, view: tuple[Tensor, bool], size: tuple[int, int]) -> Tensor:
        """[L, H, W] of one view, padded to whole strides for the network and cut again."""
        image, mirrored = view
        height, width = image.shape[2:]
        padded = F.pad(image, (0, -width % STRIDE, 0, -height % STRIDE)).contiguous(memory_format=torch.channels_last)
        scores = self.network(padded)[:, :, :height, :width].float()
        scores = scores.flip(-1) if mirrored else scores
        return F.interpolate(scores, size=size, mode="bilinear", align_corners=False).softmax(1)[0]
