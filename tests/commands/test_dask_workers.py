"""Tasks on a Dask scheduler that somebody else runs, and that goes away."""

import functools

import pytest

from tests.support.reprocessing import dask_scheduler, note, noted, sleep
from xpcs_live_denoise.commands.dask_workers import TaskLostError, do_tasks
from xpcs_live_denoise.errors import XpcsError


@pytest.fixture
def scheduler():
    """The address of a scheduler with one worker, and its process."""
    with dask_scheduler() as scheduler:
        yield scheduler


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


def test_a_worker_is_warm_before_its_first_task(scheduler, tmp_path):
    address, _ = scheduler
    warm_up = functools.partial(noted, str(tmp_path / "noted"), "warm")
    tasks = [(str(tmp_path / "noted"), "task"), (str(tmp_path / "noted"), "task")]
    outcomes = list(do_tasks(note, tasks, workers=None, scheduler=address, warm_up=warm_up))
    assert len(outcomes) == 2
    assert (tmp_path / "noted").read_text().split() == ["warm", "task", "task"]


def test_a_scheduler_that_does_not_answer_is_named(monkeypatch):
    monkeypatch.setattr("xpcs_live_denoise.commands.dask_workers.CONNECT_S", 0.5)
    with pytest.raises(XpcsError, match=r"Dask scheduler tcp://127.0.0.1:9: does not answer"):
        list(do_tasks(sleep, [0.0], workers=None, scheduler="tcp://127.0.0.1:9"))


def test_tasks_without_workers_are_done_here_one_after_another():
    outcomes = list(do_tasks(sleep, [0.0, 0.001], workers=None, scheduler=None))
    assert outcomes == [(0.0, 0.0), (0.001, 0.001)]
