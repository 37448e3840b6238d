"""Views for training with few masks: pairs of an image with a mask and one without."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import Dataset

from .transforms import Normalisation, TrainingViews

UNKNOWN = 254
"""Unknown pixels in masks of the other images; 255 is padding outside the image."""


class SemiViews(Dataset[Any]):
    """Pairs of views: one of an image with a mask, and weakly and strongly augmented views of another image.

    The strong views are the weak one with brightness, contrast, saturation (0.5 each) and hue (0.25) shifted with probability
    0.8, grey with 0.2, blurred (sigma 0.1 to 2) with 0.5. Where there are not three channels, there is no saturation, no hue
    and no grey, and each channel's contrast is about its own mean.

    Source: Yang et al., CVPR 2023 (arXiv 2208.09910); LiheYoung/UniMatch, ``dataset/semi.py``.

    Args:
        labelled: views of the images with masks, one for each pair.
        others: views of the other images, at least as many. None returns ``labelled`` only.
        normalise: of the network.
        strong: number of strong views.
    """

    def __init__(self, labelled: TrainingViews, others: TrainingViews | None, normalise: Normalisation, strong: int) -> None:
        self.labelled, self.others, self.normalise, self.strong = labelled, others, normalise, strong
        self.seed, self.epoch = labelled.seed, 0

    @property
    def aside(self) -> bool:
        """Strong views draw from torch's own generator, the only one that torchvision takes."""
        return self.others is None or not self.strong

    def __len__(self) -> int:
        return len(self.labelled)

    def __getitem__(self, at: int) -> tuple[dict[str, Tensor], Tensor]:
        """Inputs by name, targets among them, and the position."""
        self.labelled.epoch = self.epoch
        image, mask = self.labelled[at]
        inputs = {"image": image, "mask": mask}
        if self.others is not None:
            self.others.epoch = self.epoch
            weak, known = self.others[at]
            shown = torch.zeros(self.others.classes)
            item = self.others.items[at]
            shown[[0, *(label + 1 for label in (*item.labels, *item.unknown))]] = 1
            inputs |= {"weak": weak, "known": known, "shown": shown}
            with torch.random.fork_rng([]):
                torch.default_generator.manual_seed(((self.seed * 100_003 + self.epoch) * 1_000_003 + at) % 2**63)
                inputs |= {f"strong{n}": self._strong(weak) for n in range(1, self.strong + 1)}
        return inputs, torch.tensor(at)

    def _strong(self, view: Float[Tensor, "n c c"]) -> Float[Tensor, "n c c"]:
        from torchvision.transforms import v2

        change = v2.Compose(
            [
                v2.RandomApply([v2.ColorJitter(0.5, 0.5, 0.5, 0.25)], 0.8),
                v2.RandomGrayscale(0.2),
                v2.RandomApply([v2.GaussianBlur(9, (0.1, 2.0))], 0.5),
            ]
        )
        mean, std = (torch.tensor(v)[:, None, None] for v in (self.normalise.mean, self.normalise.std))
        pixels = (view * std + mean).clamp(0, 1)
        changed = change(pixels) if len(pixels) == 3 else change(pixels[:, None])[:, 0]
        return (changed - mean) / std
