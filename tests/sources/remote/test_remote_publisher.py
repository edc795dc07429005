"""The publisher of documents: it never blocks, keeps to its bounds and counts what it loses."""

import subprocess
import sys
import threading

import numpy as np
import pytest
import zmq

from tests.support.publishers import a_run, publish, receive, wait_for  # noqa: F401 - fixtures


@pytest.fixture
def publish_to_sleeper(publish):
    """Return a function that makes a publisher to somebody who subscribes and takes nothing."""
    context = zmq.Context()
    sleeper = context.socket(zmq.SUB)
    sleeper.setsockopt(zmq.RCVHWM, 1)
    sleeper.setsockopt(zmq.RCVBUF, 2**16)
    sleeper.subscribe(b"")
    port = sleeper.bind_to_random_port("tcp://127.0.0.1")
    made = []

    def publish_to_sleeper(**options):
        connected = threading.Event()

        def look():
            while not connected.is_set():
                sleeper.poll(10)  # what it subscribes to is told here

        looks = threading.Thread(target=look)
        looks.start()
        try:
            made.append(publish(port, **options))
        finally:
            connected.set()
            looks.join()
        return made[-1]

    yield publish_to_sleeper
    for publisher in made:
        publisher.close(linger_s=0)
    sleeper.close(linger=0)
    context.term()


def test_a_publisher_keeps_what_no_receiver_would_take(receive, publish, caplog):
    receiver = receive(max_document_bytes=2000)
    publisher = publish(receiver.address, max_document_bytes=1000)
    publisher("event", {"frame": np.zeros(1000)})
    publisher("stop", {})
    wait_for(lambda: receiver.documents)
    assert (publisher.n_sent, publisher.n_lost) == (1, 1)
    assert "expected at most 1000" in caplog.text


def test_a_publisher_without_a_listener_says_so_and_never_blocks(publish, caplog):
    publisher = publish(9, connect_s=0.05)
    for name, doc in a_run():
        publisher(name, doc)
    assert "Nobody listens at tcp://127.0.0.1:9" in caplog.text


def test_a_full_queue_is_counted_instead_of_dropped_in_silence(publish_to_sleeper, caplog):
    publisher = publish_to_sleeper(queue_length=5)
    frame = np.zeros(200_000)
    for _ in range(50):
        publisher("event", {"frame": frame})
    assert publisher.n_lost > 0
    assert publisher.n_sent + publisher.n_lost == 50
    assert caplog.text.count("the queue is full") == 1


def test_frames_that_wait_for_the_network_are_bounded_in_bytes(publish_to_sleeper, caplog):
    publisher = publish_to_sleeper(queue_bytes=10_000_000)
    frame = np.zeros(500_000)
    for _ in range(50):
        publisher("event", {"frame": frame})
    assert 0 < publisher.n_bytes_waiting <= 10_000_000
    assert publisher.n_sent + publisher.n_lost == 50
    assert publisher.n_lost >= 30
    assert caplog.text.count("At most 10000000 bytes wait (queue_bytes)") == 1
    publisher("stop", {})
    assert publisher.n_sent + publisher.n_lost == 51
    assert publisher.n_lost >= 30, "a small document is not kept back"


def test_a_frame_larger_than_all_that_may_wait_is_sent_alone(receive, publish):
    receiver = receive()
    publisher = publish(receiver.address, queue_bytes=1)
    for number in range(3):
        publisher("event", {"frame": np.full(100_000, number)})
        wait_for(lambda number=number: len(receiver.documents) == number + 1)
        wait_for(lambda: not publisher.n_bytes_waiting)
    assert (publisher.n_sent, publisher.n_lost) == (3, 0)


def test_a_profile_that_publishes_needs_neither_torch_nor_tiled():
    heavy = "torch", "tiled", "h5py", "matplotlib", "bluesky"
    code = (
        "import sys, xpcs_live_denoise.sources.remote.receiver\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
