"""FrameReader: legacy assets, by the handlers of installed packages."""

from __future__ import annotations

import contextlib
import os
import threading
import tracemalloc
from typing import Any

import dask.array
import h5py
import numpy as np
import pytest

from tests.support.file_roots import ANYWHERE
from xpcs_live_denoise.errors import UnreadableFramesError
from xpcs_live_denoise.records.frames import AssetFrames
from xpcs_live_denoise.sources.file_roots import FileRoots
from xpcs_live_denoise.sources.frames import FrameReader
from xpcs_live_denoise.sources.handlers import MOST_HANDLERS, AssetReader

FRAMES = np.random.default_rng(4).poisson(3.0, (30, 4, 6)).astype("u2")
FRAME_BYTES = 48
LARGE = 10**9


def write(path, frames=FRAMES, dataset="/entry/data/data"):
    """Write a file as areaDetector's HDF5 plugin does."""
    with h5py.File(path, "w") as file:
        file.create_dataset(dataset, data=frames, chunks=(1, *frames.shape[1:]))


def asset(path, where, *, spec="AD_HDF5", n_frames=1, root="", uid="r", **options):
    resource = {
        "uid": uid,
        "spec": spec,
        "root": str(root),
        "resource_path": str(path),
        "resource_kwargs": options,
    }
    datum = {"datum_id": f"{uid}/0", "resource": uid, "datum_kwargs": where}
    return AssetFrames(resource=resource, datum=datum, n_frames=n_frames)


@pytest.fixture
def reader():
    with contextlib.closing(FrameReader(roots=ANYWHERE, timeout_s=0.05)) as reader:
        yield reader


def handled(handler: Any, **options: Any) -> AssetReader:
    options = {"timeout_s": 0.0, "roots": ANYWHERE, **options}
    return AssetReader(find_handler=lambda spec: handler, **options)


def read(reader, reference, max_bytes=LARGE):
    return np.concatenate(list(reader.read(reference, max_bytes)))


def test_a_file_of_areadetector_is_read_by_its_handler(tmp_path, reader):
    write(tmp_path / "a.h5")
    for point in (0, 2, 1):
        reference = asset("a.h5", {"point_number": point}, root=tmp_path, frame_per_point=10)
        expected = FRAMES[10 * point : 10 * point + 10]
        np.testing.assert_array_equal(read(reader, reference), expected)


def test_tiff_files_are_read_by_their_handler(tmp_path, reader):
    import tifffile

    for index, frame in enumerate(FRAMES[:6]):
        tifffile.imwrite(tmp_path / f"img_{index:03d}.tif", frame)
    options = {"template": "%s%s_%03d.tif", "filename": "img", "frame_per_point": 3}
    reference = asset(tmp_path, {"point_number": 1}, spec="AD_TIFF", **options)
    np.testing.assert_array_equal(read(reader, reference), FRAMES[3:6])
    restricted = FrameReader(timeout_s=0.0, roots=FileRoots([tmp_path / "other"]))
    with pytest.raises(UnreadableFramesError, match="not below a folder"):
        read(restricted, reference)


def test_what_a_handler_gives_lazily_is_computed_in_blocks():
    computed = []

    def block(block_info):
        computed.append(1)
        first, last = block_info[None]["array-location"][0]
        return FRAMES[first:last]

    lazy = dask.array.map_blocks(block, chunks=((1,) * 30, (4,), (6,)), dtype="u2", meta=FRAMES[:0])
    reader = handled(lambda path: lambda: lazy)
    blocks = reader.read(asset("a", {}), 7 * FRAME_BYTES)
    np.testing.assert_array_equal(next(blocks), FRAMES[:7])
    assert len(computed) == 7
    assert [len(block) for block in blocks] == [7, 7, 7, 2]


def test_an_event_of_many_frames_takes_the_memory_of_a_block(tmp_path, reader):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("/entry/data/data", (4000, 64, 64), "u2", chunks=(1, 64, 64))
        file["/entry/data/data"][::500] = 1  # 33 MB in all
    many = asset(tmp_path / "a.h5", {"point_number": 0}, n_frames=4000, frame_per_point=4000)
    next(reader.read(many, 2**20))  # imports and caches are no part of it
    tracemalloc.start()
    n_frames = sum(len(block) for block in reader.read(many, 2**20))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert n_frames == 4000
    assert peak < 8 * 2**20


@pytest.mark.parametrize("value", [FRAMES[0], FRAMES[0].tolist()])
def test_one_frame_may_come_without_its_axis(value):
    reader = handled(lambda path: lambda: value)
    np.testing.assert_array_equal(read(reader, asset("a", {})), FRAMES[:1])


@pytest.mark.parametrize(
    "value", [np.zeros(3), np.zeros((0, 4, 6)), np.zeros((2, 4, 6), complex), None, "text"]
)
def test_what_is_no_frames_is_refused(value):
    with pytest.raises(UnreadableFramesError, match="its handler gave shape"):
        read(handled(lambda path: lambda: value), asset("a", {}))


@pytest.mark.parametrize("error", [OSError, KeyError, ValueError, ZeroDivisionError, MemoryError])
@pytest.mark.parametrize("when", ["made", "called"])
def test_whatever_a_handler_raises_is_an_unreadable_frame(error, when):
    def handler(path):
        if when == "made":
            raise error("it broke")
        return broken

    def broken():
        raise error("it broke")

    with pytest.raises(UnreadableFramesError, match=f"{error.__name__}.*it broke"):
        read(handled(handler), asset("a", {}))


def test_a_spec_that_nobody_knows_names_the_package_to_install(reader):
    with pytest.raises(UnreadableFramesError, match=r"'AD_NONSENSE'.*area-detector-handlers"):
        read(reader, asset("a", {}, spec="AD_NONSENSE"))


def test_a_file_that_comes_late_and_grows_is_waited_for(tmp_path):
    path = tmp_path / "a.h5"

    def detector():
        write(path, FRAMES[:5])
        waited.wait(10)
        write(tmp_path / "b.h5", FRAMES[:20])
        os.replace(tmp_path / "b.h5", path)

    waited = threading.Event()
    thread = threading.Thread(target=detector)
    with contextlib.closing(FrameReader(roots=ANYWHERE, timeout_s=30.0)) as reader:
        thread.start()
        first = asset(path, {"point_number": 0}, frame_per_point=5)
        np.testing.assert_array_equal(read(reader, first), FRAMES[:5])
        waited.set()
        later = asset(path, {"point_number": 3}, frame_per_point=5)
        np.testing.assert_array_equal(read(reader, later), FRAMES[15:20])
        thread.join()


def test_a_resource_that_failed_is_not_waited_for_again():
    attempts = []

    def handler(path):
        def frames():
            attempts.append(path)
            if missing:
                raise OSError("No such file")
            return FRAMES[:5]

        return frames

    missing = True
    reader = handled(handler, timeout_s=0.2)
    with pytest.raises(UnreadableFramesError, match="No such file"):
        read(reader, asset("a", {}))
    assert len(attempts) > 3
    attempts.clear()
    with pytest.raises(UnreadableFramesError, match="No such file"):
        read(reader, asset("a", {}))
    assert len(attempts) == 1
    missing = False
    np.testing.assert_array_equal(read(reader, asset("a", {})), FRAMES[:5])


def test_few_handlers_stay_open_and_close_closes_them():
    made = []

    class Handler:
        def __init__(self, path):
            self.open = True
            made.append(self)

        def __call__(self):
            assert self.open
            return FRAMES

        def close(self):
            self.open = False

    reader = handled(Handler)
    for index in range(2 * MOST_HANDLERS):
        for _ in range(2):
            read(reader, asset("a", {}, uid=str(index)))
    assert len(made) == 2 * MOST_HANDLERS
    assert sum(handler.open for handler in made) == MOST_HANDLERS
    reader.close()
    assert not any(handler.open for handler in made)


# --- what may be opened -------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["../secret/a.h5", "link.h5"])
def test_a_resource_outside_the_roots_is_not_opened(tmp_path, path):
    for name in ("data", "secret"):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "a.h5")
    (tmp_path / "data/link.h5").symlink_to(tmp_path / "secret/a.h5")
    with contextlib.closing(FrameReader(roots=FileRoots([tmp_path / "data"]))) as reader:
        good = asset("a.h5", {"point_number": 0}, root=tmp_path / "data", frame_per_point=5)
        np.testing.assert_array_equal(read(reader, good), FRAMES[:5])
        bad = asset(path, {"point_number": 0}, root=tmp_path / "data", frame_per_point=5, uid="b")
        with pytest.raises(UnreadableFramesError, match="not below a folder"):
            read(reader, bad)


@pytest.fixture
def linked(tmp_path):
    """data/a.h5 with some frames, and some that are a link to secret/a.h5."""
    for name in ("data", "secret"):
        (tmp_path / name).mkdir()
    write(tmp_path / "secret/a.h5")

    def linked(dataset):
        with h5py.File(tmp_path / "data/a.h5", "w") as file:
            file["mine"] = FRAMES
            file[dataset] = h5py.ExternalLink(str(tmp_path / "secret/a.h5"), "/entry/data/data")
        return tmp_path / "data/a.h5"

    return linked


def test_a_resource_whose_file_links_out_of_the_roots_is_refused(linked):
    path = linked("/entry/data/data")
    reference = asset(path, {"point_number": 0}, frame_per_point=5)
    with (
        contextlib.closing(FrameReader(roots=FileRoots([path.parent]))) as reader,
        pytest.raises(UnreadableFramesError, match=r"secret/a.h5.*not below a folder"),
    ):
        read(reader, reference)


class ByName:
    """A handler that reads a dataset whose name it is given, as its own, or in the datum."""

    def __init__(self, path, key=None):
        self._path, self._key = path, key

    def __call__(self, where=None):
        with h5py.File(self._path) as file:
            return file[where or self._key][:]


@pytest.mark.parametrize(
    ("options", "where"),
    [({"key": "other"}, {}), ({}, {"where": "other"})],
    ids=["the resource's", "the datum's"],
)
def test_the_dataset_that_is_read_must_lie_below_the_roots(linked, options, where):
    path = linked("other")
    reader = handled(ByName, roots=FileRoots([path.parent]))
    with pytest.raises(UnreadableFramesError, match=r"secret/a.h5.*not below a folder"):
        read(reader, asset(path, where, **options))
    np.testing.assert_array_equal(read(reader, asset(path, {}, uid="s", key="mine")), FRAMES)


@pytest.mark.parametrize("key", ["other", ["mine", "other"]])
def test_a_dataset_that_only_the_handler_knows_must_lie_below_the_roots(linked, key):
    path = linked("other")
    reader = handled(lambda path: ByName(path, key), roots=FileRoots([path.parent]))
    with pytest.raises(UnreadableFramesError, match=r"secret/a.h5.*not below a folder"):
        read(reader, asset(path, {}))


def test_a_handler_is_not_asked_to_open_a_pipe(tmp_path, reader):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UnreadableFramesError, match="expected a regular file"):
        read(reader, asset(tmp_path / "pipe", {"point_number": 0}))


@pytest.mark.parametrize("template", ["%s%s_%999999999d.tif", "%s%s_%0*d.tif", "%.123456s%s%d"])
def test_a_template_that_makes_endless_names_is_refused(tmp_path, reader, template):
    options = {"template": template, "filename": "img"}
    with pytest.raises(UnreadableFramesError, match="names of absurd length"):
        read(reader, asset(tmp_path, {"point_number": 1}, spec="AD_TIFF", **options))
