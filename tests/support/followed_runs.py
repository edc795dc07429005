"""A simulated classic Eiger whose files are followed, and what may happen to it."""

import functools
import threading
import time

import pytest

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
