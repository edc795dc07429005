"""A simulated classic Eiger whose files are followed, and what may happen to it."""

import functools
import threading
import time

import h5py
import hdf5plugin  # noqa: F401 - registers the filters of the files
import numpy as np
import pytest
from bluesky.utils import RunEngineInterrupted

from xpcs_live_denoise.simulation import SimulatedClassicEiger, recorded
from xpcs_live_denoise.simulation.eiger import SeriesFiles


@pytest.fixture
def eiger(tmp_path):
    """Return a function that makes a simulated classic Eiger named cam."""

    def make(frames, **options):
        options = {"images_per_file": 20, "frame_rate_hz": 100, **options}
        return SimulatedClassicEiger(
            recorded(frames),
            tmp_path / "raw",
            name="cam",
            **{"n_frames": len(frames), **options},
        )

    return make


def changed(writers):
    """Return what makes the files of a series of which somebody else writes some, by number.

    `writers[number](write, frames)` is called in the place of the detector; `write(frames)` writes.
    """

    class Changed(SeriesFiles):
        def write_data(self, number, frames, stopping=None):
            write = functools.partial(SeriesFiles.write_data, self, number)
            if number in writers:
                writers[number](write, frames)
            else:
                write(frames, stopping)

    return Changed


def never(write, frames):
    """Write no file."""


def followed(subscribe, device, **fields):
    return subscribe(device=device, **fields)


def at_frame(live, n, call):
    """Call something from a thread when a run has so many frames; return the started thread."""

    def wait_and_call():
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if any(status.n_processed >= n for status in live.status.values()):
                break
            time.sleep(0.01)
        call()

    thread = threading.Thread(target=wait_and_call)
    thread.start()
    return thread


def frames_in(folder, sequence_id):
    """Return the frames of a series as they lie in its data files."""
    files = sorted(folder.glob(f"*_{sequence_id}_data_*.h5"))
    return np.concatenate([h5py.File(file)["entry/data/data"][()] for file in files])


def pausing(engine, *places):
    """Return what makes files of a series, and pauses the run when some are written.

    `places` are pairs: sequence id, number of the file.
    """

    class Pausing(SeriesFiles):
        def write_data(self, number, frames, stopping=None):
            super().write_data(number, frames, stopping)
            if (int(self.series.name.rpartition("_")[2]), number) in places:
                engine.request_pause()

    return Pausing


def paused(call):
    """Call what starts or resumes a run, which is paused in the exposure."""
    with pytest.raises(RunEngineInterrupted):
        call()
