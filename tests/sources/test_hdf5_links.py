"""FrameReader: HDF5 files whose pixels lie in other files."""

from __future__ import annotations

import contextlib
import os

import h5py
import numpy as np
import pytest

from xpcs_live_denoise.errors import UnreadableFramesError
from xpcs_live_denoise.records.frames import HDF5Frames
from xpcs_live_denoise.sources.file_roots import FileRoots
from xpcs_live_denoise.sources.frames import FrameReader
from xpcs_live_denoise.sources.hdf5 import MOST_FRAME_BYTES, MOST_LINKS

FRAMES = np.random.default_rng(3).poisson(3.0, (6, 4, 5)).astype("u2")


@pytest.fixture
def folders(tmp_path):
    """Folders "data", which may be read, and "secret", each with the frames in a.h5."""
    for name in ("data", "secret"):
        (tmp_path / name).mkdir()
        with h5py.File(tmp_path / name / "a.h5", "w") as file:
            file["frames"] = FRAMES
            file.create_group("group")["frames"] = FRAMES
    return tmp_path


@pytest.fixture
def read(folders):
    """Read a dataset of data/main.h5, with data/ as the only root or with none."""
    readers = contextlib.ExitStack()

    def read(dataset="frames", *, path="data/main.h5", swmr=False, restricted=True):
        roots = FileRoots([folders / "data"] if restricted else None)
        reader = FrameReader(timeout_s=0.05, roots=roots)
        readers.callback(reader.close)
        reference = HDF5Frames(
            path=str(folders / path), dataset=dataset, start=0, stop=6, swmr=swmr
        )
        return np.concatenate(list(reader.read(reference, 10**6)))

    with readers:
        yield read


@pytest.fixture
def main(folders):
    with h5py.File(folders / "data/main.h5", "w") as file:
        yield file


def virtual(file, source, dataset="frames"):
    layout = h5py.VirtualLayout(FRAMES.shape, FRAMES.dtype)
    layout[:] = h5py.VirtualSource(source, dataset, FRAMES.shape)
    file.create_virtual_dataset("frames", layout)


@pytest.mark.parametrize("swmr", [True, False])
@pytest.mark.parametrize("path", ["secret/a.h5", "data/../secret/a.h5", "data/link.h5"])
def test_a_file_outside_the_roots_is_not_opened(folders, read, path, swmr, monkeypatch):
    (folders / "data/link.h5").symlink_to(folders / "secret/a.h5")
    monkeypatch.setattr(h5py, "File", None)
    with pytest.raises(UnreadableFramesError, match=r"cannot be read .*file_roots"):
        read(path=path, swmr=swmr)


def test_a_file_below_the_roots_is_read(folders, read):
    np.testing.assert_array_equal(read(path="data/a.h5"), FRAMES)


@pytest.mark.parametrize("swmr", [True, False])
@pytest.mark.parametrize(
    ("build", "dataset"),
    [
        (lambda f, there: f.__setitem__("frames", h5py.ExternalLink(there, "frames")), "frames"),
        (lambda f, there: f.__setitem__("way", h5py.ExternalLink(there, "group")), "way/frames"),
        (
            lambda f, there: (
                f.__setitem__("out", h5py.ExternalLink(there, "frames")),
                f.__setitem__("soft", h5py.SoftLink("/out")),
                f.__setitem__("frames", h5py.SoftLink("soft")),
            ),
            "frames",
        ),
        (virtual, "frames"),
    ],
    ids=["a link", "a link to a group", "a soft link to a link", "a virtual dataset"],
)
def test_links_are_followed_within_the_roots_only(folders, read, main, build, dataset, swmr):
    build(main, "a.h5")
    main.close()
    np.testing.assert_array_equal(read(dataset, swmr=swmr), FRAMES)

    other = "data/other.h5"
    with h5py.File(folders / other, "w") as file:
        build(file, str(folders / "secret/a.h5"))
    with pytest.raises(UnreadableFramesError, match=r"secret/a.h5.*not below a folder"):
        read(dataset, path=other, swmr=swmr)
    frames = read(dataset, path=other, swmr=swmr, restricted=False)
    np.testing.assert_array_equal(frames, FRAMES)


@pytest.mark.parametrize("how", ["link", "virtual"])
def test_a_link_is_followed_to_its_end(folders, read, main, how):
    """main.h5 -> middle.h5, both below the roots -> secret/a.h5."""
    with h5py.File(folders / "data/middle.h5", "w") as file:
        virtual(file, str(folders / "secret/a.h5"))
    if how == "link":
        main["frames"] = h5py.ExternalLink("middle.h5", "frames")
    else:
        virtual(main, "middle.h5")
    main.close()
    with pytest.raises(UnreadableFramesError, match=r"secret/a.h5.*not below a folder"):
        read()


def test_links_in_a_ring_end(folders, read, main):
    main["a"], main["b"] = h5py.SoftLink("/b"), h5py.SoftLink("/a")
    main["frames"] = h5py.ExternalLink("main.h5", "frames")
    main.close()
    with pytest.raises(UnreadableFramesError, match="links in a ring"):
        read("a")
    with pytest.raises(UnreadableFramesError, match=f"more than {MOST_LINKS} links"):
        read("frames")


def test_a_source_that_is_not_there_gives_no_dark_frames(read, main):
    virtual(main, "later.h5")
    main.close()
    with pytest.raises(UnreadableFramesError, match="No such file"):
        read(restricted=False)


def test_raw_bytes_outside_of_hdf5_are_refused_always(folders, read, main):
    (folders / "data/raw").write_bytes(os.urandom(240))
    main.create_dataset("frames", (6, 4, 5), "u2", external=[(str(folders / "data/raw"), 0, 240)])
    main.close()
    for restricted in (True, False):
        with pytest.raises(UnreadableFramesError, match=r"raw bytes in .*data/raw"):
            read(restricted=restricted)


def test_a_pipe_is_not_waited_for(folders, read, main):
    os.mkfifo(folders / "data/pipe")
    main["frames"] = h5py.ExternalLink("pipe", "frames")
    main.close()
    for restricted in (True, False):
        with pytest.raises(UnreadableFramesError, match="expected a regular file"):
            read(restricted=restricted)
    with pytest.raises(UnreadableFramesError, match="expected a regular file"):
        read(path="data/pipe")


def test_a_pattern_of_files_is_refused(read, main):
    space = h5py.h5s.create_simple((6, 4, 5), (h5py.h5s.UNLIMITED, 4, 5))
    space.select_hyperslab((0, 0, 0), (h5py.h5s.UNLIMITED, 1, 1), None, (1, 4, 5))
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    source = h5py.h5s.create_simple((1, 4, 5))
    plan.set_virtual(space, b"part_%b.h5", b"frames", source)
    whole = h5py.h5s.create_simple((6, 4, 5), (h5py.h5s.UNLIMITED, 4, 5))
    h5py.h5d.create(main.id, b"frames", h5py.h5t.NATIVE_UINT16, whole, plan)
    main.close()
    with pytest.raises(UnreadableFramesError, match="are a pattern"):
        read()


def test_frames_of_absurd_size_are_not_allocated(read, main):
    main.create_dataset("frames", (6, 10**6, 10**6), "u2", chunks=(1, 10, 10))
    main.close()
    with pytest.raises(UnreadableFramesError, match=f"at most {MOST_FRAME_BYTES} bytes"):
        read()


@pytest.mark.parametrize("dataset", ["a\0b", "", "/", "../" * 1000, "x" * 100_000])
def test_no_name_of_a_dataset_makes_it_fall(read, main, dataset):
    main.close()
    with pytest.raises(UnreadableFramesError) as caught:
        read(dataset)
    assert len(str(caught.value)) < 2000
