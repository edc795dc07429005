"""Tasks on a Dask scheduler that somebody else runs, and that goes away."""

import re
import subprocess
import sys

import pytest

from tests.support.reprocessing import sleep
from xpcs_live_denoise.commands.dask_workers import TaskLostError, do_tasks
from xpcs_live_denoise.errors import XpcsError

SCHEDULER = """
from distributed import LocalCluster
if __name__ == "__main__":
    cluster = LocalCluster(
        n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None
    )
    print("at", cluster.scheduler_address, flush=True)
    input()
"""


@pytest.fixture
def scheduler():
    """The address of a scheduler with one worker, and its process."""
    process = subprocess.Popen(
        [sys.executable, "-c", SCHEDULER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    address = re.search(r"at (\S+)", process.stdout.readline())
    if address is None or not address[1].startswith("tcp"):
        process.kill()
        raise AssertionError(f"no address of a scheduler: {address}")
    yield address[1], process
    process.kill()
    process.communicate()


def test_what_was_done_before_the_scheduler_went_away_counts_and_the_rest_is_lost(scheduler):
    address, process = scheduler
    tasks = [0.0, 60.0, 61.0]
    outcomes = do_tasks(sleep, tasks, workers=None, scheduler=address)
    assert next(outcomes) == (0.0, 0.0)
    process.kill()
    rest = dict(outcomes)
    assert rest.keys() == {60.0, 61.0}
    for error in rest.values():
        assert isinstance(error, TaskLostError)
        assert "Start the scheduler again and repeat the command with --skip-done" in str(error)


def test_a_scheduler_that_does_not_answer_is_named(monkeypatch):
    monkeypatch.setattr("xpcs_live_denoise.commands.dask_workers.CONNECT_S", 0.5)
    with pytest.raises(XpcsError, match=r"Dask scheduler tcp://127.0.0.1:9: does not answer"):
        list(do_tasks(sleep, [0.0], workers=None, scheduler="tcp://127.0.0.1:9"))


def test_tasks_without_workers_are_done_here_one_after_another():
    outcomes = list(do_tasks(sleep, [0.0, 0.001], workers=None, scheduler=None))
    assert outcomes == [(0.0, 0.0), (0.001, 0.001)]
