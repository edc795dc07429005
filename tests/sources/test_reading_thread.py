"""Reading ahead: the same blocks in the same order, and no read after the end."""

import contextlib
import threading

import pytest

from xpcs_live_denoise.errors import UnreadableFramesError
from xpcs_live_denoise.sources.reading_thread import READ_AHEAD, read_ahead


class Blocks:
    """A generator of numbers that counts what was taken from it, and on which threads."""

    def __init__(self, n, error=None):
        self.taken, self.threads, self.closed = 0, set(), False
        self.progress = threading.Condition()
        self._n, self._error = n, error

    def __call__(self):
        try:
            for number in range(self._n):
                self.threads.add(threading.current_thread())
                with self.progress:
                    self.taken += 1
                    self.progress.notify_all()
                yield number
            if self._error:
                raise self._error
        finally:
            self.closed = True

    def wait_for(self, n):
        with self.progress:
            assert self.progress.wait_for(lambda: self.taken >= n, 10)


@pytest.mark.parametrize("n", [0, 1, 2, 50])
def test_blocks_come_in_order(n):
    blocks = Blocks(n)
    assert list(read_ahead(blocks())) == list(range(n))
    assert blocks.closed


def test_the_next_blocks_are_read_while_the_last_one_is_computed_but_not_more():
    blocks = Blocks(50)
    with contextlib.closing(read_ahead(blocks())) as ahead:
        assert next(ahead) == 0
        blocks.wait_for(2 + READ_AHEAD)  # nobody has asked for them
        assert next(ahead) == 1
        blocks.wait_for(3 + READ_AHEAD)
        assert blocks.taken == 3 + READ_AHEAD
    assert len(blocks.threads) == 2
    assert threading.current_thread() in blocks.threads


def test_an_error_is_raised_in_its_place():
    blocks, got = Blocks(5, UnreadableFramesError("cut off")), []
    with pytest.raises(UnreadableFramesError, match="cut off"):
        got.extend(read_ahead(blocks()))
    assert got == list(range(5))
    with pytest.raises(UnreadableFramesError, match="cut off"):
        next(read_ahead(Blocks(0, UnreadableFramesError("cut off"))()))


@pytest.mark.parametrize("n_taken", [0, 1, 2, 7])
def test_nothing_is_read_after_close_and_no_thread_stays(n_taken):
    blocks = Blocks(1000)
    ahead = read_ahead(blocks())
    for _ in range(n_taken):
        next(ahead)
    ahead.close()
    n = blocks.taken
    assert n <= n_taken + 1 + READ_AHEAD + 1
    assert blocks.closed or not n_taken
    assert not [
        thread for thread in blocks.threads - {threading.current_thread()} if thread.is_alive()
    ]
    assert blocks.taken == n
