"""Classifiers: a timm backbone with a fresh bias-free head, or the user's own network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from textwrap import shorten
from typing import Any

import timm
import torch
from torch import nn

from advcam.errors import NetworkError, SettingsError, known
from advcam.limits import MAX_OPTION
from advcam.options import check

from .weights import State, adapted, has, load_state, load_weights, without_prefix

TO_CLASSIFY = "--weights FILE, with --backbone NAME if they are another network's (or --from-scratch, to train without)"
ANY_SIZE: tuple[dict[str, Any], ...] = (
    {"dynamic_img_size": True, "dynamic_img_pad": True}, {"dynamic_img_size": True}, {"strict_img_size": False}, {},
)  # fmt: skip
"""Arguments by which timm's transformers take images of other sizes than they were trained on: most ViTs, some, Swin, none."""


@dataclass(frozen=True)
class Backbone:
    """A timm network and how it is built.

    Args:
        name: timm's name.
        options: further arguments of ``timm.create_model``.
        output_stride: pixels per cell of the last feature map; a network that cannot change it keeps its own.
        mean: of the input's channels, in [0, 1]; None takes timm's.
        std: of the input's channels; None takes timm's.
        dilated: where a stride is removed, later convolutions are dilated, as timm does; False: they are not, as in IRN.
        channels: of the input; where it is not three, timm adapts the pretrained first convolution: repeats its weights for
            red, green, blue, red, ..., scaled by 3 / channels, or sums them for one channel.
    """

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    output_stride: int = 16
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    dilated: bool = True
    channels: int = 3

    def __post_init__(self) -> None:
        check(self)
        if not timm.is_model(self.name.split(".")[0]):
            raise SettingsError(f"timm has no network {self.name!r}; {known(self.name, timm.list_models())}")
        if self.output_stride not in (8, 16, 32):
            raise SettingsError(f"output_stride is 8, 16 or 32 pixels a cell, got {self.output_stride}")
        for option in self.options:
            if option.startswith(("pretrained", "checkpoint", "cache")):  # timm would load any file, pickles too
                raise SettingsError(f"backbone option {option!r} is not taken: give the file of weights, --weights FILE")
            if option == "in_chans":
                raise SettingsError("backbone option 'in_chans' is not taken: --bands and --one-channel say how many there are")
            if option in ("features_only", "out_indices"):
                raise SettingsError(f"backbone option {option!r} is not taken: advcam sets what the network returns")
            if _largest(self.options[option]) > MAX_OPTION:
                raise SettingsError(f"backbone option {option!r} is at most {MAX_OPTION}, got {self.options[option]!r:.60}")

    def create(self, remedy: str = TO_CLASSIFY, **more: Any) -> nn.Module:
        """The network from timm; ``remedy`` is what to give where its weights cannot be downloaded.

        Raises:
            SettingsError: an option that timm does not have.
            NetworkError: weights were asked for and the hub cannot be reached.
        """
        arguments = self.options | self.input_channels("in_chans") | more
        try:
            return self.spaced(_create_first(self.name, self._attempts(), arguments))
        except Exception as error:  # timm may raise anything on a wrong option
            if not (more.get("pretrained") and isinstance(error, (OSError, RuntimeError))):
                said = shorten(f"{type(error).__name__}: {error}", 200, placeholder=" ...")
                raise SettingsError(f"timm cannot build {self.name!r} with {arguments}: {said}") from None
            reason = shorten(str(error).splitlines()[0], 160, placeholder=" ...")
            raise NetworkError(
                f"the pretrained weights of {self.name!r} cannot be downloaded ({reason}). Without a connection,"
                f" give weights saved elsewhere: {remedy}"
            ) from None

    def _attempts(self) -> Iterator[dict[str, Any]]:
        """Arguments by which the network takes images of any size and has the stride; some networks do not know some."""
        config = timm.get_pretrained_cfg(self.name, allow_unregistered=True)
        for size in ANY_SIZE if config and config.fixed_input_size else ({},):
            yield size | {"output_stride": self.output_stride}
            yield size

    def spaced(self, model: nn.Module) -> nn.Module:
        """The network itself, without dilation unless ``dilated``."""
        for module in () if self.dilated else model.modules():
            if isinstance(module, nn.Conv2d) and max(module.dilation) > 1 and not isinstance(module.padding, str):
                module.padding = tuple(p // d for p, d in zip(module.padding, module.dilation, strict=True))
                module.dilation = (1, 1)
        return model

    def input_channels(self, name: str) -> dict[str, int]:
        """The argument of that name for a network whose input has not three channels."""
        return {name: self.channels} if self.channels != 3 else {}

    def normalisation(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of the input's channels.

        timm's are of red, green and blue. Where there are two channels or more than three, they are those of red, green, blue,
        red, ..., as the weights of the first convolution are; one channel has their means.

        Raises:
            SettingsError: another number of them than of channels was given.
        """
        known_config = timm.get_pretrained_cfg(self.name, allow_unregistered=True)
        mean = self.mean or self._of_channels(known_config.mean if known_config else (0.485, 0.456, 0.406))
        std = self.std or self._of_channels(known_config.std if known_config else (0.229, 0.224, 0.225))
        if odd := next((given for given in (mean, std) if len(given) != self.channels), None):
            raise SettingsError(f"--mean and --std have a number for each of {self.channels} channels; got {odd}")
        return mean, std

    def _of_channels(self, rgb: Sequence[float]) -> tuple[float, ...]:
        return (sum(rgb) / 3,) if self.channels == 1 else tuple(rgb[at % 3] for at in range(self.channels))

    def record(self) -> Any:
        """Plain data, for a file; :meth:`from_record` reads it."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Backbone:
        """The backbone that :meth:`record` described."""
        of_channels = {name: tuple(record[name]) if record[name] else None for name in ("mean", "std")}
        return cls(**{**record, **of_channels})


def _largest(value: Any) -> float:
    """The largest number in an option."""
    if isinstance(value, (list, tuple)):
        return max(map(_largest, value), default=0)
    if isinstance(value, dict):
        return _largest(list(value.values()))
    return abs(value) if isinstance(value, (int, float)) else 0


def licence(name: str) -> str:
    """Licence and origin of a network's pretrained weights, as far as timm knows them."""
    kept = timm.get_pretrained_cfg(name, allow_unregistered=True)
    said = [f"licence {kept.license}" if kept and kept.license else "licence not known to timm"]
    said += [f"from {kept.origin_url}" if kept and kept.origin_url else ""]
    return ", ".join(part for part in said if part)


def _create_first(name: str, attempts: Iterable[Mapping[str, Any]], arguments: Mapping[str, Any]) -> nn.Module:
    """Returns timm's network with the first of the further arguments that it knows; those of the user go before."""
    for more in attempts:
        try:
            model: nn.Module = timm.create_model(name, **{**more, **arguments})
        except (TypeError, AssertionError, NotImplementedError) as error:
            refused = error
        else:
            return model
    raise refused


def new_classifier(
    backbone: Backbone, classes: int, weights: Path | None, pretrained: bool
) -> tuple[nn.Module, tuple[str, ...]]:
    """A classifier to train: the backbone's body, from a file or timm's hub or from scratch, and a new bias-free head.

    Returns:
        The network and the prefixes of its head's parameters.

    Raises:
        NetworkError: weights that do not fit, or a hub that cannot be reached.
    """
    model = backbone.create(num_classes=classes, pretrained=pretrained and weights is None)
    heads = model.pretrained_cfg["classifier"]  # type: ignore[index]
    head = tuple(f"{name}." for name in ((heads,) if isinstance(heads, str) else heads))
    if weights is not None:
        load_weights(model, adapted(load_state(weights), model, backbone.channels), str(weights), new=head)
    _drop_bias(model)
    return model, head


def saved_classifier(backbone: Backbone, classes: int, weights: Path) -> nn.Module:
    """A trained classifier from its file, with or without a bias in its head.

    Raises:
        NetworkError: weights that do not fit the backbone or the number of classes.
    """
    return _filled(backbone, classes, load_state(weights), str(weights))


def _filled(backbone: Backbone, classes: int, state: State, source: str) -> nn.Module:
    model = backbone.create(num_classes=classes)
    state = without_prefix(state, model.state_dict(), source)
    head = model.pretrained_cfg["classifier"]  # type: ignore[index]
    if isinstance(head, str) and f"{head}.bias" not in state:
        _drop_bias(model)
    load_weights(model, state, source)
    return model


@dataclass(frozen=True)
class PretrainedClassifier:
    """A trained classifier and the input that it expects.

    Args:
        model: in eval mode.
        mean: of the input's channels, in [0, 1].
        std: of the input's channels.
        names: of the classes; empty where they are unknown.
        size: (H, W) of the only input it takes; None takes any.
        ids: of the classes in masks; empty where there are no masks: they are counted from 0.
    """

    model: nn.Module
    mean: tuple[float, ...]
    std: tuple[float, ...]
    names: tuple[str, ...] = ()
    size: tuple[int, int] | None = None
    ids: tuple[int, ...] = ()


def pretrained_classifier(backbone: Backbone, weights: Path | None) -> PretrainedClassifier:
    """A timm network as it was trained: with timm's weights, or with those of a file and as many classes as it has.

    Raises:
        SettingsError: a name that timm does not have.
        NetworkError: weights that do not fit, or a hub that cannot be reached.
    """
    if weights is None:
        model = backbone.create(pretrained=True)
    else:
        empty = _names_alone(backbone)
        heads = empty.pretrained_cfg["classifier"]  # type: ignore[index]
        head = f"{heads if isinstance(heads, str) else heads[0]}.weight"
        held = load_state(weights)
        state = without_prefix(held, wanted := empty.state_dict(), str(weights))
        if head not in state:
            said = has(held, head, [state[name] for name in wanted if name in state])
            raise NetworkError(f"{weights}: has no {head}, so it is no classifier {backbone.name!r}; {said}")
        model = _filled(backbone, state[head].shape[:1].numel(), state, str(weights))
    imagenet = timm.data.ImageNetInfo()
    known_names = model.num_classes == imagenet.num_classes()
    names = tuple(imagenet.index_to_description(i) for i in range(imagenet.num_classes())) if known_names else ()
    return PretrainedClassifier(model.eval(), *backbone.normalisation(), names, _fixed_size(model))


def feature_network(backbone: Backbone, weights: Path | None, remedy: str) -> PretrainedClassifier:
    """A timm network for its features alone, with timm's weights or those of a file: returns a vector for each image.

    ``remedy`` is the option that takes such a file, for the message where timm's cannot be had.

    Raises:
        SettingsError: a name that timm does not have.
        NetworkError: weights that do not fit, or a hub that cannot be reached.
    """
    model = backbone.create(remedy, num_classes=0, pretrained=weights is None)
    if weights is not None:
        load_weights(model, adapted(load_state(weights), model, backbone.channels), str(weights))
    return PretrainedClassifier(model.eval(), *backbone.normalisation(), size=_fixed_size(model))


def _fixed_size(model: nn.Module) -> tuple[int, int] | None:
    """(H, W) of a timm network that takes one input size only."""
    config: dict[str, Any] = model.pretrained_cfg  # type: ignore[assignment]
    height, width = config["input_size"][1:]
    return (height, width) if config.get("fixed_input_size") else None


def _names_alone(backbone: Backbone) -> nn.Module:
    """The network, on the meta device where possible, for its parameters' names and shapes."""
    try:
        with torch.device("meta"):
            return backbone.create()
    except Exception:  # it needs values while it is built; other errors are raised again here
        return backbone.create()


def _drop_bias(model: nn.Module) -> None:
    """Makes the head bias-free, as in the paper: no map can show a constant."""
    head = model.get_classifier()  # type: ignore[operator]
    if isinstance(head, (nn.Linear, nn.Conv2d)):
        head.bias = None
