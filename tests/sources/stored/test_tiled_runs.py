"""Raw runs in Tiled as documents: stored ones at once, others while they are taken."""

import logging
import threading
import time
import uuid

import bluesky.plans as bp
import event_model
import numpy as np
import pytest
from bluesky.run_engine import RunEngine
from bluesky_tiled_plugins import TiledWriter

from tests.support.file_roots import ANYWHERE
from tests.support.old_catalog import OldRun
from xpcs_live_denoise.catalog.nodes import raw_container
from xpcs_live_denoise.errors import ResultNotFoundError
from xpcs_live_denoise.simulation import SimulatedCamera, SimulatedEiger, fly_series, recorded
from xpcs_live_denoise.sources.documents import RunDocuments
from xpcs_live_denoise.sources.file_roots import FileRoots
from xpcs_live_denoise.sources.frames import FrameReader, read_tiled
from xpcs_live_denoise.sources.stored.documents import TiledDocuments
from xpcs_live_denoise.sources.stored.runs import TiledRuns

# Tiled's client opens its websocket in a way that websockets is giving up.
pytestmark = pytest.mark.filterwarnings("ignore:connect\\(\\) must be used:DeprecationWarning")

FRAMES = np.random.default_rng(3).poisson(2.0, (24, 20, 30)).astype(np.uint16)


@pytest.fixture
def engine(tiled_client):
    engine = RunEngine({}, context_managers=[])
    engine.subscribe(TiledWriter(tiled_client["raw"], batch_size=1))
    return engine


@pytest.fixture
def folder(tiled_server):
    """A folder whose files the server may read."""
    return tiled_server.directory / str(uuid.uuid4())


def eiger(folder):
    return SimulatedEiger(
        recorded(FRAMES), folder, n_frames=len(FRAMES), name="eiger", frame_rate_hz=100
    )


def frames_behind(documents, data_key, client, detector):
    """Return the frames that a reader of documents gets, and the kinds of their references."""
    run = RunDocuments(dict(documents)["start"], detector=detector, data_key=data_key)
    reader = FrameReader(roots=ANYWHERE, tiled=lambda *args: read_tiled(client, *args, below="raw"))
    blocks, kinds = [], set()
    for name, doc in documents[1:]:
        for reference in run.receive(name, doc):
            kinds.add(type(reference).__name__)
            blocks.extend(reader.read(reference, 2000))
    reader.close()
    return np.concatenate(blocks), kinds


def test_frames_of_events_are_referred_to_as_slices(engine, tiled_client):
    uid = engine(bp.count([SimulatedCamera(recorded(FRAMES), name="camera")], num=24))[0]
    source = TiledDocuments(tiled_client["raw"], uid, data_key="camera_image", roots=ANYWHERE)
    documents = list(source.new_documents())
    assert [name for name, _ in documents] == [
        "start", "descriptor", "stream_resource", "stream_datum", "event_page", "stop",
    ]  # fmt: skip
    for name, doc in documents:
        event_model.schema_validators[event_model.DocumentNames[name]].validate(dict(doc))
    frames, kinds = frames_behind(documents, "camera_image", tiled_client, "camera")
    np.testing.assert_array_equal(frames, FRAMES)
    assert kinds == {"TiledFrames"}
    assert source.ended
    assert list(source.new_documents()) == []


@pytest.mark.parametrize(("readable", "kind"), [(True, "HDF5Frames"), (False, "TiledFrames")])
def test_frames_in_a_file_are_read_there_where_that_is_allowed(
    engine, tiled_client, folder, tmp_path, readable, kind
):
    uid = engine(fly_series(eiger(folder)))[0]
    roots = FileRoots([folder if readable else tmp_path])
    source = TiledDocuments(tiled_client["raw"], uid, data_key="eiger_image", roots=roots)
    frames, kinds = frames_behind(
        list(source.new_documents()), "eiger_image", tiled_client, "eiger"
    )
    np.testing.assert_array_equal(frames, FRAMES)
    assert kinds == {kind}


def test_a_run_that_is_not_there_is_told(tiled_client):
    source = TiledDocuments(tiled_client["raw"], "nowhere", data_key="a", roots=ANYWHERE)
    with pytest.raises(ResultNotFoundError, match="not in /raw"):
        list(source.new_documents())


def test_a_run_without_a_stop_is_ended_when_it_is_given_up(tiled_client):
    run = event_model.compose_run()
    writer = TiledWriter(tiled_client["raw"], batch_size=1)
    writer("start", run.start_doc)
    source = TiledDocuments(
        tiled_client["raw"], run.start_doc["uid"], data_key="a_image", roots=ANYWHERE
    )
    assert [name for name, _ in source.new_documents()] == ["start"]
    assert [name for name, _ in source.new_documents()] == []
    (name, stop), *rest = source.give_up()
    assert (name, stop["exit_status"], rest) == ("stop", "fail", [])
    assert "no stop document" in stop["reason"]
    writer("stop", run.compose_stop())


def test_a_run_without_the_data_key_still_tells_what_it_has(engine, tiled_client):
    uid = engine(bp.count([SimulatedCamera(recorded(FRAMES), name="camera")], num=1))[0]
    source = TiledDocuments(tiled_client["raw"], uid, data_key="other_image", roots=ANYWHERE)
    documents = list(source.new_documents())
    assert [name for name, _ in documents] == ["start", "descriptor", "stop"]
    assert "camera_image" in documents[1][1]["data_keys"]


def test_documents_of_an_old_catalog_are_passed_on_as_they_are():
    run = event_model.compose_run()
    resource = run.compose_resource(
        spec="AD_EIGER2", root="/", resource_path="a", resource_kwargs={"images_per_file": 10}
    )
    documents = [
        ("start", run.start_doc),
        ("resource", resource.resource_doc),
        ("datum", resource.compose_datum(datum_kwargs={"seq_id": 1})),
        ("stop", run.compose_stop()),
    ]
    uid = run.start_doc["uid"]
    source = TiledDocuments({uid: OldRun(documents)}, uid, data_key="a_image", roots=ANYWHERE)
    assert list(source.new_documents()) == documents


def test_documents_of_an_old_catalog_that_break_off_come_again():
    run = event_model.compose_run()
    documents = [("start", run.start_doc), ("stop", run.compose_stop())]
    uid, stored = run.start_doc["uid"], OldRun(documents)

    def broken():
        yield documents[0]
        raise ConnectionError("no route")

    stored.documents = broken
    source = TiledDocuments({uid: stored}, uid, data_key="a_image", roots=ANYWHERE)
    with pytest.raises(ConnectionError):
        list(source.new_documents())
    assert not source.ended
    stored.documents = OldRun(documents).documents
    assert [name for name, _ in source.new_documents()] == ["stop"]
    assert source.ended


def test_a_container_that_is_not_there_is_told(tiled_client):
    assert raw_container(tiled_client, "raw").path_parts == tiled_client["raw"].path_parts
    with pytest.raises(ResultNotFoundError, match="Container /nowhere: not in the Tiled server"):
        raw_container(tiled_client, "nowhere")


class Collected:
    """A callback that keeps what it is given, by the uid of the run."""

    def __init__(self):
        self.documents = []
        self.changed = threading.Condition()

    def __call__(self, name, doc):
        with self.changed:
            self.documents.append((name, doc))
            self.changed.notify_all()

    def wait_for(self, condition, timeout=30):
        with self.changed:
            assert self.changed.wait_for(lambda: condition(self.documents), timeout)

    def names(self):
        return [name for name, _ in self.documents]


def follow(client, collected, data_key="eiger_image", detector="eiger", **options):
    options = {"roots": ANYWHERE, **options}
    return TiledRuns(client["raw"], collected, detector=detector, data_key=data_key, **options)


def ended(documents):
    return any(name == "stop" for name, _ in documents)


def test_a_run_is_followed_while_it_is_taken(engine, tiled_client, tiled_server, folder):
    collected = Collected()
    runs = follow(tiled_server.client(), collected, roots=FileRoots([]))
    runs.look()  # a run that is over at the first look is an old one
    with runs:
        uid = engine(fly_series(eiger(folder)))[0]
        engine(bp.count([SimulatedCamera(recorded(FRAMES), name="camera")], num=1))
        collected.wait_for(ended)
    assert {doc["uid"] for name, doc in collected.documents if name == "start"} == {uid}
    frames, kinds = frames_behind(collected.documents, "eiger_image", tiled_client, "eiger")
    np.testing.assert_array_equal(frames, FRAMES)
    assert kinds == {"TiledFrames"}


def test_news_come_while_the_run_goes_on(tiled_client, tiled_server):
    run = event_model.compose_run(metadata={"detectors": ["cam"]})
    key = {"source": "test", "dtype": "array", "shape": [20, 30], "dtype_numpy": "<u2"}
    stream = run.compose_descriptor(name="primary", data_keys={"cam_image": key})
    writer = TiledWriter(tiled_client["raw"], batch_size=1)
    collected = Collected()
    with follow(tiled_server.client(), collected, "cam_image", "cam", poll_s=0.2) as runs:
        deadline = time.monotonic() + 30
        while not runs.subscribed and time.monotonic() < deadline:
            time.sleep(0.05)
        assert runs.subscribed
        writer("start", run.start_doc)
        writer("descriptor", stream.descriptor_doc)
        for k, frame in enumerate(FRAMES[:5]):
            event = stream.compose_event(
                data={"cam_image": frame.tolist()}, timestamps={"cam_image": 0.0}
            )
            writer("event", event)
            collected.wait_for(
                lambda documents, k=k: any(
                    name == "stream_datum" and doc["indices"]["stop"] == k + 1
                    for name, doc in documents
                )
            )
        assert not ended(collected.documents)
        writer("stop", run.compose_stop())
        collected.wait_for(ended)
    frames, _ = frames_behind(collected.documents, "cam_image", tiled_client, "cam")
    np.testing.assert_array_equal(frames, FRAMES[:5])


def test_a_run_that_goes_on_when_we_come_is_taken_up_and_an_old_one_is_not(
    engine, tiled_client, tiled_server
):
    engine(bp.count([SimulatedCamera(recorded(FRAMES), name="cam")], num=1))
    run = event_model.compose_run(metadata={"detectors": ["cam"]})
    writer = TiledWriter(tiled_client["raw"], batch_size=1)
    writer("start", run.start_doc)
    collected = Collected()
    with follow(tiled_server.client(), collected, "cam_image", "cam"):
        collected.wait_for(lambda documents: documents)
        writer("stop", run.compose_stop())
        collected.wait_for(ended)
    assert collected.names() == ["start", "stop"]
    assert collected.documents[0][1]["uid"] == run.start_doc["uid"]


def test_a_run_whose_writer_died_is_ended_when_another_begins(tiled_client, tiled_server):
    collected = Collected()
    writer = TiledWriter(tiled_client["raw"], batch_size=1)
    with follow(tiled_server.client(), collected, "cam_image", "cam", poll_s=0.1, idle_s=0.2):
        runs = [event_model.compose_run(metadata={"detectors": ["cam"]}) for _ in range(2)]
        writer("start", runs[0].start_doc)
        collected.wait_for(lambda documents: documents)
        writer("start", runs[1].start_doc)
        collected.wait_for(ended)
        stop = dict(collected.documents)["stop"]
        assert stop["run_start"] == runs[0].start_doc["uid"]
        assert stop["exit_status"] == "fail"
        for run in runs:
            writer("stop", run.compose_stop())


class DeadServer:
    """A container of a server that is away."""

    def keys(self):
        raise ConnectionError("no route")

    def subscribe(self):
        raise ConnectionError("no route")


def test_a_server_that_is_away_is_told_once_and_asked_again(caplog):
    with caplog.at_level(logging.WARNING):
        runs = TiledRuns(
            DeadServer(), print, detector="a", data_key="b", roots=ANYWHERE, poll_s=0.01
        )
        with runs:
            deadline = time.monotonic() + 10
            while "does not tell of news" not in caplog.text and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(0.1)
    assert not runs.subscribed
    assert caplog.text.count("looking for new runs") == 1


class SlowKeys(dict):
    """The nodes of a container, which Tiled's client gives out with a list of keys of its own."""

    def keys(self):
        return self

    def tail(self, n):
        return list(self)[-n:]

    def __getitem__(self, uid):
        if isinstance(found := self.get(uid), Exception):
            raise found
        return found


def test_a_node_that_cannot_be_opened_hides_none_after_it():
    old, new = (event_model.compose_run() for _ in range(2))
    over, stop = old.start_doc["uid"], old.compose_stop()
    nodes = SlowKeys(
        {
            "broken": RuntimeError("no client"),
            over: OldRun([("start", old.start_doc), ("stop", stop)]),
        }
    )
    collected = Collected()
    runs = TiledRuns(nodes, collected, detector="cam", data_key="cam_image", roots=ANYWHERE)
    runs.look()
    uid = new.start_doc["uid"]
    nodes[uid] = OldRun([("start", new.start_doc), ("stop", new.compose_stop())])
    runs.look()
    assert [doc.get("run_start", doc.get("uid")) for _, doc in collected.documents] == [uid, uid]


class Deletable(dict):
    """The nodes of a container, some of which may be gone when they are opened."""

    path_parts = ("raw",)

    def keys(self):
        return self

    def tail(self, n):
        return list(self)[-n:]


@pytest.mark.parametrize("by_patience", [True, False])
def test_a_run_that_was_deleted_is_ended_with_the_reason_and_forgotten(by_patience):
    run = event_model.compose_run()
    uid, node = run.start_doc["uid"], OldRun([("start", run.start_doc), ("stop", {})])
    del node.metadata["stop"]
    nodes, collected = Deletable({uid: node}), Collected()
    runs = TiledRuns(
        nodes,
        collected,
        detector="cam",
        data_key="cam_image",
        roots=ANYWHERE,
        **{"missing_s" if by_patience else "idle_s": 0.0},
    )
    runs.look()
    assert collected.names() == ["start"]
    del nodes[uid]
    runs.look()
    assert collected.names() == ["start", "stop"]
    stop = collected.documents[1][1]
    assert (stop["run_start"], stop["exit_status"]) == (uid, "fail")
    assert f"Run {uid}: not in /raw" in stop["reason"]
    runs.look()
    assert len(collected.names()) == 2


def test_a_server_that_does_not_answer_does_not_hold_the_end_up():
    asked, answer = threading.Event(), threading.Event()

    class Silent(DeadServer):
        def keys(self):
            asked.set()
            answer.wait(30)
            return super().keys()

    runs = TiledRuns(
        Silent(), print, detector="a", data_key="b", roots=ANYWHERE, poll_s=0.01
    ).start()
    assert asked.wait(10)
    began = time.monotonic()
    runs.stop(leave_s=0.1)
    assert time.monotonic() - began < 5
    answer.set()
    runs.stop()  # its thread would log what it was answered into a test of others
