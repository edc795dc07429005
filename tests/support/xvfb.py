"""A virtual screen for the tests of windows."""

import contextlib
import os
import shutil
import subprocess

import pytest


@contextlib.contextmanager
def virtual_screen(size="1920x1200x24"):
    """Start Xvfb on a free display; yield the environment of a process that uses it."""
    if shutil.which("Xvfb") is None:
        pytest.skip("Xvfb is missing: apt-get install xvfb")
    read_end, write_end = os.pipe()
    command = ["Xvfb", "-displayfd", str(write_end), "-screen", "0", size, "-nolisten", "tcp"]
    with subprocess.Popen(
        command, pass_fds=[write_end], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as server:
        os.close(write_end)
        with os.fdopen(read_end) as answer:
            display = answer.readline().strip()
        try:
            assert display, "Xvfb did not start"
            yield {**os.environ, "DISPLAY": f":{display}", "QT_QPA_PLATFORM": "xcb"}
        finally:
            server.terminate()
            server.wait(10)
