"""A simulated classic Eiger whose files are followed, and what may happen to it."""

import threading
import time

import pytest

from xpcs_live_denoise.simulation import SimulatedClassicEiger, recorded


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


class Changed:
    """The files of a series, one of which is written by somebody else."""

    def __init__(self, files, number, write):
        self._files, self._number, self._write = files, number, write

    def __getattr__(self, name):
        return getattr(self._files, name)

    def write_data(self, number, *args):
        if number == self._number:
            self._write(self._files, number, *args)
        else:
            self._files.write_data(number, *args)


def change_file(detector, number, write):
    make = detector._files
    detector._files = lambda *args: Changed(make(*args), number, write)


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
