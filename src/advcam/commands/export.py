"""A trained segmentation network -> one file that other programs run, compared with the original before it is left there."""

from __future__ import annotations

import math
import operator
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from advcam.data import Normalisation, scene
from advcam.errors import AdvcamError, NetworkError, SettingsError
from advcam.models.encoders import STRIDE
from advcam.options import Config, option
from advcam.segmenter import Segmenter, read_record
from advcam.store import atomic_write, write_json
from advcam.store.records import NetworkRecord

from .session import Outcome, Session

LIBRARIES = {".onnx": ("onnx", "onnxscript", "onnxruntime"), ".pt2": ()}
"""The kinds of files, and what each needs beside torch."""

LEAST = 2 * STRIDE
"""Shortest side of what the file takes, pixels."""

CLOSE = 1e-3
"""Pixels whose two best logits are closer may get the other label."""


@dataclass(frozen=True)
class Form:
    """What a file takes.

    Args:
        size: (H, W) of its images; None is any multiples of 32.
        batch: how many at once; None is any number.
    """

    size: tuple[int, int] | None
    batch: int | None

    def __str__(self) -> str:
        size = f"{self.size[0]}x{self.size[1]}" if self.size else f"any height and width in multiples of {STRIDE}"
        return f"{size}, {self.batch or 'any number'} at once"

    def inputs(self) -> list[tuple[int, int, int]]:
        """(N, H, W) that it is tried with; the first is what it is made from."""
        sizes = [self.size] * 2 if self.size else [(4 * STRIDE, 5 * STRIDE), (7 * STRIDE, 3 * STRIDE)]
        return [(n if self.batch is None else self.batch, *size) for n, size in zip((2, 1), sizes, strict=True)]

    def dynamic(self) -> dict[int, Any]:
        """The dimensions that are left open."""
        least = LEAST // STRIDE
        sides = {} if self.size else {2: STRIDE * Dim("rows", min=least), 3: STRIDE * Dim("columns", min=least)}
        return ({0: Dim("batch", min=1)} if self.batch is None else {}) | sides


@dataclass(frozen=True, kw_only=True)
class ExportConfig(Config):
    """Which network becomes which file."""

    model: Path = option(help="folder of the network, RUN/4-segment or RUN/5-semi", flag="model", common=True)
    out: Path = option(help=".onnx, or .pt2 (torch.export); FILE.json beside it tells how it is used", flag="out", common=True)
    size: tuple[int, int] | None = option(
        None, "height and width, multiples of 32, of the only images that it takes; none: of any, where it can be written so",
        flag="size", common=True, example="512x640",
    )  # fmt: skip


def run(config: ExportConfig, _session: Session) -> Outcome:
    """Writes the network of a run's segment step as ONNX or torch.export file, and FILE.json that tells how it is used.

    Input ``images`` float32 [N, 3, H, W], normalised RGB; output ``logits`` float32 [N, L, H, W]. The file is opened again
    and run on noise and on images, of two sizes and numbers: labels must be those of the original, but where its two best
    logits are closer than 0.001. Scales, mirror, windows and CRF are not part of the network, nor of the file.

    Raises:
        SettingsError: another suffix or size, or libraries that are not there.
        RunError: no trained network.
        NetworkError: it cannot be written so, or gives other labels; no file is left.
    """
    out, size = config.out, config.size
    _check(out, size)
    segmenter, record = Segmenter.load(config.model, torch.device("cpu")), read_record(config.model)
    side = -(-max(segmenter.long_side, LEAST) // STRIDE) * STRIDE
    *others, last = [Form(taken, batch) for taken in ((size,) if size else (None, (side, side))) for batch in (None, 1)]
    lines: list[str] = []
    for form in others:
        try:
            return Outcome(f"network: {out}", [*lines, _made(out, form, segmenter, record)])
        except NetworkError as error:
            lines.append(f"not for {form}: {error}")
    return Outcome(f"network: {out}", [*lines, _made(out, last, segmenter, record)])


def _made(out: Path, form: Form, segmenter: Segmenter, record: NetworkRecord) -> str:
    """Writes both files, or neither; says what was written."""
    try:
        with atomic_write(out) as temporary:
            try:
                _write(_Logits(segmenter.network), form, temporary)
                pixels = _compare(segmenter.network, _opened(temporary), form, segmenter.normalise)
            except AdvcamError:
                raise
            except Exception as error:  # the exporters and runtimes raise anything
                reason = shorten(f"{type(error).__name__}: {error}", 200, placeholder=" ...")
                raise NetworkError(f"the network cannot be written so ({reason})") from error
    except NetworkError as error:
        others = " or ".join(kind for kind in LIBRARIES if kind != out.suffix)
        raise NetworkError(f"{out}: {error}; give an --out that ends in {others}, or another --size") from error
    _describe(out, form, segmenter, record, pixels)
    return f"for {form}; labels compared with the original's on {pixels} pixels"


def _check(out: Path, size: tuple[int, int] | None) -> None:
    if out.suffix not in LIBRARIES:
        raise SettingsError(f"{out}: the suffix says what is written; known: {', '.join(LIBRARIES)}")
    if size and any(side < LEAST or side % STRIDE for side in size):
        raise SettingsError(
            f"--size is HEIGHTxWIDTH in multiples of {STRIDE}, at least {LEAST}, e.g. 512x640; got {size[0]}x{size[1]}"
        )
    if missing := [name for name in LIBRARIES[out.suffix] if find_spec(name) is None]:
        raise SettingsError(
            f"{out}: ONNX needs {', '.join(missing)}, not installed here: pip install {' '.join(LIBRARIES[out.suffix])};"
            " --out FILE.pt2 needs nothing"
        )


class _Logits(nn.Module):
    """The network, with the name that the file gives its input."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Float[Tensor, "n 3 y x"]) -> Float[Tensor, "n l y x"]:
        scores: Tensor = self.network(images)
        return scores


def _write(network: nn.Module, form: Form, path: Path) -> None:
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of the exporters, about themselves
        n, height, width = form.inputs()[0]
        example = torch.zeros(n, 3, height, width)
        program = torch.export.export(network.eval(), (example,), dynamic_shapes={"images": form.dynamic()}, strict=False)
        _whole_numbers(program)
        if path.suffix == ".pt2":
            torch.export.save(program, path)
        else:
            torch.onnx.export(
                program, (), path, dynamo=True, external_data=False, verbose=False,
                input_names=["images"], output_names=["logits"],
            )  # fmt: skip


def _whole_numbers(program: ExportedProgram) -> None:
    """``ceil(a / b)`` of sizes, which timm's "same" padding has and torch.export cannot save, becomes ``(a + b - 1) // b``."""
    graph = program.graph_module.graph
    for node in [n for n in graph.nodes if n.target is math.ceil and getattr(n.args[0], "target", None) is operator.truediv]:
        a, b = node.args[0].args
        if not isinstance(a, torch.fx.Node) or not isinstance(b, int):
            continue
        with graph.inserting_before(node):
            more = graph.call_function(operator.add, (a, b - 1))
            less = graph.call_function(operator.floordiv, (more, b))
        more.meta["val"] = a.meta["val"] + b - 1
        less.meta["val"] = more.meta["val"] // b
        node.replace_all_uses_with(less)
        graph.erase_node(node)
    graph.eliminate_dead_code()
    program.graph_module.recompile()


def _opened(path: Path) -> Callable[[Tensor], Tensor]:
    if path.suffix == ".pt2":
        module: Callable[[Tensor], Tensor] = torch.export.load(path).module()
        return module
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(["logits"], {"images": images.numpy()})[0])


@torch.no_grad()
def _compare(network: nn.Module, opened: Callable[[Tensor], Tensor], form: Form, normalise: Normalisation) -> int:
    """The number of pixels whose labels were compared.

    Raises:
        NetworkError: some are others.
    """
    compared = 0
    for images in _inputs(form, normalise):
        expected, got = network(images).float(), opened(images)
        if got.shape != expected.shape or not bool(got.isfinite().all()):
            raise NetworkError(f"the file gives {tuple(got.shape)} or numbers that are none, expected {tuple(expected.shape)}")
        best = expected.topk(2, dim=1).values
        sure = best[:, 0] - best[:, 1] >= CLOSE
        if wrong := int(((expected.argmax(1) != got.argmax(1)) & sure).sum()):
            raise NetworkError(f"the file gives other labels than the network on {wrong} of {int(sure.sum())} pixels")
        compared += int(sure.sum())
    if not compared:
        raise NetworkError("nothing could be compared: nowhere do the two best logits lie apart; train the network longer")
    return compared


def _inputs(form: Form, normalise: Normalisation) -> Iterator[Float[Tensor, "n 3 y x"]]:
    """Noise and generated scenes, of each size."""
    random = torch.Generator().manual_seed(0)
    for n, height, width in form.inputs():
        yield torch.randn(n, 3, height, width, generator=random)
        yield torch.stack([normalise(Image.fromarray(scene(i).image).resize((width, height))) for i in range(n)])


def _describe(out: Path, form: Form, segmenter: Segmenter, record: NetworkRecord, pixels: int) -> None:
    height, width = form.size or (None, None)
    write_json(
        out.with_name(f"{out.name}.json"),
        {
            "input": {
                "name": "images",
                "is": "float32 [N, 3, H, W], RGB, (value / 255 - mean) / std",
                "mean": segmenter.normalise.mean,
                "std": segmenter.normalise.std,
                "batch": form.batch,
                "height": height,
                "width": width,
                "multiple_of": STRIDE,
                "at_least": LEAST,
                "padding": "normalised, 0 on the right and below; logits are cut again",
                "long_side": segmenter.long_side,
            },
            "output": {
                "name": "logits",
                "is": "float32 [N, L, H, W]; the label of a pixel is ids[argmax over L]",
                "ids": segmenter.ids.tolist(),
                "names": ["background", *(c["name"] for c in record.classes)],
            },
            "compared_pixels": pixels,
        },
    )
