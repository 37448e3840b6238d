"""AdvCAM with the signature of captum's ``LayerGradCam`` (0.9): change one import."""

from __future__ import annotations

from operator import index
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from advcam import extractor
from advcam.errors import InputError, SettingsError
from advcam.extractor import check_flag, check_images
from advcam.models import describe_error, describe_value

from .layers import layer_name


class AdvCAM:
    """:class:`advcam.AdvCAM` for code written for ``captum.attr.LayerGradCam``: tensors [N, 1, h, w] on the layer's grid.

    ``A_c = sum_{t<T} CAM_c(x^t)``, not normalised. Never negative: each step's map passes a ReLU, so the attribution always
    corresponds to captum's ``relu_attributions=True``. ``steps=1, method="gradcam"`` is ``LayerGradCam`` itself.

    Args:
        forward_func: the model, a module that returns logits [N, K], see :class:`advcam.AdvCAM`; not a function.
        layer: module of the model whose output is the feature map; tokens are laid out on their grid.
        device_ids: not needed; ``DataParallel`` is unwrapped and the images' device is used.
        options: ``preset``, ``max_pixels`` and settings such as ``steps`` or ``method``, as for :class:`advcam.AdvCAM`. With
            several ``scales`` the maps are at stride 4 instead of on the layer's grid. Precision defaults to float32.

    Raises:
        InputError: a function instead of a module, or a layer that is not in the model.
        SettingsError: an unknown preset or setting, or a value out of range.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
        >>> attr = AdvCAM(net, net[1]).attribute(torch.rand(2, 3, 32, 32), target=3)
        >>> attr.shape, AdvCAM.interpolate(attr, (32, 32)).shape
        (torch.Size([2, 1, 15, 15]), torch.Size([2, 1, 32, 32]))
    """

    def __init__(
        self,
        forward_func: nn.Module,
        layer: nn.Module,
        device_ids: list[int] | None = None,
        **options: Any,
    ) -> None:
        if not isinstance(forward_func, nn.Module):
            raise InputError(
                f"forward_func must be the model itself, a torch.nn.Module that returns logits [N, K]; got"
                f" {getattr(forward_func, '__qualname__', type(forward_func).__name__)}. Give the module, or put the function"
                " in the forward of a module that holds the model"
            )
        self.forward_func, self.layer, self.device_ids = forward_func, layer, device_ids
        self._name = layer_name(forward_func, layer)
        self._climber = extractor.AdvCAM(forward_func, layer=self._name, **({"precision": "float32"} | options))  # as captum

    def attribute(
        self,
        inputs: Float[Tensor, "n b y x"] | tuple[Tensor, ...],
        target: Any = None,
        additional_forward_args: object = None,
        attribute_to_layer_input: bool = False,
        relu_attributions: bool = False,
        attr_dim_summation: bool = True,
        grad_kwargs: dict[str, Any] | None = None,
    ) -> Float[Tensor, "n 1 h w"]:
        """Returns the AdvCAM of one class for each image, without gradient.

        Args:
            inputs: float [N, C, H, W], normalised as the model expects, or a tuple of this one tensor.
            target: a class id for all images; or a list or 1-D tensor of ids, one for each; None if the model has one output.
            additional_forward_args: must be None; the error says what to do instead.
            attribute_to_layer_input: must be False.
            relu_attributions: has no effect; the result is never negative.
            attr_dim_summation: must be True.
            grad_kwargs: must be None.

        Raises:
            InputError: invalid inputs or target, or ``additional_forward_args``.
            SettingsError: ``attribute_to_layer_input``, ``attr_dim_summation`` or ``grad_kwargs``.
            NetworkError: the logits do not depend on the layer, or its output is not a feature map.
        """
        _check_available(additional_forward_args, attribute_to_layer_input, attr_dim_summation, grad_kwargs)
        images = inputs[0] if isinstance(inputs, tuple) and len(inputs) == 1 else inputs
        if not isinstance(images, Tensor):
            came = f"{len(inputs)} of them" if isinstance(inputs, (tuple, list)) else type(inputs).__name__
            raise InputError(
                f"inputs must be one tensor of images [N, C, H, W]; got {came}. Only pixels are climbed: wrap the model in a"
                " module that takes the images alone"
            )
        check_images(images, None)
        return self._climber(images, self._classes(target, images)).maps[:, None]

    @staticmethod
    def interpolate(
        layer_attribution: Tensor, interpolate_dims: int | tuple[int, ...], interpolate_mode: str = "nearest"
    ) -> Tensor:
        """Resizes an attribution, like ``captum.attr.LayerAttribution.interpolate`` (which works as well).

        Args:
            layer_attribution: [N, 1, h, w].
            interpolate_dims: (H, W).
            interpolate_mode: of :func:`torch.nn.functional.interpolate`.

        Raises:
            InputError: that function refuses the arguments.
        """
        try:
            return torch.nn.functional.interpolate(layer_attribution, interpolate_dims, mode=interpolate_mode)
        except Exception as error:  # torch raises anything from TypeError to NotImplementedError
            raise InputError(
                f"cannot be resized: {describe_error(error)}. Expected"
                f" an attribution [N, 1, h, w], (H, W), and 'nearest' or 'bilinear'"
            ) from error

    def _classes(self, target: Any, images: Tensor) -> list[list[int]]:
        """Returns the class of each image, in a list of its own."""
        n = len(images)
        if target is None:
            outputs = self._climber.scores(images[:1]).shape[1]
            if outputs > 1:
                raise InputError(f"target=None is for a model with a single output; this one has {outputs}: give a class id")
            return [[0]] * n
        try:
            target = torch.as_tensor(target) if isinstance(target, np.ndarray) else target
            plain = target.tolist() if isinstance(target, Tensor) and target.numel() != 1 else target
            return [[index(c)] for c in plain] if isinstance(plain, list) else [[index(plain)]] * n
        except Exception:  # a foreign object may raise anything
            raise InputError(
                f"target must be a class id, or a list or 1-D tensor of them, one for each image; got {describe_value(target)}."
                f" Logits"
                " are [N, K], so a tuple has no meaning here"
            ) from None


def _check_available(forward_args: object, layer_input: bool, summation: bool, grad_kwargs: object) -> None:
    if forward_args is not None:
        raise InputError(
            "additional_forward_args are not available: wrap the model in a module that takes the images alone and adds them"
        )
    if check_flag("attribute_to_layer_input", layer_input):
        raise SettingsError(
            "attribute_to_layer_input=True is not available: give as layer the module whose output is this one's input"
        )
    if not check_flag("attr_dim_summation", summation):
        raise SettingsError("attr_dim_summation=False is not available: an AdvCAM is a sum over channels; leave it out")
    if grad_kwargs is not None:
        raise SettingsError("grad_kwargs are not available: the climb takes its own gradients; leave them out")
