"""AdvCAM, and the plain maps it extends, with the signature of pytorch-grad-cam (1.5): change one import."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Self

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from advcam import extractor
from advcam.errors import InputError
from advcam.extractor import check_images

from .arguments import check_options, check_reshape, check_smoothing, classes_of, layers_of
from .layers import layer_name


class AdvCAM:
    """:class:`advcam.AdvCAM` for code written for ``pytorch_grad_cam.GradCAM``: arrays [N, H, W] at the size of the input.

    ``mean over layers of A_c / max A_c``, divided by its maximum. pytorch-grad-cam also subtracts each map's minimum; here it
    is kept, so 0 means no evidence for the class. A layer's activation is its output at its last call (pytorch-grad-cam, on a
    CPU: at its first call, after in-place operations). The model is left unchanged.

    Args:
        model: returns logits [N, K], see :class:`advcam.AdvCAM`.
        target_layers: modules of the model, on every cell of whose output the logits depend: as there, ``blocks[-1].norm1``
            of a transformer with a class token. Each is climbed separately; time grows with their number.
        reshape_transform: not needed; tokens are laid out on their grid automatically. If given, it is only checked: it must
            give the same result on the first image.
        options: ``preset``, ``max_pixels`` and settings such as ``steps`` or ``mirror``, as for :class:`advcam.AdvCAM`.
            Precision defaults to float32.

    Raises:
        InputError: a layer is not in the model, or there is none.
        SettingsError: an unknown preset or setting, or a value out of range.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
        >>> with AdvCAM(model=net, target_layers=[net[1]]) as cam:
        ...     grayscale_cam = cam(input_tensor=torch.rand(2, 3, 32, 32), targets=[3, 0])
        >>> grayscale_cam.shape, cam.outputs.shape
        ((2, 32, 32), torch.Size([2, 4]))
    """

    _fixed: ClassVar[dict[str, Any]] = {}

    def __init__(
        self,
        model: nn.Module,
        target_layers: Iterable[nn.Module],
        reshape_transform: Callable[[Tensor], Tensor] | None = None,
        **options: Any,
    ) -> None:
        check_options(options)
        self.model, self.target_layers, self.reshape_transform = model, layers_of(target_layers), reshape_transform
        self._names = [layer_name(model, layer) for layer in self.target_layers]
        settings = {"precision": "float32"} | self._fixed | options  # as pytorch-grad-cam
        self._climbers = [extractor.AdvCAM(model, layer=name, **settings) for name in self._names]
        self._images: Tensor | None = None
        self._outputs: Tensor | None = None
        self._unchecked = reshape_transform

    def __call__(
        self,
        input_tensor: Float[Tensor, "n b y x"],
        targets: Iterable[Any] | None = None,
        aug_smooth: bool = False,
        eigen_smooth: bool = False,
    ) -> Float[np.ndarray, "n y x"]:
        """Returns one map per image, float32 in [0, 1] with maximum 1 (or all zeros).

        Args:
            input_tensor: float [N, C, H, W], normalised as the model expects; moved to the model's device.
            targets: one ``ClassifierOutputTarget`` (or class id) for each image; None is each image's highest-scoring class.
            aug_smooth: must be False, like ``eigen_smooth``; the error says what to use instead.

        Raises:
            InputError: invalid images or targets, or a ``reshape_transform`` that lays tokens out differently.
            SettingsError: ``aug_smooth`` or ``eigen_smooth``.
            NetworkError: the logits do not depend on a layer, or its output is not a feature map.
        """
        check_smoothing(aug_smooth, eigen_smooth)
        if not isinstance(input_tensor, Tensor):
            raise InputError(f"input_tensor must be a float tensor [N, C, H, W]; got {type(input_tensor).__name__}")
        classes = None if targets is None else classes_of(targets)
        check_images(input_tensor, None)
        images = input_tensor.to(next(self.model.parameters(), input_tensor).device)
        self._images, self._outputs = images, None
        if classes is None:
            classes = self.outputs.argmax(1).tolist()
        if self._unchecked is not None:
            check_reshape(self._unchecked, self.model, self._names, images)
            self._unchecked = None
        maps = [climber(images, [[c] for c in classes]) for climber in self._climbers]
        mean = torch.stack([each.normalised(each.size) for each in maps]).mean(0)
        peak = mean.amax((1, 2), keepdim=True)
        scaled: np.ndarray = (mean / torch.where(peak > 0, peak, 1)).float().cpu().numpy()
        return scaled

    @property
    def outputs(self) -> Float[Tensor, "n k"]:
        """The logits of the last call's images; needs another forward pass at first access, unless ``targets`` was None.

        Raises:
            InputError: there was no call yet.
        """
        if self._images is None:
            raise InputError("outputs are the logits of the images of the last call, and there was none: call the object first")
        if self._outputs is None:
            self._outputs = self._climbers[0].scores(self._images)
        return self._outputs

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Does nothing: between calls there are no hooks on the model."""


class GradCAM(AdvCAM):
    """The plain Grad-CAM, without climbing (``steps=1, method="gradcam"``): ``pytorch_grad_cam.GradCAM``."""

    _fixed: ClassVar[dict[str, Any]] = {"steps": 1, "method": "gradcam"}


class GradCAMPlusPlus(AdvCAM):
    """The plain Grad-CAM++ (``steps=1, method="gradcam++"``): ``pytorch_grad_cam.GradCAMPlusPlus``.

    pytorch-grad-cam adds 1e-6 to the denominator ``2 g^2 + g^3 sum f``, which damps gradients of about 1e-3 and less; advcam
    does not.
    """

    _fixed: ClassVar[dict[str, Any]] = {"steps": 1, "method": "gradcam++"}


class LayerCAM(AdvCAM):
    """The plain LayerCAM (``steps=1, method="layercam"``): ``pytorch_grad_cam.LayerCAM``."""

    _fixed: ClassVar[dict[str, Any]] = {"steps": 1, "method": "layercam"}


class HiResCAM(AdvCAM):
    """The plain HiResCAM (``steps=1, method="hirescam"``): ``pytorch_grad_cam.HiResCAM``."""

    _fixed: ClassVar[dict[str, Any]] = {"steps": 1, "method": "hirescam"}


class GradCAMElementWise(AdvCAM):
    """The plain element-wise Grad-CAM (``steps=1, method="elementwise"``): ``pytorch_grad_cam.GradCAMElementWise``."""

    _fixed: ClassVar[dict[str, Any]] = {"steps": 1, "method": "elementwise"}
