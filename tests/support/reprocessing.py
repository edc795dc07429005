"""What the tests of `reprocess` let workers do: functions that other processes can import."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from xpcs_live_denoise.commands.reprocess_run import reprocess_run

SCHEDULER = """
from distributed import LocalCluster
if __name__ == "__main__":
    cluster = LocalCluster(
        n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None
    )
    print("at", cluster.scheduler_address, flush=True)
    input()
"""


@contextlib.contextmanager
def dask_scheduler():
    """Yield the address of a scheduler with one worker, and its process."""
    process = subprocess.Popen(
        [sys.executable, "-c", SCHEDULER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        address = re.search(r"at (\S+)", process.stdout.readline())
        assert address is not None, "no address of a scheduler"
        yield address[1], process
    finally:
        process.kill()
        process.communicate()


def die_before_the_stop_once(task, marker):
    """Reprocess a run; the first time ever die when all is stored but the stop document."""
    from xpcs_live_denoise.sinks import ClaimedSink

    if not Path(marker).exists():
        Path(marker).touch()
        ClaimedSink.finish = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    return reprocess_run(task)


def sleep(seconds):
    """Do nothing, and say how long."""
    time.sleep(seconds)
    return seconds


def noted(path, word):
    """Append a word to a file."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(f"{word}\n")


def note(task):
    """Do a task: append its word to its file."""
    noted(*task)
