"""Any classifier as features and a head: one layer's activation on a grid, and the logits as a function of it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from advcam.attribution import Head
from advcam.errors import InputError, NetworkError

from .forward import checked_forward, evaluating, renew
from .layout import Layout
from .trace import first_of, hooked, with_first


@dataclass(frozen=True)
class Network:
    """A model split at one of its layers: ``logits = head(features(images))``.

    Args:
        model: returns logits [N, K], or an object that has them as ``.logits``.
        layer: name of the module whose output (or input) is the feature map; "" is the model itself.
        side: ``output`` or ``input`` of that module.
        nth: which call of that module, where the model calls it several times.
        layout: how the activation lies on the grid.
        classes: K.
        head: name of the linear or 1x1 module that takes the features' mean over cells; None for any other head.
        foldable: pairs (convolution, BatchNorm after it) that can be folded into one, see :func:`~advcam.models.fused`.
        precision: of the arithmetic, ``float32`` (the model's own type) or ``bfloat16``.
        channels_last: whether the model accepts the channels-last memory format, which is faster.
        mixes: whether images of one batch influence each other (BatchNorm without running statistics).
        draws: whether the model draws random numbers.
        owner: the model that ``model`` is a fused copy of; locked and put in eval mode together with it.
    """

    model: nn.Module
    layer: str
    side: str
    nth: int
    layout: Layout
    classes: int
    head: str | None = None
    foldable: tuple[tuple[str, str], ...] = ()
    precision: str = "float32"
    channels_last: bool = True
    mixes: bool = False
    draws: bool = True
    owner: nn.Module | None = None

    def __str__(self) -> str:
        where = f"layer={self.layer!r} ({self.side}" + (f", {self.layout.kind}" if self.layout.kind == "tokens" else "") + ")"
        return f"{where}, head={self.head!r}" if self.head is not None else f"{where}, head by gradient"

    def linear(self) -> Head | None:
        """The head's weight [K, D] and bias [K] (zeros where it has none), without gradient; None if it is not linear."""
        if self.head is None:
            return None
        module = self.model.get_submodule(self.head)
        weight = module.weight.detach().flatten(1)  # type: ignore[union-attr, operator]
        bias = module.bias.detach() if module.bias is not None else weight.new_zeros(len(weight))  # type: ignore[union-attr, operator]
        return Head(at_least_32(weight), at_least_32(bias))

    def __call__(self, images: Float[Tensor, "n b y x"]) -> tuple[Float[Tensor, "n d h w"], Float[Tensor, "n k"]]:
        """Feature map and logits; the logits are differentiable in the map, and both in the images if those require it.

        Raises:
            InputError: images so small that the feature map has a single cell, or of a size that the model does not take.
            NetworkError: the model fails, or the layer did not run.
        """
        size = (images.shape[2], images.shape[3])
        seen: list[Tensor] = []
        calls = 0

        def watch(values: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls - 1 != self.nth:
                return None
            value = first_of(values)
            grid = at_least_32(self.layout.to_grid(value, size))
            seen.append(grid if grid.requires_grad else grid.detach().requires_grad_())
            return with_first(values, self.layout.back(seen[0], value))

        bfloat16 = torch.autocast(images.device.type, torch.bfloat16, enabled=self.precision == "bfloat16")
        form = torch.channels_last if self.channels_last else torch.contiguous_format
        with (
            evaluating(self.owner or self.model, self.draws),
            evaluating(self.model, self.draws),
            torch.enable_grad(),
            bfloat16,
        ):
            hook = hooked(self.model.get_submodule(self.layer), self.side, watch)
            try:
                logits = checked_forward(self.model, images.contiguous(memory_format=form))
            finally:
                hook.remove()
        if not seen:
            renew(self.owner or self.model)
            raise NetworkError(
                f"layer {self.layer!r} did not run: the model runs other layers than when it was traced. Call again to"
                " trace it anew; where the layers depend on the image, name one that always runs with layer="
            )
        if seen[0].shape[2] * seen[0].shape[3] == 1:
            raise InputError(
                f"images of {size[0]}x{size[1]} pixels are smaller than the network's stride: their feature map has a single"
                " cell, so there is no map. Enlarge the images"
            )
        return seen[0], at_least_32(logits)

    def at(self, precision: str) -> Network:
        """The same network at a precision."""
        return dataclasses.replace(self, precision=precision)


def at_least_32(value: Tensor) -> Tensor:
    """The tensor, in float32 where its type is shorter."""
    return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value
