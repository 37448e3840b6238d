"""The objective of the semi step: the loss of CCT or UniMatch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advcam.consistency import (
    CctLoss,
    UniMatchLoss,
    confident_cross_entropy,
    consistency_loss,
    cross_entropy,
    cutmix,
    cutmix_boxes,
    pseudo_labels,
    ramp_up,
    weak_loss,
)
from advcam.data import IGNORE, UNKNOWN

if TYPE_CHECKING:
    from .semi import SemiConfig


@dataclass(frozen=True)
class SemiObjective:
    """The method's loss on a batch of pairs; see :class:`advcam.consistency.CctLoss` and ``UniMatchLoss``."""

    config: SemiConfig

    def forward(self, model: nn.Module, inputs: dict[str, Tensor], share: float) -> Tensor:
        """Returns the loss of a micro-batch, a mean over its images."""
        ramp = ramp_up(share, self.config.ramp)
        of: Callable[[nn.Module, dict[str, Tensor], float], Tensor] = (
            self._cct if self.config.method == "cct" else self._unimatch
        )
        return of(model, inputs, ramp)

    def counts(self, output: Tensor, targets: Tensor) -> Tensor:
        """Returns the number of pairs."""
        return torch.tensor([float(len(targets))])

    def __call__(self, output: Tensor, targets: Tensor, counts: Tensor) -> Tensor:
        """Returns the micro-batch's share of the mean over the batch."""
        return output * (len(targets) / float(counts[0]))

    def _cct(self, model: Any, inputs: dict[str, Tensor], ramp: float) -> Tensor:
        """Returns ``labelled + ramp (w_u agreement + w_w masks)``."""
        labelled: Tensor = cross_entropy(model(inputs["image"]).float(), inputs["mask"])
        if self.config.mode == "labelled":
            return labelled
        z = model.encode(inputs["weak"])
        with torch.no_grad():
            main = model.decode(z, inputs["weak"].shape[2:]).float()
        auxiliaries = [logits.float() for logits in model.auxiliaries(z, main)]
        known = self.config.mode == "weak"
        weak = weak_loss(auxiliaries, _masks(inputs)) if known else torch.zeros_like(labelled)
        parts = CctLoss(labelled, consistency_loss(auxiliaries, main), weak)
        total: Tensor = parts.total(ramp, self.config.unsupervised, self.config.weak)
        return total

    def _unimatch(self, model: Any, inputs: dict[str, Tensor], ramp: float) -> Tensor:
        """Returns ``(labelled + strong1/4 + strong2/4 + feature/2) / 2 + ramp w_w masks``; a single strong view counts twice.

        In mode ``weak``, pseudo labels are restricted to the image's classes, and the first strong view is also trained on the
        run's masks.
        """
        if self.config.mode == "labelled":
            alone: Tensor = cross_entropy(model(inputs["image"]).float(), inputs["mask"])
            return alone
        with torch.no_grad(), _evaluating(model):
            weak = model(inputs["weak"]).float()
        if self.config.mode == "weak":
            weak = weak.masked_fill(inputs["shown"][:, :, None, None] == 0, -torch.inf)
        pseudo = pseudo_labels(weak, inputs["known"] == IGNORE)
        strong = [inputs[f"strong{n}"] for n in range(1, self.config.strong + 1)]
        count, size = len(weak), (weak.shape[2], weak.shape[3])
        pasted = [(cutmix_boxes(count, size, device=weak.device), torch.randperm(count, device=weak.device)) for _ in strong]
        mixed = [cutmix(view, *paste) for view, paste in zip(strong, pasted, strict=True)]
        logits = model(torch.cat([inputs["image"], *mixed])).float().split(count)
        losses = [
            confident_cross_entropy(
                view, type(pseudo)(*(cutmix(each, *paste) for each in pseudo)), self.config.threshold
            )
            for view, paste in zip(logits[1:], pasted, strict=True)
        ]  # fmt: skip
        with _dropped_features(model):
            feature = confident_cross_entropy(model(inputs["weak"]).float(), pseudo, self.config.threshold)
        total: Tensor = UniMatchLoss(cross_entropy(logits[0], inputs["mask"]), losses[0], losses[-1], feature).total
        if self.config.mode == "weak":
            total = total + ramp * self.config.weak * cross_entropy(logits[1], cutmix(_masks(inputs), *pasted[0]))
        return total


def _masks(inputs: dict[str, Tensor]) -> Tensor:
    """Returns the run's masks of the other images, 255 where unknown or padded."""
    return inputs["known"].masked_fill(inputs["known"] == UNKNOWN, IGNORE)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Puts the model in eval mode, then restores the mode of every module."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def _dropped_features(model: nn.Module, rate: float = 0.5) -> Iterator[None]:
    """Drops channels of every feature map of the encoder: UniMatch's feature perturbation."""
    encoder: nn.Module = model.encoder  # type: ignore[assignment]
    hook = encoder.register_forward_hook(
        lambda _module, _inputs, features: [F.dropout2d(each, rate) if each.numel() else each for each in features]
    )
    try:
        yield
    finally:
        hook.remove()
