"""The plain class activation map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

from torch import Tensor, nn

from .advcam import AdvCAM
from .inputs import Targets
from .maps import Maps


@overload
def cam(model: nn.Module, images: Tensor, targets: Targets = None, **options: Any) -> Maps: ...
@overload
def cam(model: nn.Module, images: Sequence[Tensor], targets: Targets = None, **options: Any) -> list[Maps]: ...
def cam(model: nn.Module, images: Any, targets: Targets = None, **options: Any) -> Any:
    """The plain class activation map ``ReLU(sum_d w_c[d] f_d)``: equal to :class:`AdvCAM` with one step.

    Args:
        model: as for :class:`AdvCAM`.
        images: as for :class:`AdvCAM`.
        targets: as for :class:`AdvCAM`.
        options: as for :class:`AdvCAM`; precision is float32 unless given.
    """
    return AdvCAM(model, **({"precision": "float32"} | options | {"steps": 1}))(images, targets)
