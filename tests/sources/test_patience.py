"""Patience: waiting for frames that were announced."""

import time

from xpcs_live_denoise.sources.hdf5 import Patience


def test_waiting_ends_at_the_deadline():
    patience, began = Patience(0.1, (0.02,)), time.monotonic()
    n_looks = 0
    while patience.wait():
        n_looks += 1
    assert 1 <= n_looks <= 6
    assert time.monotonic() - began >= 0.1
    assert not patience.wait()


def test_frames_that_came_start_it_anew():
    patience = Patience(0.02)
    while patience.wait():
        pass
    patience.restart()
    assert patience.wait()


def test_pauses_grow_and_never_go_beyond_the_deadline():
    patience, began = Patience(0.1, (0.001, 10.0)), time.monotonic()
    assert patience.wait()
    assert patience.wait()
    assert 0.1 <= time.monotonic() - began < 5.0
    assert not patience.wait()


def test_without_time_it_does_not_wait():
    assert not Patience(0.0, (10.0,)).wait()
