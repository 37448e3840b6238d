"""Average precision of instance masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Integer
from torch import Tensor

from advcam.errors import InputError
from advcam.expect import expect_list, expect_number, expect_tensor

IOUS = (0.25, 0.5, 0.75)


@dataclass(frozen=True)
class InstanceCounts:
    """Predicted instances, which of them are hits, and the true instances; the counts of several images add.

    Args:
        ious: T IoU thresholds, in (0, 1], from which a prediction is a hit.
        scores: float [p], the confidence of every prediction.
        predicted: int64 [p], its class id.
        hits: bool [T, p], whether it is a hit.
        truth: int64 [t], the class id of every true instance.

    Source: PASCAL VOC (2010 and later), as :func:`match_instances`.

    Example:
        >>> hits = torch.tensor([[True, False]])
        >>> counts = InstanceCounts((0.5,), torch.tensor([0.9, 0.6]), torch.tensor([3, 3]), hits, torch.tensor([3, 3]))
        >>> (counts + counts).mean_average_precision().item()
        0.5
    """

    ious: tuple[float, ...]
    scores: Float[Tensor, " p"]
    predicted: Int[Tensor, " p"]
    hits: Bool[Tensor, "l p"]
    truth: Int[Tensor, " t"]

    def __add__(self, other: InstanceCounts) -> InstanceCounts:
        if self.ious != other.ious:
            raise InputError(
                f"counts at the IoUs {self.ious} and {other.ious} cannot be added: match all images at the same ones"
            )
        pairs = (
            (self.scores, other.scores),
            (self.predicted, other.predicted),
            (self.hits, other.hits),
            (self.truth, other.truth),
        )
        return InstanceCounts(self.ious, *(torch.cat(pair, -1) for pair in pairs))

    @property
    def classes(self) -> tuple[int, ...]:
        """The ids of the classes with a true instance, ascending: the columns of :meth:`average_precision`."""
        return tuple(self.truth.unique().tolist())

    def average_precision(self) -> Float[Tensor, "l c"]:
        """The area under precision, made monotone, over recall, for each IoU threshold and class (VOC 2010 and later).

        Equal scores keep the order in which their images were added.

        Returns:
            float64 [T, classes] in [0, 1].
        """
        areas = self.hits.new_zeros(len(self.ious), len(self.classes), dtype=torch.float64)
        for column, class_id in enumerate(self.classes):
            mine = self.predicted == class_id
            order = self.scores[mine].argsort(descending=True, stable=True)
            found = self.hits[:, mine][:, order].double()
            precision = found.cumsum(1) / torch.arange(1, found.shape[1] + 1, device=found.device)
            if found.shape[1]:  # each hit adds 1 / (true instances) of recall, at the best precision from there on
                best = precision.flip(1).cummax(1).values.flip(1)
                areas[:, column] = (best * found).sum(1) / (self.truth == class_id).sum()
        return areas

    def mean_average_precision(self) -> Float[Tensor, " l"]:
        """The mean of :meth:`average_precision` over :attr:`classes`.

        Returns:
            float64 [T] in [0, 1]; NaN where there is no true instance.
        """
        return self.average_precision().mean(1)


def match_instances(
    masks: Bool[Tensor, "p y x"],
    classes: Integer[Tensor, " p"],
    scores: Float[Tensor, " p"],
    truth_masks: Bool[Tensor, "t y x"],
    truth_classes: Integer[Tensor, " t"],
    ious: Sequence[float] = IOUS,
    ignore: Bool[Tensor, "y x"] | None = None,
) -> InstanceCounts:
    """Match the predicted instances of one image with its true ones.

    In order of score, a prediction is a hit if the true instance of its class that it overlaps most has at least the IoU asked
    for, and was not hit before.

    Args:
        masks: bool [p, H, W], predicted instances.
        classes: integers [p], their class ids.
        scores: float [p], their confidences; only the order counts.
        truth_masks: bool [t, H, W], true instances.
        truth_classes: integers [t], their class ids.
        ious: T IoU thresholds, in (0, 1].
        ignore: bool [H, W], pixels that do not count; instances that lie there wholly are left out on both sides.

    Returns:
        The counts of this image.

    Raises:
        InputError: sizes or numbers that do not fit, masks that are not boolean, scores that are NaN, thresholds outside (0,
            1].

    Source: PASCAL VOC (2010 and later).

    Example:
        >>> masks = torch.tensor([[[1, 1, 0, 0]], [[1, 1, 1, 0]]]).bool()
        >>> found = match_instances(masks, torch.tensor([3, 3]), torch.tensor([0.9, 0.6]), masks[1:], torch.tensor([3]))
        >>> found.classes, [round(ap, 2) for ap in found.average_precision()[:, 0].tolist()]  # the better mask came second
        ((3,), [1.0, 1.0, 0.5])
    """
    ious = tuple(expect_list(ious, "ious"))
    for each in ious:
        expect_number(each, "an IoU")
    _check(masks, classes, scores, truth_masks, truth_classes, ious, ignore)
    ious = tuple(map(float, ious))
    if ignore is not None:
        masks, truth_masks = masks & ~ignore, truth_masks & ~ignore
    left, there = masks.flatten(1).any(1), truth_masks.flatten(1).any(1)
    order = scores.masked_fill(~left, -torch.inf).argsort(descending=True, stable=True)[: int(left.sum())]
    classes, scores, truth_classes = classes[order].long(), scores[order], truth_classes[there].long()
    hits = torch.zeros(len(ious), len(order), dtype=torch.bool, device=masks.device)
    if hits.numel() and len(truth_classes):
        overlap = _iou(masks[order], truth_masks[there]) * (classes[:, None] == truth_classes)
        value, nearest = overlap.max(1)
        earlier = (nearest[:, None] == nearest).tril(-1)
        for row, least in zip(hits, ious, strict=True):
            enough = value >= least
            row |= enough & ~(earlier & enough).any(1)
    return InstanceCounts(tuple(ious), scores, classes, hits, truth_classes)


def _iou(masks: Bool[Tensor, "p y x"], others: Bool[Tensor, "t y x"]) -> Float[Tensor, "p t"]:
    a, b = masks.flatten(1).double(), others.flatten(1).double()
    both = a @ b.T
    return both / (a.sum(1)[:, None] + b.sum(1) - both)


def _check(
    masks: Tensor,
    classes: Tensor,
    scores: Tensor,
    truth_masks: Tensor,
    truth_classes: Tensor,
    ious: Sequence[float],
    ignore: Tensor | None,
) -> None:
    """Raise InputError on what :func:`match_instances` does not take."""
    expect_tensor(masks, "masks", "numbers or booleans")
    expect_tensor(truth_masks, "truth_masks", "numbers or booleans", beside=masks)
    expect_tensor(classes, "classes", "whole numbers", beside=masks)
    expect_tensor(scores, "scores", beside=masks)
    expect_tensor(truth_classes, "truth_classes", "whole numbers", beside=masks)
    if masks.ndim != 3 or truth_masks.ndim != 3 or masks.shape[1:] != truth_masks.shape[1:]:
        raise InputError(f"masks {tuple(masks.shape)} and truth {tuple(truth_masks.shape)}: expected [p, H, W] and [t, H, W]")
    if masks.dtype != torch.bool or truth_masks.dtype != torch.bool:
        raise InputError(f"masks are {masks.dtype} and truth {truth_masks.dtype}: expected booleans, one mask an instance")
    if classes.shape != masks.shape[:1] or scores.shape != masks.shape[:1] or truth_classes.shape != truth_masks.shape[:1]:
        raise InputError(
            f"{len(masks)} masks need as many classes and scores, got {tuple(classes.shape)} and {tuple(scores.shape)}; "
            f"{len(truth_masks)} true masks as many classes, got {tuple(truth_classes.shape)}"
        )
    if scores.isnan().any():
        raise InputError("the scores hold NaN: they cannot be sorted; expected a number for each mask")
    if not len(ious) or not all(0 < least <= 1 for least in ious):
        raise InputError(f"ious {tuple(ious)}: expected overlaps above 0, up to 1")
    if ignore is not None:
        expect_tensor(ignore, "ignore", "numbers or booleans", beside=masks)
    if ignore is not None and (ignore.shape != masks.shape[1:] or ignore.dtype != torch.bool):
        raise InputError(f"ignore {tuple(ignore.shape)} of {ignore.dtype}: expected booleans {tuple(masks.shape[1:])}")
