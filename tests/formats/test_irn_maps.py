"""Maps of IRN's code: dicts that numpy pickled, read without pickle's powers."""

import io
import os
import pickle
import struct
import tracemalloc

import numpy as np
import pytest
import torch

from advcam.data import ClassTable
from advcam.errors import DataError, ImageError, StoreError
from advcam.formats import FORMATS, Names
from advcam.formats.irn import load

CLASSES = ClassTable((7, 2, 9), ("dog", "cat", "bird"))
SIZE = (20, 30)


def saved(path, value):
    np.save(path, value, allow_pickle=True)
    return path


def maps(count=2, size=SIZE):
    return np.random.default_rng(0).random((count, *size), dtype=np.float32)


def test_arrays_and_tensors_of_all_kinds(tmp_path):
    rng = np.random.default_rng(1)
    value = {
        "keys": torch.tensor([0, 2]),
        "cam": torch.rand(5, 8, 4).permute(2, 0, 1)[1:3],
        "high_res": maps(),
        "half": rng.random((2, 3)).astype(np.float16),
        "fortran": np.asfortranarray(rng.random((3, 4))),
        "big": rng.random(5).astype(">f8"),
        "flags": np.asarray([True, False]),
        "bfloat": torch.rand(3).bfloat16(),
        "empty": np.zeros((0, 4, 5), np.float32),
        "scalar": np.float64(2.5),
        "number": 3,
        "list": [1, 2],
    }
    found = load(saved(tmp_path / "a.npy", value))
    assert set(found) == set(value)
    for name, expected in value.items():
        plain = expected.float() if name == "bfloat" else expected
        assert np.array_equal(found[name], np.asarray(plain)), name


def test_masks_of_maps(tmp_path):
    high = np.zeros((2, *SIZE), np.float32)
    high[0, 2:6, 3:9], high[1, 4:12, 3:9] = 0.9, 0.6
    saved(tmp_path / "sub_a.npy", {"keys": torch.tensor([0, 2]), "cam": torch.rand(2, 5, 8), "high_res": high})
    (found,) = FORMATS["irn"].read(tmp_path, Names(CLASSES), threshold=0.3)
    assert found.names == ("sub_a",)
    ids = found.draw(SIZE).ids
    expected = np.zeros(SIZE, np.uint8)
    expected[4:12, 3:9], expected[2:6, 3:9] = 9, 7
    assert np.array_equal(ids, expected)
    (found,) = FORMATS["irn"].read(tmp_path, Names(CLASSES), threshold=0.7)
    assert set(np.unique(found.draw(SIZE).ids)) == {0, 7}
    saved(tmp_path / "sub_a.npy", {"keys": np.array([1]), "cam": np.full((1, 5, 8), 0.8)})
    (found,) = FORMATS["irn"].read(tmp_path, Names(CLASSES), threshold=0.3)
    assert (found.draw(SIZE).ids == 2).all(), "maps at stride 4 are enlarged"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"keys": np.array([0]), "cam": maps()}, r"expected keys \[k\] and high_res or cam \[k, h, w\], got keys \[1\], cam"),
        ({"cam": maps()}, "expected keys"),
        ({"keys": np.array([0.0, 1.0]), "cam": maps()}, "expected keys"),
        ({"keys": np.array([0, 3]), "cam": maps()}, r"has the keys \[0, 3\], and the class list has 3 classes"),
        ({"keys": np.array([0, -1]), "cam": maps()}, r"has the keys \[0, -1\]"),
        ({"keys": np.array([0, 1]), "cam": maps(size=(7, 7))}, r"at stride 4, \(5, 8\), got \(7, 7\)"),
        ({"keys": np.array([0, 1]), "cam": maps() * np.nan}, "expected finite maps"),
        ([1, 2], "expected a dict of arrays"),
        ({1: maps()}, "expected a dict of arrays"),
        ({"keys": {"a": 1}}, "expected a dict of arrays"),
        ({"keys": "text"}, "expected a dict of arrays"),
        (maps(), r"expected a dict of arrays, as IRN's code saves it \(an array \(2, 20, 30\) of float32\)"),
    ],
)
def test_what_are_no_maps_of_this_image(value, message, tmp_path):
    saved(tmp_path / "a.npy", value)
    (found,) = FORMATS["irn"].read(tmp_path, Names(CLASSES), threshold=0.3)
    with pytest.raises(ImageError, match=message):
        found.draw(SIZE)


def test_a_folder_without_maps(tmp_path):
    with pytest.raises(DataError, match="expected a folder of maps ID.npy; there is none"):
        list(FORMATS["irn"].read(tmp_path, Names(CLASSES), threshold=0.3))


class Runs:
    def __init__(self, call, *given):
        self.parts = call, given

    def __reduce__(self):
        return self.parts


def npy(data):
    """A .npy file of an object, with these bytes as its pickle."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "|O", "fortran_order": False, "shape": ()})
    return stream.getvalue() + data


@pytest.mark.parametrize("call", [os.system, eval, exec, open, getattr, np.fromfile, np.memmap, np.load, torch.load, print])
def test_a_file_that_would_run_something_is_refused(call, tmp_path):
    touched = tmp_path / "touched"
    for value in ({"keys": Runs(call, f"touch {touched}")}, Runs(call, str(touched), "w")):
        path = tmp_path / "evil.npy"
        path.write_bytes(npy(pickle.dumps(value)))
        with pytest.raises(StoreError, match=r"it names [\w.]+, which is no array"):
            load(path)
        saved(path, value)
        with pytest.raises(StoreError, match=r"it names [\w.]+, which is no array"):
            load(path)
    assert not touched.exists()


MARRAY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntC\x01btR"
HOSTILE = {
    "a name with dots": b"\x80\x04\x8c\x05numpy\x8c\x0ef2py.os.systemx\x93)R.",
    "another module of numpy": b"cnumpy.testing\nrundocs\n)R.",
    "a module of torch": b"ctorch.hub\nload\n)R.",
    "an array that is called": b"cnumpy\nndarray\n((I1000000\nI1000000\nttR.",
    "an array of objects": MARRAY + b"(I1\n(I1\ntcnumpy\ndtype\n(C\x02O8tRI00\n(I1\nltb.",
    "an array larger than its bytes": MARRAY
    + b"(I1\n(I1000000\nI1000000\ntcnumpy\ndtype\n(X\x02\0\0\0f4I00\nI01\ntRI00\nC\x04abcdtb.",
    "a negative side": MARRAY + b"(I1\n(I-1\nI-4\ntcnumpy\ndtype\n(X\x02\0\0\0u1I00\nI01\ntRI00\nC\x04abcdtb.",
    "a type of its own": MARRAY + b"(I1\n(I1\ntcnumpy\ndtype\n(X\x09\0\0\0(9999999)I00\nI01\ntRI00\nC\x04abcdtb.",
    "a huge place in the memo": b"\x80\x04]r\xff\xff\xff\x7f.",
    "a huge length": b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\x00\x00abc.",
    "a huge bytearray": b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x00abc.",
    "a huge frame": b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\x00\x00abc.",
    "a state of a class": b"cnumpy\nndarray\n}X\x0c\0\0\0__setstate__I1\nsb.",
    "a persistent name": b"Psomething\n.",
    "an extension": b"\x82\x01.",
    "a tensor beyond its numbers": pickle.dumps(
        {"cam": Runs(torch._utils._rebuild_tensor_v2, torch.rand(4)._typed_storage(), 0, (10**6, 10**6), (0, 0), False, {})}
    ),
    "a tensor before its numbers": pickle.dumps(
        {"cam": Runs(torch._utils._rebuild_tensor_v2, torch.rand(4)._typed_storage(), -3, (2,), (1,), False, {})}
    ),
    "a tensor that goes on": pickle.dumps(
        {"cam": Runs(torch._utils._rebuild_tensor_v2, torch.rand(4)._typed_storage(), 0, (2,), (1000,), False, {})}
    ),
    "a tensor without bytes": pickle.dumps({"cam": Runs(torch.storage._load_from_bytes, b"no tensor")}),
    "deep nesting": b"(" * 100_000 + b"t" * 100_000 + b".",
    "nothing": b"",
}


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_file_is_an_error_of_ours_and_takes_no_memory(what, tmp_path):
    path = tmp_path / "a.npy"
    path.write_bytes(npy(HOSTILE[what]))
    tracemalloc.start()
    try:
        with pytest.raises(StoreError, match=r"a.npy: expected a dict of arrays"):
            load(path)
        assert tracemalloc.get_traced_memory()[1] < 2**26
    finally:
        tracemalloc.stop()


def test_what_one_file_did_does_not_change_the_next(tmp_path):
    for name in ("a state of a class", "an array of objects"):
        (tmp_path / "evil.npy").write_bytes(npy(HOSTILE[name]))
        with pytest.raises(StoreError):
            load(tmp_path / "evil.npy")
    assert np.array_equal(load(saved(tmp_path / "a.npy", {"cam": maps()}))["cam"], maps())


def test_headers_that_lie(tmp_path):
    path = tmp_path / "a.npy"
    for data in (
        b"", b"\x93NUMPY", b"\x93NUMPY\x01\x00" + struct.pack("<H", 60000) + b"{" * 60000,
        b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**31) + b"{'descr'",
        b"\x93NUMPY\x07\x00\x10\x00",
    ):  # fmt: skip
        path.write_bytes(data)
        with pytest.raises(StoreError, match="expected a dict of arrays"):
            load(path)
    with pytest.raises(StoreError, match="there is no such file of maps"):
        load(tmp_path / "nowhere.npy")
