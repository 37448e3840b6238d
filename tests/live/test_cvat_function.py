"""The function that CVAT's command line loads. The package itself checks it where it is installed."""

import logging
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from advcam.errors import SettingsError
from advcam.live.cvat import create


def test_without_the_package_it_says_what_to_install(finished, monkeypatch):
    monkeypatch.setitem(sys.modules, "cvat_sdk", None)
    with pytest.raises(SettingsError, match=r"pip install 'advcam\[cvat\]'"):
        create(str(finished))


@pytest.fixture(scope="module")
def function(finished):
    pytest.importorskip("cvat_sdk.auto_annotation", reason="cvat-sdk is not installed (extra cvat)")
    loader = pytest.importorskip("cvat_cli._internal.common", reason="cvat-cli is not installed")
    return loader.FunctionLoader("advcam.live.cvat", None, {"run": str(finished), "of": "masks"}).load()


def asked(name, least=None, polygons=False):
    return SimpleNamespace(frame_name=name, conf_threshold=least, conv_mask_to_poly=polygons)


def images(function):
    for item in function._annotator.context.data.items[:12]:
        with Image.open(item.path) as image:
            yield item.path.name, image.convert("RGB")


def test_labels_are_the_runs_classes(function):
    labels = [(label.id, label.name, str(label.type)) for label in function.spec.labels]
    assert labels == [(1, "cross", "mask"), (2, "dots", "mask"), (3, "quarters", "mask"), (4, "ring", "mask"),
                      (5, "triangle", "mask")]  # fmt: skip


def test_masks_come_back_pixel_for_pixel_with_their_scores(function):
    from cvat_sdk.masks import decode_mask

    for name, image in images(function):
        found, back = function._annotator(image, name), np.zeros((image.height, image.width), np.uint8)
        for shape in function.detect(asked(name), image):
            assert shape.score == found.scores[shape.label_id]
            back[decode_mask(shape.points, image_width=image.width, image_height=image.height)] = shape.label_id
        assert np.array_equal(back, np.where(found.ids == 255, 0, found.ids))


@pytest.mark.parametrize("polygons", [False, True])
def test_cvats_own_checks_accept_every_shape(function, polygons):
    from cvat_sdk.auto_annotation.driver import _AnnotationMapper

    kind = "polygon" if polygons else "mask"
    theirs = [
        SimpleNamespace(id=100 + label.id, name=label.name, type=kind, attributes=[], sublabels=[])
        for label in function.spec.labels
    ]
    mapper = _AnnotationMapper(
        logging.getLogger(), function.spec.labels, theirs, allow_unmatched_labels=False, conv_mask_to_poly=polygons
    )
    seen = 0
    for name, image in images(function):
        shapes = function.detect(asked(name, polygons=polygons), image)
        mapper.validate_and_remap(shapes, 7)
        assert all(str(shape.type) == kind and shape.label_id > 100 and shape.frame == 7 for shape in shapes)
        seen += len(shapes)
    assert seen > 5


def test_shapes_below_the_least_score_are_left_out(function):
    name, image = next(images(function))
    scores = {shape.score for shape in function.detect(asked(name), image)}
    assert scores
    assert not function.detect(asked(name, max(scores) + 1e-6), image)
    assert {shape.score for shape in function.detect(asked(name, max(scores)), image)} == {max(scores)}
