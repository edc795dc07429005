"""Threads: items are spread over the cores, libraries are held to one thread, nobody waits."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from xpcs_live_denoise.numerics.threads import VARIABLE, n_threads, one_thread, spread


@pytest.fixture(params=["1", "2", "5"])
def threads(request, monkeypatch):
    monkeypatch.setenv(VARIABLE, request.param)
    return int(request.param)


def blas_threads():
    assert np.ones((2, 2)) @ np.ones(2) is not None  # numpy's BLAS is loaded
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


def test_blas_has_one_thread_inside_and_its_own_number_outside():
    before = blas_threads()
    assert before
    with one_thread():
        assert set(blas_threads()) == {1}
        with one_thread():
            assert set(blas_threads()) == {1}
        assert set(blas_threads()) == {1}
    assert blas_threads() == before


def test_two_analyses_that_end_in_the_order_they_began_leave_blas_as_it_was():
    before = blas_threads()
    inside, leave = threading.Event(), threading.Event()

    def other():
        with one_thread():
            inside.set()
            assert leave.wait(10)

    thread = threading.Thread(target=other)
    with one_thread():
        thread.start()
        assert inside.wait(10)
    assert set(blas_threads()) == {1}
    leave.set()
    thread.join()
    assert blas_threads() == before


def test_results_come_in_the_order_of_the_items(threads):
    assert spread(lambda item: item * item, range(50)) == [item * item for item in range(50)]
    assert spread(str, []) == []


def test_items_are_computed_by_several_threads_with_blas_at_one(monkeypatch):
    monkeypatch.setenv(VARIABLE, "2")
    together = threading.Barrier(2, timeout=10)

    def meet(_):
        together.wait()  # only two threads at a time get beyond
        return threading.get_ident(), tuple(blas_threads())

    found = spread(meet, range(2))
    assert len({thread for thread, _ in found}) == 2
    assert {number for _, numbers in found for number in numbers} == {1}


def test_a_function_that_spreads_itself_does_not_wait_for_ever(threads):
    def outer(item):
        return sum(spread(lambda inner: inner + item, range(4)))

    assert spread(outer, range(8)) == [6 + 4 * item for item in range(8)]


def test_the_error_of_a_function_is_raised_and_the_pool_goes_on(threads):
    def fails(item):
        if item >= 3:
            raise ValueError(f"item {item} is bad")
        return item

    with pytest.raises(ValueError, match="item 3 is bad"):
        spread(fails, [0, 1, 2, 3])
    assert spread(fails, [2, 1, 0]) == [2, 1, 0]


def test_a_number_of_threads_that_is_none_is_named_and_ignored(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    usual = n_threads()
    for text in ("0", "two", "-1", "1.5"):
        monkeypatch.setenv(VARIABLE, text)
        with pytest.warns(UserWarning, match=f"{VARIABLE}: got '{text}', expected a whole number"):
            assert n_threads() == usual


END = """
import atexit, threading
from xpcs_live_denoise.numerics.threads import spread
print(spread(abs, [-1, -2, -3]))
atexit.register(lambda: print(spread(abs, [-4, -5, -6])))
"""
FORK = """
import os
from xpcs_live_denoise.numerics.threads import one_thread, spread
print(spread(abs, [-1, -2, -3]), flush=True)
with one_thread():
    child = os.fork()
    if not child:
        print(spread(abs, [-4, -5, -6]), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""


@pytest.mark.parametrize(
    "program",
    [
        END,
        pytest.param(
            FORK, marks=pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
        ),
    ],
    ids=["end", "fork"],
)
def test_it_works_while_the_interpreter_ends_and_in_a_forked_process(program):
    environment = {**os.environ, VARIABLE: "3", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-W", "ignore", "-c", program]
    got = subprocess.run(
        command, env=environment, check=False, capture_output=True, text=True, timeout=60
    )
    assert got.stdout.splitlines() == ["[1, 2, 3]", "[4, 5, 6]"], got.stderr
