"""MobileNetV2 trained by the objectives of two other methods, to climb on their networks.

Both are the objective alone, with this protocol's network, data and schedule: they are like the methods, not equal to them.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import advcam.models  # noqa: F401  # isort: skip  (timm cannot be imported before it beside a CPU-only torch)

import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor, nn

from advcam.data import Normalisation, TrainingViews
from advcam.models.classifiers import new_classifier
from advcam.stages.classify import ClassifyConfig
from advcam.stages.context import Context
from advcam.store import write_bytes
from advcam.training import ImageLoss, fit

Output = tuple[Tensor, Tensor, Tensor]


class Objective(nn.Module):
    """A timm classifier that returns what its training objective needs of two views of each image.

    Args:
        model: with ``forward_features`` and a linear ``classifier`` on pooled features.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def maps(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images [n, 3, y, x] to logits [n, k] and class activation maps [n, k, h, w]."""
        features = self.model.forward_features(x)  # type: ignore[operator]
        return self.model.forward_head(features), F.conv2d(features, self.model.classifier.weight[:, :, None, None])  # type: ignore[operator, union-attr, index]


class Consistency(Objective):
    """The map of the image at half its size equals the map at half its size.

    Source: the equivariance loss of SEAM (Wang et al., CVPR 2020), without its pixel correlation module.
    """

    def forward(self, x: Tensor) -> Output:
        """Logits of both sizes, and the mean difference of their maps [n, k], each divided by its maximum."""
        logits, maps = self.maps(x)
        small_logits, small = self.maps(F.interpolate(x, scale_factor=0.5, mode="bilinear", antialias=True))
        size = (small.shape[2], small.shape[3])
        return logits, small_logits, (normalised(F.adaptive_avg_pool2d(maps, size)) - normalised(small)).abs().mean((2, 3))


class Erasing(Objective):
    """What a map finds is erased from the image, and the rest must still show the class.

    Source: after AE-PSL (Wei et al., CVPR 2017), as one network with one erasure. Erased is where the map of a class that the
    network is sure of, divided by its maximum, exceeds .6.
    """

    def forward(self, x: Tensor) -> Output:
        """Logits of image and erased image, and zeros."""
        logits, maps = self.maps(x)
        strong = (normalised(maps.detach()) * (logits.detach() > 0)[:, :, None, None]).amax(1, keepdim=True)
        left = F.interpolate(strong, x.shape[2:], mode="bilinear") <= 0.6
        return logits, self.maps(x * left)[0], torch.zeros_like(logits)


def normalised(maps: Tensor) -> Tensor:
    """Positive parts of maps [n, k, h, w], each divided by its maximum."""
    maps = maps.float().relu()
    return maps / maps.amax((2, 3), keepdim=True).clamp_min(1e-5)


def loss(output: Output, labels: Tensor) -> Tensor:
    """The classification loss of both views, and the mean difference over the classes shown."""
    logits, second, difference = output
    classified = F.multilabel_soft_margin_loss(logits, labels) + F.multilabel_soft_margin_loss(second, labels)
    return classified / 2 + (difference * labels).sum() / labels.sum().clamp_min(1)


OBJECTIVES: dict[str, type[Objective]] = {"consistency": Consistency, "erasing": Erasing}


def trained(context: Context, config: ClassifyConfig, objective: str, weights: Path) -> ClassifyConfig:
    """Trains the network of a configuration by another objective, once; returns the configuration that loads it."""
    if not weights.is_file():
        torch.manual_seed(context.seed)
        network, classes = config.network, len(context.data.classes)
        model, fresh = new_classifier(network, classes, Path(str(config.weights)), pretrained=False)
        body = OBJECTIVES[objective](model)
        head = [parameter for name, parameter in model.named_parameters() if name.startswith(fresh)]
        views = TrainingViews(
            list(context.data.train), config.augmentation(), Normalisation(*network.normalisation()), context.seed, classes
        )
        work = weights.parent / f"{weights.stem}-training"
        work.mkdir(parents=True, exist_ok=True)
        state, _ = fit(
            body, None, head, views, ImageLoss(loss), config.plan(), lambda _network: {}, None, work, context.runtime,
            context.reporter, objective,
        )  # fmt: skip
        write_bytes(weights, save({name.removeprefix("model."): value for name, value in state.items()}))
    return replace(config, weights=None, classifier=str(weights))
