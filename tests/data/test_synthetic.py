"""The scenes are what they are said to be."""

import numpy as np
import pytest

from advcam.data import SceneSettings, load, scene
from advcam.errors import SettingsError


def test_the_same_seed_gives_the_same_scene():
    assert np.array_equal(scene((3, 4)).image, scene((3, 4)).image)
    assert not np.array_equal(scene((3, 4)).image, scene((3, 5)).image)


def test_truth_of_object_and_part():
    scenes = [scene(seed) for seed in range(40)]
    assert {label for made in scenes for label in made.labels} == {1, 2, 3, 4, 5}
    assert {len(made.labels) for made in scenes} == {1, 2}
    for made in scenes:
        assert set(np.unique(made.mask)) - {0} == set(made.labels)
        assert ((made.part == 0) | (made.part == made.mask)).all()
    part, whole = (sum(int((getattr(made, name) > 0).sum()) for made in scenes) for name in ("part", "mask"))
    assert 0.03 < part / whole < 0.2  # small telling parts, larger bodies


def test_the_part_reaches_the_ends_of_the_range_and_the_body_does_not():
    made = scene(0, SceneSettings(hidden=0.0))
    part, rest = made.image[made.part > 0], made.image[made.part == 0]
    assert (part.min(), part.max()) == (0, 255)
    assert np.percentile(rest, 1) > 20
    assert np.percentile(rest, 99) < 235


def test_two_objects_of_one_class():
    scenes = [scene(seed, SceneSettings(same=1.0)) for seed in range(20)]
    assert {len(made.labels) for made in scenes} == {1}
    assert {int(made.instances.max()) for made in scenes} == {1, 2}
    for made in scenes:
        assert ((made.instances > 0) == (made.mask > 0)).all()


@pytest.mark.parametrize("seed", [3, 4, 7])
def test_of_one_object_no_second_can_be_the_same(seed):
    plain, same = scene(seed), scene(seed, SceneSettings(same=1.0))
    assert plain.instances.max() == 1
    assert np.array_equal(plain.image, same.image)
    assert np.array_equal(plain.instances, same.instances)


def test_written_as_a_data_set(scenes):
    data = load(scenes / "images", scenes / "labels.csv", scenes / "classes.csv", scenes / "train.txt", scenes / "eval.txt")
    assert (len(data.train), len(data.eval), len(data.classes)) == (16, 8, 5)
    assert not data.skipped


def test_too_small():
    with pytest.raises(SettingsError, match="at least 32 pixels"):
        SceneSettings(size=8)
