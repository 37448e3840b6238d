"""``advcam export``: writes a trained segmentation network as one file for other programs, compared with the original."""

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

from advcam.data import Channels, Normalisation, scene
from advcam.errors import AdvcamError, NetworkError, SettingsError
from advcam.models.encoders import STRIDE
from advcam.options import Config, option
from advcam.segmenter import Segmenter, read_record
from advcam.store import atomic_write, write_json
from advcam.store.records import NetworkRecord

from .session import Outcome, Session

LIBRARIES = {".onnx": ("onnx", "onnxscript", "onnxruntime"), ".pt2": ()}
"""The file formats, and the libraries that each needs besides torch."""

LEAST = 2 * STRIDE
"""Shortest side of the exported network's input, pixels."""

CLOSE = 1e-3
"""Pixels whose two best logits are closer than this may change their label."""


@dataclass(frozen=True)
class Form:
    """The input that an exported network takes.

    Args:
        size: (H, W) of its images; None is any multiples of 32.
        batch: number of images at once; None is any number.
    """

    size: tuple[int, int] | None
    batch: int | None

    def __str__(self) -> str:
        size = f"{self.size[0]}x{self.size[1]}" if self.size else f"any height and width in multiples of {STRIDE}"
        return f"{size}, {self.batch or 'any number'} at once"

    def inputs(self) -> list[tuple[int, int, int]]:
        """Returns the (N, H, W) that it is tested with; the first is used for the export."""
        sizes = [self.size] * 2 if self.size else [(4 * STRIDE, 5 * STRIDE), (7 * STRIDE, 3 * STRIDE)]
        return [(n if self.batch is None else self.batch, *size) for n, size in zip((2, 1), sizes, strict=True)]

    def dynamic(self) -> dict[int, Any]:
        """Returns the dynamic dimensions."""
        least = LEAST // STRIDE
        sides = {} if self.size else {2: STRIDE * Dim("rows", min=least), 3: STRIDE * Dim("columns", min=least)}
        return ({0: Dim("batch", min=1)} if self.batch is None else {}) | sides


@dataclass(frozen=True, kw_only=True)
class ExportConfig(Config):
    """The network to export, and the output file."""

    model: Path = option(help="folder of the network, RUN/4-segment or RUN/5-semi", flag="model", common=True)
    out: Path = option(help=".onnx, or .pt2 (torch.export); FILE.json beside it tells how it is used", flag="out", common=True)
    size: tuple[int, int] | None = option(
        None, "fixed height and width of the images, multiples of 32; none: any, if the network can be exported so",
        flag="size", common=True, example="512x640",
    )  # fmt: skip


def run(config: ExportConfig, _session: Session) -> Outcome:
    """Exports a trained network as an ONNX or torch.export file, with FILE.json that says how to use it.

    Input ``images`` float32 [N, C, H, W], normalised; output ``logits`` float32 [N, L, H, W]. The file is loaded and run on
    noise and on images, of two sizes and batch sizes: its labels must equal the original's, except where the original's two
    best logits are closer than 0.001. Scales, mirror, windows and CRF are not part of the network, nor of the file.

    Raises:
        SettingsError: an invalid suffix or size, or missing libraries.
        RunError: there is no trained network.
        NetworkError: the network cannot be exported, or the file gives other labels; no file is left.
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
    """Writes both files, or neither; returns a line that describes them."""
    try:
        with atomic_write(out) as temporary:
            try:
                _write(_Logits(segmenter.network), form, len(segmenter.normalise.mean), temporary)
                pixels = _compare(segmenter.network, _opened(temporary), form, segmenter.normalise)
            except AdvcamError:
                raise
            except Exception as error:  # the exporters and runtimes raise anything
                reason = shorten(f"{type(error).__name__}: {error}", 200, placeholder=" ...")
                raise NetworkError(f"the network cannot be exported ({reason})") from error
    except NetworkError as error:
        others = " or ".join(kind for kind in LIBRARIES if kind != out.suffix)
        raise NetworkError(f"{out}: {error}; give an --out that ends in {others}, or another --size") from error
    _describe(out, form, segmenter, record, pixels)
    return f"for {form}; labels compared with the original's on {pixels} pixels"


def _check(out: Path, size: tuple[int, int] | None) -> None:
    if out.suffix not in LIBRARIES:
        raise SettingsError(f"{out}: the suffix chooses the format; known: {', '.join(LIBRARIES)}")
    if size and any(side < LEAST or side % STRIDE for side in size):
        raise SettingsError(
            f"--size is HEIGHTxWIDTH in multiples of {STRIDE}, at least {LEAST}, e.g. 512x640; got {size[0]}x{size[1]}"
        )
    if missing := [name for name in LIBRARIES[out.suffix] if find_spec(name) is None]:
        raise SettingsError(
            f"{out}: ONNX needs {', '.join(missing)}, not installed here: pip install {' '.join(LIBRARIES[out.suffix])};"
            " --out FILE.pt2 needs none of them"
        )


class _Logits(nn.Module):
    """The network, with the file's name for its input."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Float[Tensor, "n b y x"]) -> Float[Tensor, "n l y x"]:
        scores: Tensor = self.network(images)
        return scores


def _write(network: nn.Module, form: Form, channels: int, path: Path) -> None:
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporters' warnings
        n, height, width = form.inputs()[0]
        example = torch.zeros(n, channels, height, width)
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
    """Replaces ``ceil(a / b)`` of sizes (timm's "same" padding), which torch.export cannot save, by ``(a + b - 1) // b``."""
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
    """Compares the file's labels with the network's; returns the number of pixels compared.

    Raises:
        NetworkError: labels differ, or nothing could be compared.
    """
    compared = 0
    for images in _inputs(form, normalise):
        expected, got = network(images).float(), opened(images)
        if got.shape != expected.shape or not bool(got.isfinite().all()):
            raise NetworkError(
                f"the file gives {tuple(got.shape)}, or NaN or infinity; expected finite {tuple(expected.shape)}"
            )
        best = expected.topk(2, dim=1).values
        sure = best[:, 0] - best[:, 1] >= CLOSE
        if wrong := int(((expected.argmax(1) != got.argmax(1)) & sure).sum()):
            raise NetworkError(f"the file gives other labels than the network on {wrong} of {int(sure.sum())} pixels")
        compared += int(sure.sum())
    if not compared:
        raise NetworkError("nothing could be compared: the two best logits are too close everywhere; train the network longer")
    return compared


def _inputs(form: Form, normalise: Normalisation) -> Iterator[Float[Tensor, "n b y x"]]:
    """Yields batches of noise and of generated scenes, of each size; channels are red, green, blue, red, ... of the scenes."""
    random, channels = torch.Generator().manual_seed(0), len(normalise.mean)

    def shown(at: int, size: tuple[int, int]) -> Tensor:
        layers = Image.fromarray(scene(at).image).resize(size).split()
        prepared: Tensor = normalise(Channels([layers[c % 3] for c in range(channels)]))
        return prepared

    for n, height, width in form.inputs():
        yield torch.randn(n, channels, height, width, generator=random)
        yield torch.stack([shown(i, (width, height)) for i in range(n)])


def _describe(out: Path, form: Form, segmenter: Segmenter, record: NetworkRecord, pixels: int) -> None:
    height, width = form.size or (None, None)
    channels = len(segmenter.normalise.mean)
    colours = "RGB" if channels == 3 else "grey" if channels == 1 else "the bands of `reading` in their order"
    write_json(
        out.with_name(f"{out.name}.json"),
        {
            "input": {
                "name": "images",
                "is": f"float32 [N, {channels}, H, W], {colours}, (value / 255 - mean) / std",
                "mean": segmenter.normalise.mean,
                "std": segmenter.normalise.std,
                "batch": form.batch,
                "height": height,
                "width": width,
                "multiple_of": STRIDE,
                "at_least": LEAST,
                "padding": "0 after normalisation, on the right and below; logits are cropped again",
                "long_side": segmenter.long_side,
                "reading": record.reading,
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
