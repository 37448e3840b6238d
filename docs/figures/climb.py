"""Figures of the concepts page: how the sum of maps grows, and what each term of the published objective does.

    python docs/figures/climb.py PHOTOGRAPH WEIGHTS

The arguments are those of ``photograph.py``. Writes ``growth.jpg`` and ``terms.jpg`` beside this file.
"""

import sys
from pathlib import Path

import advcam  # isort: skip  (before timm)
import numpy as np
import torch
from photograph import CAT, SIDE, network, overlay
from PIL import Image

SUMS = (1, 2, 4, 8)
TERMS: dict[str, float] = {"suppress": 0.0, "restrain": 0.0}


def main(photograph: str, weights: str) -> None:
    """Draws both figures."""
    found = Image.open(photograph).convert("RGB")
    shown = np.array(found.resize((SIDE, round(SIDE * found.height / found.width))))
    given, model = torch.from_numpy(shown).permute(2, 0, 1)[None] / 127.5 - 1, network(weights)

    def sums(steps: int, **settings: object) -> np.ndarray:
        return overlay(shown, advcam.AdvCAM(model, steps=steps, **settings)(given, [[CAT]]).normalised(shown.shape[:2])[0])

    published = {"preset": "official", "scales": (1.0,), "mirror": False, "step_size": 0.034}
    both = advcam.PRESETS["official"]
    changes = (TERMS, TERMS | {"suppress": both["suppress"]}, TERMS | {"restrain": both["restrain"]}, {})
    figures = {
        "growth": [sums(t, step_size=0.01) for t in SUMS],
        "terms": [sums(1, **published), *(sums(27, **published, **change) for change in changes)],
    }
    for name, panels in figures.items():
        Image.fromarray(np.concatenate(panels, 1)).save(Path(__file__).with_name(f"{name}.jpg"), quality=85)


if __name__ == "__main__":
    main(*sys.argv[1:])
