import contextlib
import pickle

import numpy as np
import pytest

from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.numerics.rois import RoiMap
from xpcs_live_denoise.sources.roi_files import load_mask, load_rois, save_rois

LABELS = np.array([[0, 3, 3], [1, 1, 0]])


class RunsCode:
    """Fails the test when it is unpickled."""

    def __reduce__(self):
        return pytest.fail, ("a pickle was loaded",)


def same(one, other):
    assert one.shape == other.shape
    assert one.slices == other.slices
    for name in ("labels", "q_inv_angstrom", "n_pixels", "pixels"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize("q", [None, [0.01, 0.02], [np.nan, 0.02]])
@pytest.mark.parametrize("name", ["rois.npz", "rois", "rois.v2"])
def test_a_saved_map_comes_back_from_the_same_path(tmp_path, q, name):
    rois = RoiMap.from_labels(LABELS, q_inv_angstrom=q)
    save_rois(rois, tmp_path / name)
    assert [file.name for file in tmp_path.iterdir()] == [name]
    same(load_rois(str(tmp_path / name)), rois)


def test_what_a_mask_removed_stays_removed(tmp_path):
    mask = np.array([[1, 0, 1], [1, 1, 1]])
    rois = RoiMap.from_labels(LABELS, mask=mask)
    save_rois(rois, tmp_path / "rois.npz")
    same(load_rois(tmp_path / "rois.npz"), rois)


def test_saving_replaces_a_file(tmp_path):
    path = tmp_path / "rois.npz"
    path.write_bytes(b"x" * 100_000)
    save_rois(RoiMap.from_labels(LABELS), path)
    np.testing.assert_array_equal(load_rois(path).label_array, LABELS)


def test_q_is_optional_in_a_file(tmp_path):
    np.savez(tmp_path / "rois.npz", label_array=LABELS)
    assert np.isnan(load_rois(tmp_path / "rois.npz").q_inv_angstrom).all()


def test_a_file_needs_labels(tmp_path):
    np.savez(tmp_path / "rois.npz", labels=LABELS, q=[0.1, 0.2])
    with pytest.raises(InvalidInputError, match=r"got the arrays \['labels', 'q'\], expected 'lab"):
        load_rois(tmp_path / "rois.npz")


def test_a_single_array_is_no_roi_file(tmp_path):
    np.save(tmp_path / "rois.npy", LABELS)
    with pytest.raises(InvalidInputError, match=r"got a single array \(\.npy\)"):
        load_rois(tmp_path / "rois.npy")


def test_arrays_that_make_no_map_are_refused_with_the_path(tmp_path):
    np.savez(tmp_path / "rois.npz", label_array=LABELS, q_inv_angstrom=[0.1])
    with pytest.raises(InvalidInputError, match=r"rois\.npz: q list: got shape \(1,\)"):
        load_rois(tmp_path / "rois.npz")


@pytest.mark.parametrize("load", [load_rois, load_mask])
class TestBadFiles:
    def test_a_missing_file_is_named(self, load, tmp_path):
        with pytest.raises(InvalidInputError, match=r"none\.npz: cannot be read \(No such file"):
            load(tmp_path / "none.npz")

    def test_a_folder_is_no_file(self, load, tmp_path):
        with pytest.raises(InvalidInputError, match="cannot be read"):
            load(tmp_path)

    @pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 but no archive"])
    def test_other_content_is_refused(self, load, tmp_path, content):
        (tmp_path / "a.npz").write_bytes(content)
        with pytest.raises(InvalidInputError, match=r"is neither \.npz nor \.npy"):
            load(tmp_path / "a.npz")

    def test_a_pickle_is_refused_and_not_run(self, load, tmp_path):
        (tmp_path / "a.pkl").write_bytes(pickle.dumps([LABELS, RunsCode()]))
        with pytest.raises(InvalidInputError, match="a pickle can run code"):
            load(tmp_path / "a.pkl")

    @pytest.mark.parametrize("key", ["label_array", "mask"])
    def test_pickled_objects_in_an_npz_are_refused_and_not_run(self, load, tmp_path, key):
        content = np.array([[RunsCode()]], dtype=object)
        np.savez(tmp_path / "a.npz", allow_pickle=True, **{key: content})
        with pytest.raises(InvalidInputError, match="pickled objects are not read"):
            load(tmp_path / "a.npz")

    def test_pickled_objects_in_an_npy_are_refused_and_not_run(self, load, tmp_path):
        np.save(tmp_path / "a.npy", np.array([[RunsCode()]], dtype=object))
        with pytest.raises(InvalidInputError, match="pickled objects are not read"):
            load(tmp_path / "a.npy")

    def test_a_truncated_file_is_refused(self, load, tmp_path):
        path = tmp_path / "a.npy"
        np.save(path, np.ones((50, 50)))
        path.write_bytes(path.read_bytes()[:500])
        with pytest.raises(InvalidInputError, match="cannot be used"):
            load(path)

    def test_damage_anywhere_in_a_file_is_refused(self, load, tmp_path):
        path, rng = tmp_path / "a.npz", np.random.default_rng(4)
        np.savez_compressed(path, label_array=np.tile(LABELS, (5, 5)))
        whole = path.read_bytes()
        for _ in range(300):
            damaged = bytearray(whole)
            damaged[rng.integers(len(whole))] = rng.integers(256)
            path.write_bytes(damaged)
            with contextlib.suppress(InvalidInputError):
                load(path)

    def test_a_header_that_never_ends_is_refused(self, load, tmp_path):
        path = tmp_path / "a.npy"
        np.save(path, np.ones((5, 5)))
        path.write_bytes(path.read_bytes().replace(b"}", b"{"))
        with pytest.raises(InvalidInputError, match="cannot be used"):
            load(path)

    def test_a_damaged_archive_is_refused(self, load, tmp_path):
        path = tmp_path / "a.npz"
        np.savez(path, label_array=LABELS, mask=LABELS)
        damaged = bytearray(path.read_bytes())
        damaged[150:200] = bytes(50)
        path.write_bytes(damaged)
        with pytest.raises(InvalidInputError, match="cannot be used"):
            load(path)


@pytest.mark.parametrize("dtype", [bool, np.uint8, int, float])
def test_masks_come_from_npy_and_npz(tmp_path, dtype):
    keep = LABELS > 0
    np.save(tmp_path / "m.npy", keep.astype(dtype))
    np.savez(tmp_path / "one.npz", anything=keep.astype(dtype))
    np.savez_compressed(tmp_path / "named.npz", mask=keep.astype(dtype), other=np.ones(3))
    for name in ("m.npy", "one.npz", "named.npz"):
        mask = load_mask(tmp_path / name)
        assert mask.dtype == bool
        np.testing.assert_array_equal(mask, keep)


def test_masks_that_cannot_be_used_are_refused(tmp_path):
    np.save(tmp_path / "levels.npy", LABELS)
    with pytest.raises(InvalidInputError, match="values other than 0 and 1"):
        load_mask(tmp_path / "levels.npy")
    np.save(tmp_path / "stack.npy", np.ones((2, 3, 3)))
    with pytest.raises(InvalidInputError, match=r"got shape \(2, 3, 3\), expected \(rows, cols\)"):
        load_mask(tmp_path / "stack.npy")
    np.savez(tmp_path / "two.npz", a=np.ones((2, 2)), b=np.ones((2, 2)))
    with pytest.raises(InvalidInputError, match=r"got the arrays \['a', 'b'\], expected one array"):
        load_mask(tmp_path / "two.npz")
    np.savez(tmp_path / "none.npz")
    with pytest.raises(InvalidInputError, match=r"got the arrays \[\], expected one array"):
        load_mask(tmp_path / "none.npz")
