"""Makes torchvision importable beside a CPU-only torch.

The torchvision on PyPI registers meta kernels for ``torchvision::nms`` and ``torchvision::qnms``, whose schemas come
from its compiled extension. Beside a CPU-only torch the extension does not load, the schemas are missing, and
``import torchvision`` fails with "operator torchvision::nms does not exist", taking timm, segmentation-models-pytorch
and torchmetrics with it. Declaring the two schemas first mends the import. The operators themselves stay absent:
torchvision's nms and image decoders do not work here, and advcam uses neither.

Active only where the operators are missing, that is, never beside a matching pair of torch and torchvision.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch

_SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
_kept: list[torch.library.Library] = []  # a schema lives as long as its library object


def register_operators() -> list[str]:
    """Declares the missing schemas, once, and returns the names of those it declared."""
    spec = importlib.util.find_spec("torchvision")
    if _kept or spec is None or spec.origin is None:
        return []
    for binary in (b for suffix in ("so", "pyd") for b in Path(spec.origin).parent.glob(f"_C*.{suffix}")):
        try:
            torch.ops.load_library(str(binary))  # a matching pair: the extension brings the schemas itself
        except OSError:
            continue
    missing = [name for name in _SCHEMAS if not _declared(name)]
    if missing:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in missing:
            library.define(_SCHEMAS[name])
        _kept.append(library)
    return missing


def _declared(name: str) -> bool:
    try:
        getattr(torch.ops.torchvision, name)
    except (AttributeError, RuntimeError):
        return False
    return True
