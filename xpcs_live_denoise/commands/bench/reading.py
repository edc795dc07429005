"""Reading 4M frames as an Eiger compresses them (bslz4): ours beside h5py with hdf5plugin."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np

from xpcs_live_denoise.numerics.rois import RoiMap
from xpcs_live_denoise.records.frames import HDF5Frames, RoiPixels
from xpcs_live_denoise.records.types import Array
from xpcs_live_denoise.sources import (
    FileRoots,
    FrameReader,
    RoiSelection,
    read_ahead,
    read_with_gaps,
)

from .case import Case
from .contest import Contestant, Numbers, Section
from .thread import SHAPE_4M, rings_in

DATASET = "/entry/data/data"
COUNTS = 0.1
DTYPES = ("uint16", "uint32")
DISTINCT = 8  # frames that differ
BLOCK = 10


@contextlib.contextmanager
def reading(case: Case, shape: tuple[int, int] = SHAPE_4M) -> Iterator[Section]:
    """Make the section of pixels of ROIs from a file that is in the page cache."""
    n_frames = 2 * DISTINCT if case.quick else 25 * DISTINCT
    rois = rings_in(case.n_pixels, case.n_rois, shape)
    contestants: list[Contestant] = []
    with tempfile.TemporaryDirectory(prefix="xpcs-bench-") as folder:
        for dtype in DTYPES:
            path = Path(folder) / f"{dtype}.h5"
            rng = np.random.default_rng(5)
            frames = (rng.poisson(COUNTS, shape) for _ in range(DISTINCT))
            write_frames(path, n_frames, shape, frames, dtype)
            ours, plain = (
                partial(read, path, rois, n_frames) for read in (read_ours, read_plainly)
            )
            contestants += [
                _reader(f"FrameReader, {dtype}", ours, dtype),
                _reader(f"h5py + hdf5plugin, {dtype}", plain, dtype, peer=True),
            ]
        title = f"Reading: {shape[0]} x {shape[1]} bslz4 frames, {COUNTS:g} counts, "
        title += f"{len(rois.pixels):,} ROI pixels"
        yield Section(title=title, contestants=contestants, repeats=case.repeats)


def write_frames(
    path: Path,
    n_frames: int,
    shape: tuple[int, int],
    frames: Iterable[Array],
    dtype: str = "uint32",
) -> None:
    """Write a file of compressed frames, a chunk each: these, over and over again."""
    with h5py.File(path, "w", libver="latest") as file:
        dataset = file.create_dataset(
            DATASET,
            (n_frames, *shape),
            dtype,
            chunks=(1, *shape),
            maxshape=(None, *shape),
            **hdf5plugin.Bitshuffle(cname="lz4"),
        )
        n_distinct = 0
        for number, frame in enumerate(frames):
            dataset[number] = frame
            n_distinct += 1
        file.flush()
        for number in range(n_distinct, n_frames):
            _, chunk = dataset.id.read_direct_chunk((number - n_distinct, 0, 0))
            dataset.id.write_direct_chunk((number, 0, 0), chunk)


def _reader(name: str, read: Callable[[], int], dtype: str, *, peer: bool = False) -> Contestant:
    """Return what reads all frames and returns how many there were."""

    def run() -> Numbers:
        begin = time.perf_counter()
        n_read = read()
        return {(f"read and gathered, {dtype}", "frames/s"): n_read / (time.perf_counter() - begin)}

    return Contestant(name=name, run=run, prepare=read, peer=peer)


def read_ours(path: Path, rois: RoiMap, n_frames: int) -> int:
    """Read as a live run does, ROI pixels alone; return how many frames there were."""
    reader = FrameReader(roots=FileRoots(None))
    reference = HDF5Frames(path=str(path), dataset=DATASET, start=0, stop=n_frames, swmr=False)
    n_bytes = BLOCK * rois.shape[0] * rois.shape[1] * np.dtype(np.uint32).itemsize  # or fewer
    pieces = read_with_gaps(reader, reference, n_bytes, RoiSelection(rois))
    n_read = 0
    try:
        with contextlib.closing(read_ahead(pieces)) as ahead:
            for piece in ahead:
                n_read += len(piece) if isinstance(piece, RoiPixels) else 0
        return n_read
    finally:
        reader.close()


def read_plainly(path: Path, rois: RoiMap, n_frames: int) -> int:
    """Read whole frames with h5py and gather."""
    with h5py.File(path, "r") as file:
        dataset = file[DATASET]
        assert isinstance(dataset, h5py.Dataset)  # noqa: S101 (for the type checker)
        blocks = (dataset[start : start + BLOCK] for start in range(0, n_frames, BLOCK))
        return sum(len(rois.gather(block)) for block in blocks)
