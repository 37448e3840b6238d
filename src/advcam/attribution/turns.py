"""Which climbs share a backward pass: known before the first step, so that no step waits for a device to say it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor


@dataclass(frozen=True)
class Turns:
    """Climbs of images, in turns of which each takes at most one climb of every image.

    Args:
        images: how many images there are.
        rows: int [C], the image of each climb; None where climb c is the only one of image c.
        parts: for each turn its climbs and their images; empty where one turn takes all.
        order: int [C], where each climb stands in ``parts``.

    Source: ours.
    """

    images: int
    rows: Int[Tensor, " c"] | None = None
    parts: tuple[tuple[Tensor, Tensor], ...] = ()
    order: Int[Tensor, " c"] | None = None

    @classmethod
    def of(cls, rows: Int[Tensor, " c"], images: int, device: torch.device) -> Turns:
        """The turns of climbs whose images are given.

        Args:
            rows: int [C], 0 to ``images`` - 1, best on the CPU: they are read here.
            images: how many images there are.
            device: of the climb.
        """
        listed, earlier = rows.tolist(), Counter[int]()
        turns: list[list[int]] = []
        for climb, row in enumerate(listed):
            if earlier[row] == len(turns):
                turns.append([])
            turns[earlier[row]].append(climb)
            earlier[row] += 1

        def there(values: list[int]) -> Tensor:
            return torch.tensor(values, dtype=torch.long).to(device)

        if len(turns) <= 1:
            return cls(images, there(listed))
        climbs = [climb for turn in turns for climb in turn]
        order = sorted(range(len(climbs)), key=climbs.__getitem__)
        parts = tuple((there(turn), there([listed[climb] for climb in turn])) for turn in turns)
        return cls(images, there(listed), parts, there(order))

    def each(self, of_images: Tensor) -> Tensor:
        """What each climb has of what its image has: [N, ...] to [C, ...]."""
        return of_images if self.rows is None else of_images[self.rows]
