"""Documents over 0MQ: what arrives is what was sent, and nothing else gets in."""

import json
import logging
import pickle
import subprocess
import sys
import time

import numpy as np
import pytest
import zmq

from tests.support.publishers import a_run, publish, receive, wait_for  # noqa: F401 - fixtures
from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.sources.remote.codec import pack_document
from xpcs_live_denoise.sources.remote.publisher import document_publisher
from xpcs_live_denoise.sources.remote.receiver import RemoteDocuments


@pytest.fixture
def raw_socket():
    """Return a function that makes a bare publishing socket, which sends what it is told to."""
    context = zmq.Context()
    made = []

    def connect(address):
        socket = context.socket(zmq.XPUB)
        made.append(socket)
        socket.connect(address)
        assert socket.poll(60_000)
        socket.recv()
        return socket

    yield connect
    for socket in made:
        socket.close(linger=0)
    context.term()


PROXY = """
from bluesky.callbacks.zmq import Proxy
proxy = Proxy("127.0.0.1:0", "127.0.0.1:0")
print(proxy.in_port, proxy.out_port, flush=True)
proxy.start()
"""


@pytest.fixture
def proxy():
    """Addresses (in, out) of bluesky's proxy, in a process of its own."""
    with subprocess.Popen(
        [sys.executable, "-c", PROXY], stdout=subprocess.PIPE, text=True
    ) as process:
        yield process.stdout.readline().split()
        process.kill()


def test_every_kind_of_document_arrives_as_it_was_sent(receive, publish):
    receiver = receive()
    publisher = publish(receiver.address)
    sent = a_run()
    for name, doc in sent:
        publisher(name, doc)
    wait_for(lambda: len(receiver.documents) == len(sent))
    for (name, doc), (name_there, doc_there) in zip(sent, receiver.documents, strict=True):
        assert name_there == name
        np.testing.assert_equal(doc_there, doc)
    assert publisher.n_sent == receiver.n_received == len(sent)
    assert publisher.n_lost == 0
    assert not receiver.n_malformed


def test_documents_come_through_the_proxy_of_bluesky_and_from_its_publisher(
    receive, publish, proxy
):
    from bluesky.callbacks.zmq import Publisher

    receiver = receive(proxy[1], bind=False)
    ours = publish(proxy[0])
    theirs = Publisher(proxy[0], serializer=pack_document)
    try:
        # A subscription takes a moment on its way through a proxy.
        for publisher in (ours, theirs):
            received = len(receiver.documents)

            def arrived(publisher=publisher, received=received):
                publisher("start", {"uid": "a", "frame": np.ones(2)})
                time.sleep(0.02)
                return len(receiver.documents) > received

            wait_for(arrived)
    finally:
        theirs._socket.setsockopt(zmq.LINGER, 0)
        theirs.close()
    np.testing.assert_equal(receiver.documents[-1], ("start", {"uid": "a", "frame": np.ones(2)}))


class _Trap:
    """Unpickling it opens a file: the side effect that must not happen."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("protocol", [0, pickle.HIGHEST_PROTOCOL])
def test_a_pickle_is_refused_and_not_opened(receive, raw_socket, tmp_path, caplog, protocol):
    receiver = receive()
    socket = raw_socket(receiver.address)
    trap = tmp_path / "opened"
    body = pickle.dumps({"uid": _Trap(str(trap))}, protocol)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            socket.send(b" start " + body)
        socket.send(b" stop " + pack_document({"run_start": "a"}))
        wait_for(lambda: receiver.documents)
    assert [name for name, _ in receiver.documents] == ["stop"]
    assert receiver.n_malformed == 3
    assert len(caplog.records) == 1, "one reason is one line"
    if protocol >= 2:  # older ones are not told from other rubbish
        assert "document_publisher(address)" in caplog.text
    assert not trap.exists()
    trap_works = pickle.loads(body)["uid"]
    trap_works.close()
    assert trap.exists()


def test_a_message_that_is_too_large_ends_nothing_for_the_others(raw_socket, caplog):
    documents = []
    context = zmq.Context()
    sender = context.socket(zmq.XPUB)
    port = sender.bind_to_random_port("tcp://127.0.0.1")
    with RemoteDocuments(port, lambda name, doc: documents.append(name), max_document_bytes=2000):
        try:
            assert sender.poll(60_000)
            assert sender.recv() == b"\x01"
            sender.send(b" event " + bytes(5000))
            # 0MQ itself would give the connection up for good.
            changes = []
            wait_for(
                lambda: (sender.poll(100) and changes.append(sender.recv())) or b"\x01" in changes
            )
            sender.send(b" stop " + pack_document({}))
            wait_for(lambda: documents)
        finally:
            sender.close(linger=0)
            context.term()
    assert documents == ["stop"]


def test_a_callback_that_raises_is_not_the_end(publish, caplog):
    seen = []

    def callback(name, doc):
        seen.append(name)
        raise RuntimeError("a fault of its own")

    with RemoteDocuments(0, callback, bind=True) as receiver:
        publisher = publish(receiver.address)
        publisher("start", {})
        publisher("stop", {})
        wait_for(lambda: len(seen) == 2)
    assert "a fault of its own" in caplog.text


def test_a_prefix_tells_publishers_apart(receive, publish):
    receiver = receive(prefix=b"chx")
    publish(receiver.address, prefix=b"chx2")("start", {})
    publish(receiver.address, prefix=b"chx")("stop", {})
    wait_for(lambda: receiver.documents)
    assert receiver.documents == [("stop", {})]


def test_json_is_taken_too(receive, raw_socket):
    receiver = receive()
    raw_socket(receiver.address).send(b" start " + json.dumps({"uid": "a"}).encode())
    wait_for(lambda: receiver.documents)
    assert receiver.documents == [("start", {"uid": "a"})]


def test_garbage_on_the_wire_is_counted_and_the_next_document_arrives(receive, raw_socket):
    receiver = receive()
    socket = raw_socket(receiver.address)
    for message in (b"", b" ", b"a b", b" start \xc1", b" unknown {}", b"\xff\xff \xff {}"):
        socket.send(message)
    socket.send_multipart([b" start ", pack_document({})])
    socket.send(b" stop " + pack_document({}))
    wait_for(lambda: receiver.documents)
    assert [name for name, _ in receiver.documents] == ["stop"]
    assert receiver.n_malformed == 7


@pytest.mark.parametrize("address", ["", "tcp://", "host", "http://host:80", "tcp://host:port"])
def test_an_address_that_cannot_be_is_refused(address):
    with pytest.raises(InvalidInputError, match="expected"):
        document_publisher(address)
    with pytest.raises(InvalidInputError, match="expected"):
        RemoteDocuments(address, print)


def test_a_port_alone_is_one_of_this_machine():
    assert RemoteDocuments(5577, print).address == "tcp://127.0.0.1:5577"
    assert RemoteDocuments("lab:5577", print).address == "tcp://lab:5577"


def test_a_port_that_is_taken_is_told(receive):
    receiver = receive()
    with pytest.raises(InvalidInputError, match="cannot be listened at"):
        receive(receiver.address)


def test_who_is_still_to_connect_is_told():
    import time

    from xpcs_live_denoise.sources.remote.publisher import DocumentPublisher
    from xpcs_live_denoise.sources.remote.receiver import RemoteDocuments

    with RemoteDocuments("tcp://127.0.0.1:9", print) as alone:
        assert "waiting for the output of bluesky's proxy" in alone.waits_for
        assert "--bind" in alone.waits_for
    with RemoteDocuments("tcp://127.0.0.1:0", print, bind=True) as bound:
        assert "No publisher has connected" in bound.waits_for
        publisher = DocumentPublisher(bound.address, connect_s=30)
        deadline = time.monotonic() + 30
        while bound.waits_for and time.monotonic() < deadline:
            time.sleep(0.01)
        assert bound.waits_for == ""
        publisher.close()
