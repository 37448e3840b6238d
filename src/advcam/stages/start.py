"""What the networks of later steps start from: the run's classifier, trained or still to be trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from advcam.errors import NetworkError
from advcam.models import encoders
from advcam.models.classifiers import Backbone
from advcam.models.weights import State, load_state
from advcam.store import digest

from .context import Context, classifier_record, trained_classifier


@dataclass(frozen=True)
class Start:
    """A backbone and the source of its initial weights; see :func:`advcam.models.encoders.start`.

    Args:
        backbone: the timm network.
        classifier: returns the weights of a classifier on it, or None.
        weights: file of the backbone's weights; None is timm's.
        from_scratch: start from random weights if there is neither.
        network: builds the classifier, trained or before its training.
        hint: advice if the weights do not fit, for the message.
    """

    backbone: Backbone
    classifier: Callable[[], State | None]
    weights: str | None
    from_scratch: bool
    network: Callable[[], nn.Module]
    hint: str = ""

    @property
    def untrained(self) -> bool:
        """Whether it starts from random weights, so that its BatchNorm must be trained."""
        return self.from_scratch and self.classifier() is None

    def give(self, network: nn.Module) -> None:
        """Loads the initial weights into a network's encoder.

        Raises:
            NetworkError: the weights do not fit, or the hub cannot be reached.
        """
        try:
            encoders.start(network, self.backbone, self.classifier(), self.weights, self.from_scratch)
        except NetworkError as error:
            raise NetworkError(f"{error}{self.hint}") from None


def weights_digest(weights: str, hint: str = "") -> str:
    """A hash of what a file of weights holds; empty for no file.

    Raises:
        NetworkError: there is no such file.
    """
    if weights and not Path(weights).is_file():
        raise NetworkError(f"{weights}: there is no such file of weights{hint}")
    return weights and digest(Path(weights).read_bytes().hex())


def trained_start(context: Context) -> Start:
    """Returns what networks start from once the classify step is done."""
    made = classifier_record(context.run)
    backbone = Backbone.from_record(made.backbone)
    state = (lambda: None) if made.own else (lambda: load_state(context.run.classifier()))
    return Start(backbone, state, made.weights, made.from_scratch, lambda: trained_classifier(context)[0])
