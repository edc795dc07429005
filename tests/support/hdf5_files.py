"""What the tests of HDF5 files share: files that are written, whole or while they are read."""

import contextlib

import h5py
import numpy as np

from xpcs_live_denoise.records.frames import HDF5Frames

DATASET = "/entry/data/data"
FRAME_BYTES = 4 * 6 * 2
LARGE = 10**9


def write(path, frames, **options):
    with h5py.File(path, "w") as file:
        file.create_dataset(DATASET, data=frames, **options)


@contextlib.contextmanager
def swmr_writer(path, frame_shape=(4, 6), *, n_allocated=0, chunk=1, **options):
    with h5py.File(path, "w", libver="latest") as file:
        dataset = file.create_dataset(
            DATASET,
            shape=(n_allocated, *frame_shape),
            maxshape=(None, *frame_shape),
            chunks=(chunk, *frame_shape),
            dtype="u2",
            **options,
        )
        file.swmr_mode = True
        yield dataset


def append(dataset, frames):
    start = len(dataset)
    dataset.resize(start + len(frames), axis=0)
    dataset[start:] = frames
    dataset.flush()


def reference(path, start, stop, *, dataset=DATASET, swmr=True):
    return HDF5Frames(path=str(path), dataset=dataset, start=start, stop=stop, swmr=swmr)


def read(reader, ref, max_bytes=LARGE):
    return np.concatenate(list(reader.read(ref, max_bytes)))
