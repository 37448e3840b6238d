"""Reads the arguments of pytorch-grad-cam without that library: layers, targets, token grids, smoothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from operator import index
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from advcam.errors import InputError, SettingsError
from advcam.extractor import check_flag
from advcam.models import describe_error, describe_value, find, unwrap


def layers_of(target_layers: Iterable[nn.Module]) -> list[nn.Module]:
    """Returns the modules in a list of at least one.

    Raises:
        InputError: it is not a list, or an empty one.
    """
    if not isinstance(target_layers, Iterable):
        came = type(target_layers).__name__
        raise InputError(f"target_layers must be a list of modules, e.g. [model.layer4[-1]]; got {came}")
    try:
        layers = list(target_layers)
    except Exception as error:  # a foreign iterable may raise anything
        raise InputError(
            f"target_layers must be a list of modules, e.g. [model.layer4[-1]]; it fails: {describe_error(error)}"
        ) from error
    if not layers:
        raise InputError("target_layers is empty: expected at least one module of the model, e.g. [model.layer4[-1]]")
    return layers


def classes_of(targets: Iterable[Any]) -> list[int]:
    """Returns the class ids of targets.

    A target of a class is recognised by its behaviour: it has a ``category``, and returns that entry of the logits unchanged.

    Args:
        targets: ``ClassifierOutputTarget`` objects or class ids, one for each image.

    Raises:
        InputError: it is not a list, or a target is not the logit of one class.

    Example:
        >>> class ClassifierOutputTarget:
        ...     category = 2
        ...     def __call__(self, model_output):
        ...         return model_output[self.category]
        >>> classes_of([ClassifierOutputTarget(), 5])
        [2, 5]
    """
    if not isinstance(targets, Iterable):
        raise InputError(f"targets must be a list with one target for each image, or None; got {type(targets).__name__}")
    try:
        return [_class_of(target) for target in targets]
    except InputError:
        raise
    except Exception as error:  # a foreign iterable may raise anything
        raise InputError(
            f"targets must be a list with one target for each image, or None; it fails: {describe_error(error)}"
        ) from error


_MOST_CLASSES = 10**7


def _class_of(target: Any) -> int:
    try:
        category = index(getattr(target, "category", target))
        if not callable(target) or abs(category) > _MOST_CLASSES:  # no model has as many; the caller raises the error
            return category
        probe = torch.linspace(1, 2, abs(category) + 2)
        if float(target(probe)) == float(probe[category]):
            return category
    except Exception:  # a target that fails on the probe is not one of a class
        pass
    raise InputError(
        f"each target must be a ClassifierOutputTarget(k) or a class id; got {type(target).__name__}. One class's logit is"
        " climbed: for another quantity, give a model that returns it as a logit [N, 1], and target 0"
    )


@torch.inference_mode(False)
def check_reshape(
    reshape: Callable[[Any], Tensor], model: nn.Module, layers: list[str], images: Float[Tensor, "n b y x"]
) -> None:
    """Checks that a ``reshape_transform`` gives the same feature maps that advcam uses.

    Args:
        reshape: a function from a layer's output to [N, D, h, w].
        model: the model; left unchanged.
        layers: names of the layers.
        images: a batch, of which the first image is used.

    Raises:
        InputError: the function fails, or gives another shape, other values, or another order.
    """
    image = images[:1].clone()  # a copy outside inference mode, whose tensors allow no gradient
    for layer in layers:
        network = find(model, image, layer)
        raw: list[Any] = []
        module = unwrap(model).get_submodule(layer)
        hook = module.register_forward_hook(lambda _module, _inputs, output, raw=raw: raw.append(output))
        try:
            used = network(image)[0]
        finally:
            hook.remove()
        laid = _laid(reshape, raw[network.nth], layer)
        if laid.shape != used.shape or not torch.allclose(laid.to(used.dtype), used, rtol=1e-3, atol=1e-5):
            raise InputError(
                f"reshape_transform makes {tuple(laid.shape)} of layer {layer!r}, where AdvCAM makes {tuple(used.shape)}, with"
                f" other values or in another order. {_LEAVE_OUT}"
            )


_LEAVE_OUT = "It is not needed: leave reshape_transform out"


def _laid(reshape: Callable[[Any], Tensor], raw: Any, layer: str) -> Tensor:
    """Applies the user's function to a layer's output."""
    try:
        laid = reshape(raw)
    except Exception as error:  # usually it was written for another grid
        came = f" {tuple(raw.shape)}" if isinstance(raw, Tensor) else ""
        raise InputError(
            f"reshape_transform fails on the output{came} of layer {layer!r}: {describe_error(error)}. {_LEAVE_OUT}"
        ) from error
    if not isinstance(laid, Tensor) or laid.is_nested or laid.layout != torch.strided:
        raise InputError(
            f"reshape_transform makes {describe_value(laid)} of layer {layer!r}: expected a tensor [N, D, h, w]. {_LEAVE_OUT}"
        )
    return laid


def check_options(options: Mapping[str, Any]) -> None:
    """Checks that ``layer`` is not among the options.

    Raises:
        SettingsError: it is.
    """
    if "layer" in options:
        raise SettingsError(
            f"layer={describe_value(options['layer'])}: layers are given as target_layers here; leave layer= out"
        )


def check_smoothing(aug_smooth: bool, eigen_smooth: bool) -> None:
    """Checks that neither of pytorch-grad-cam's smoothings is asked for.

    Raises:
        SettingsError: one is; the message says what to use instead.
    """
    if check_flag("aug_smooth", aug_smooth):
        raise SettingsError(
            "aug_smooth=True (the mean over mirror images and three brightnesses) is not available: leave it out and make the"
            " object with mirror=True, which climbs an image and its mirror image together"
        )
    if check_flag("eigen_smooth", eigen_smooth):
        raise SettingsError(
            "eigen_smooth=True (the first principal component of one map's channels) is not defined for a sum of maps over"
            " steps: leave it out; mirror=True or several scales when making the object smooth too"
        )
