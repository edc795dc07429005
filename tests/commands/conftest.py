"""Commands in a process of their own."""

import subprocess
import sys

import pytest


@pytest.fixture
def command():
    """Run the command line as a user does; it must succeed unless `check=False`."""

    def call(*arguments, check=True):
        run = subprocess.run(
            [sys.executable, "-m", "xpcs_live_denoise", *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )
        assert not check or run.returncode == 0, run.stderr + run.stdout
        assert "Traceback" not in run.stderr
        return run

    return call
