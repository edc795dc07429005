"""The worker: order, bounds, merging, faults."""

import threading
import time
from dataclasses import dataclass, field

import pytest

from xpcs_live_denoise.live.worker import Worker


@dataclass
class Note:
    text: str
    n_bytes: int = 0
    joins: bool = False

    def merge(self, later):
        if self.joins and isinstance(later, Note) and later.joins:
            return Note(self.text + later.text, joins=True)
        return None


@dataclass
class Listener:
    """Keeps what it was given; waits for `gate` before each message; raises on "bad"."""

    heard: list = field(default_factory=list)
    faults: list = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    started: threading.Event = field(default_factory=threading.Event)
    ticks: int = 0
    ended: bool = False

    def handle(self, message):
        self.started.set()
        assert self.gate.wait(10)
        if message.text == "bad":
            raise ValueError("a bad note")
        self.heard.append(message.text)
        self.ended = message.text == "end"

    def tick(self):
        self.ticks += 1

    def fail(self, error):
        self.faults.append(str(error))


def until(condition, timeout=5):
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.002)
    return True


@pytest.fixture
def worker():
    made = Worker(queue_bytes=100, tick_s=0.01)
    yield made
    made.close(5)


def busy_listener(worker):
    """Return a listener that is held up by its first message, so that later ones must wait."""
    listener = Listener()
    worker.submit(listener, Note("first"))
    assert listener.started.wait(5)
    return listener


def release(worker, *listeners):
    for listener in listeners:
        listener.gate.set()
        worker.submit(listener, Note("end"))
    assert until(lambda: all(listener.ended for listener in listeners))


def test_messages_of_two_consumers_stay_in_their_order(worker):
    one, two = busy_listener(worker), Listener()
    for k in range(20):
        worker.submit(one, Note(f"a{k}"))
        worker.submit(two, Note(f"b{k}"))
    release(worker, one, two)
    assert one.heard == ["first", *[f"a{k}" for k in range(20)], "end"]
    assert two.heard == [*[f"b{k}" for k in range(20)], "end"]


def test_references_merge_so_that_the_queue_stays_short_even_when_runs_alternate(worker):
    one, two = busy_listener(worker), Listener()
    for _ in range(1000):
        worker.submit(one, Note("x", joins=True))
        worker.submit(two, Note("y", joins=True))
    assert worker.depth == 2
    release(worker, one, two)
    assert one.heard == ["first", "x" * 1000, "end"]
    assert two.heard == ["y" * 1000, "end"]


def test_bytes_beyond_the_bound_are_refused_and_references_never(worker):
    listener = busy_listener(worker)
    assert worker.submit(listener, Note("60", n_bytes=60))
    assert not worker.submit(listener, Note("another 60", n_bytes=60))
    assert worker.submit(listener, Note("reference"))
    assert worker.submit(listener, Note("40", n_bytes=40))
    release(worker, listener)
    assert listener.heard == ["first", "60", "reference", "40", "end"]
    assert worker.submit(listener, Note("100", n_bytes=100)), "the bytes were given back"


def test_a_fault_goes_to_its_consumer_and_the_thread_lives_on(worker):
    listener, other = busy_listener(worker), Listener()
    worker.submit(listener, Note("bad"))
    worker.submit(other, Note("good"))
    release(worker, listener, other)
    assert listener.faults == ["a bad note"]
    assert worker.counts.value("xpcs_faults_total", "analysis") == 1
    assert other.heard == ["good", "end"]


def test_consumers_are_ticked_while_nothing_comes_and_forgotten_when_done(worker):
    listener = Listener()
    listener.gate.set()
    worker.submit(listener, Note("first"))
    assert until(lambda: listener.ticks > 5, 5)
    release(worker, listener)
    ticks = listener.ticks
    assert not until(lambda: listener.ticks > ticks + 1, 0.1)


def test_close_works_off_what_waits_and_takes_nothing_more(worker):
    listener = busy_listener(worker)
    worker.submit(listener, Note("last"))
    listener.gate.set()
    assert worker.close(5)
    assert listener.heard == ["first", "last"]
    assert not worker.submit(listener, Note("too late"))


def test_what_is_larger_than_the_bound_may_wait_alone(worker):
    listener = busy_listener(worker)
    assert worker.submit(listener, Note("huge", n_bytes=1000))
    assert not worker.submit(listener, Note("small", n_bytes=1))
    release(worker, listener)
    assert listener.heard == ["first", "huge", "end"]


def test_close_says_when_it_ran_out_of_time(worker):
    listener = busy_listener(worker)
    assert not worker.close(0.01)
    listener.gate.set()
    assert worker.close(5)


def test_closing_a_worker_that_never_started_is_nothing(worker):
    assert worker.close(0)
