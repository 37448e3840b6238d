"""Where the networks that later steps train start from: the run's classifier, trained or to be trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from advcam.errors import NetworkError
from advcam.models import encoders
from advcam.models.classifiers import Backbone
from advcam.models.weights import State, load_state

from .context import Context, classifier_record


@dataclass(frozen=True)
class Start:
    """A backbone, and what gives it its weights; see :func:`advcam.models.encoders.start`.

    Args:
        backbone: the timm network.
        classifier: gives the weights of a classifier on it, or None.
        weights: file of the backbone's weights; None takes timm's.
        from_scratch: start from nothing where there is neither.
        hint: what can be done where weights do not fit, for the message.
    """

    backbone: Backbone
    classifier: Callable[[], State | None]
    weights: str | None
    from_scratch: bool
    hint: str = ""

    @property
    def untrained(self) -> bool:
        """Whether it starts from random weights: its BatchNorm must then be trained."""
        return self.from_scratch and self.classifier() is None

    def give(self, network: nn.Module) -> None:
        """Gives a network's encoder its weights.

        Raises:
            NetworkError: weights that do not fit, or a hub that cannot be reached.
        """
        try:
            encoders.start(network, self.backbone, self.classifier(), self.weights, self.from_scratch)
        except NetworkError as error:
            raise NetworkError(f"{error}{self.hint}") from None


def trained_start(context: Context) -> Start:
    """What the networks start from once the classify step is done."""
    made = classifier_record(context.run)
    backbone = Backbone.from_record(made.backbone)
    state = (lambda: None) if made.own else (lambda: load_state(context.run.classifier()))
    return Start(backbone, state, made.weights, made.from_scratch)
