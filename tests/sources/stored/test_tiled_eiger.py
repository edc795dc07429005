"""Runs of a classic Eiger out of Tiled, which stores of their files nothing but the prefix."""

import time
import uuid

import bluesky.plans as bp
import event_model
import numpy as np
import pytest
from bluesky.run_engine import RunEngine
from bluesky_tiled_plugins import TiledWriter
from tiled.structures.core import Spec

from profile_collection.chx_simulation import chx_series
from tests.support.file_roots import ANYWHERE
from tests.support.followed_runs import frames_in, paused, pausing
from tests.support.live_runs import ROIS, SHAPE, series
from xpcs_live_denoise import LiveDenoise, Settings, results
from xpcs_live_denoise.commands.replay import replay_runs
from xpcs_live_denoise.errors import (
    InvalidInputError,
    ResultNotFoundError,
    UnreadableFramesError,
    XpcsError,
)
from xpcs_live_denoise.simulation import SimulatedClassicEiger, recorded
from xpcs_live_denoise.sources.documents import RunDocuments
from xpcs_live_denoise.sources.file_roots import FileRoots
from xpcs_live_denoise.sources.frames import FrameReader
from xpcs_live_denoise.sources.stored.chosen import ChosenSeries
from xpcs_live_denoise.sources.stored.documents import TiledDocuments
from xpcs_live_denoise.sources.stored.runs import TiledRuns

# Tiled's client opens its websocket in a way that websockets is giving up.
pytestmark = pytest.mark.filterwarnings("ignore:connect\\(\\) must be used:DeprecationWarning")

FRAMES = series(60)
RUNS = Spec("CatalogOfBlueskyRuns", version="3.0")


@pytest.fixture
def engine(tiled_client, tmp_path):
    """A RunEngine with the writer of the profile."""
    engine = RunEngine({}, context_managers=[])
    engine.subscribe(
        TiledWriter(tiled_client["raw"], batch_size=1, backup_directory=str(tmp_path / "backup"))
    )
    yield engine
    assert not list((tmp_path / "backup").glob("*")), "the writer failed"


def eiger_in(folder, prefix=None, **options):
    return SimulatedClassicEiger(
        recorded(FRAMES),
        folder,
        name="eiger",
        prefix=prefix,
        images_per_file=8,
        write_delay_s=0.0,
        **{"n_frames": 20, "frame_rate_hz": 1000, **options},
    )


@pytest.fixture
def eiger(tmp_path):
    return eiger_in(tmp_path / "files")


def stored(client, uid, folder, data_key="eiger_image", series=()):
    chosen = ChosenSeries(names=tuple(series), detector="eiger", folders=()) if series else None
    roots = FileRoots([folder])
    return TiledDocuments(client["raw"], uid, data_key=data_key, roots=roots, chosen=chosen)


def frames_of(documents, folder):
    """Return the frames that a reader of the documents gets."""
    run = RunDocuments(dict(documents)["start"], detector="eiger", data_key="eiger_image")
    reader = FrameReader(roots=FileRoots([folder]))
    references = [found for name, doc in documents for found in run.receive(name, doc)]
    blocks = [block for one in references for block in reader.read(one, 10**6)]
    reader.close()
    return np.concatenate(blocks)


def series_in(documents):
    return [doc["datum_kwargs"]["seq_id"] for name, doc in documents if name == "datum"]


def plans(eiger):
    """By name: a plan, and the frames that it takes."""
    return {
        "series": (chx_series(eiger, expt=0.001, imnum=30, images_per_file=8), 30),
        "two events": (bp.count([eiger], num=2), 40),
        "one file": (chx_series(eiger, expt=0.001, imnum=5, images_per_file=8), 5),
        "three triggers": (bp.count([eiger]), 60),
    }


@pytest.mark.parametrize("plan", ["series", "two events", "one file", "three triggers"])
def test_a_stored_run_gives_the_documents_and_frames_that_it_had(
    engine, eiger, tiled_client, tmp_path, plan
):
    eiger.num_triggers.put(3 if plan == "three triggers" else 1)
    told = []
    engine.subscribe(lambda name, doc: told.append((name, dict(doc))))
    taken, n_frames = plans(eiger)[plan]
    uid = engine(taken)[0]
    documents = list(stored(tiled_client, uid, tmp_path).new_documents())
    for name, doc in documents:
        event_model.schema_validators[event_model.DocumentNames[name]].validate(dict(doc))
    assert [name for name, _ in documents] == [name for name, _ in told]
    assert series_in(documents) == series_in(told)
    np.testing.assert_array_equal(frames_of(documents, tmp_path), FRAMES[:n_frames])
    np.testing.assert_array_equal(frames_of(told, tmp_path), FRAMES[:n_frames])


def test_two_runs_with_one_prefix_are_kept_apart(engine, tiled_client, tmp_path):
    eiger = eiger_in(tmp_path / "files", "gel")
    uids = [engine(bp.count([eiger], num=num))[0] for num in (2, 1)]
    found = [series_in(list(stored(tiled_client, uid, tmp_path).new_documents())) for uid in uids]
    assert found == [[1, 2], [3]]


def test_a_run_that_was_paused_has_the_series_that_its_event_named(engine, tiled_client, tmp_path):
    pauses = pausing(engine, (1, 1))
    eiger = eiger_in(tmp_path / "files", make_files=pauses, frame_rate_hz=100)
    told = []
    engine.subscribe(lambda name, doc: told.append((name, dict(doc))))
    paused(lambda: engine(bp.count([eiger])))
    while len(list((tmp_path / "files").glob("*_1_data_*"))) < 3:  # the left one is whole, too
        time.sleep(0.02)
    (uid,) = engine.resume()
    documents = list(stored(tiled_client, uid, tmp_path).new_documents())
    assert series_in(documents) == [2]
    np.testing.assert_array_equal(frames_of(documents, tmp_path), frames_of(told, tmp_path))
    first = list(stored(tiled_client, uid, tmp_path, series=["1"]).new_documents())
    np.testing.assert_array_equal(frames_of(first, tmp_path), frames_in(tmp_path / "files", 1))
    with pytest.raises(InvalidInputError, match=r"--series 7: no such series; .*_1 \(20 frames, 2"):
        next(stored(tiled_client, uid, tmp_path, series=["7"]).new_documents())
    with pytest.raises(InvalidInputError, match="has 1 events, and --series names 2"):
        next(stored(tiled_client, uid, tmp_path, series=["1", "2"]).new_documents())


@pytest.mark.soak
def test_of_an_aborted_run_a_replay_lists_the_series_and_takes_the_named_one(
    engine, settings, tiled_client, tmp_path
):
    pauses = pausing(engine, (1, 2))
    eiger = eiger_in(tmp_path / "files", make_files=pauses, n_frames=40, frame_rate_hz=50)
    starts = []
    engine.subscribe(lambda name, doc: starts.append(doc), "start")
    paused(lambda: engine(bp.count([eiger], md={"data path": str(tmp_path / "files")})))
    engine.abort()
    uid = starts[0]["uid"]
    n_frames = len(frames_in(tmp_path / "files", 1))
    assert 16 <= n_frames < 40
    with pytest.raises(XpcsError, match=r"ended \(abort\) before an event.*--series N") as refused:
        replay_runs(settings, [uid], rois=ROIS, timeout=60)
    assert f"_1 ({n_frames} of 40 frames, 2" in str(refused.value)
    with pytest.raises(ResultNotFoundError):
        results(tiled_client, uid)
    for name in ("1", str(next((tmp_path / "files").glob("*_master.h5")))):
        replay_runs(settings, [uid], rois=ROIS, timeout=60, series=[name])
        replayed = results(tiled_client, uid)
        assert replayed.n_frames == n_frames
        assert replayed.xpcs["frame_time_s"] == 0.02, "the master tells it"
        assert replayed.metadata["stop"]["analysis_exit_status"] == "success"
    with pytest.raises(InvalidInputError, match="got 2 runs; expected one"):
        replay_runs(settings, [uid, uid], series=["1"])


def test_events_are_given_out_while_the_run_goes_on(tiled_client, tmp_path, engine, eiger):
    told = []
    engine.subscribe(lambda name, doc: told.append((name, dict(doc))))
    uid = engine(bp.count([eiger], num=2))[0]
    again = event_model.compose_run()
    uids = {uid: again.start_doc["uid"], dict(told)["stop"]["uid"]: again.compose_stop()["uid"]}
    writer = TiledWriter(tiled_client["raw"], batch_size=1)
    source = stored(tiled_client, again.start_doc["uid"], tmp_path)
    names = []
    for name, doc in told:
        copy = {key: uids.get(value, value) if key in ("uid", "run_start") else value
                for key, value in doc.items()}  # fmt: skip
        writer(name, copy)
        names.append([found for found, _ in source.new_documents()])
    assert [name for found in names for name in found] == [name for name, _ in told]
    assert [len(found) for found in names].count(0) > 2
    assert names[-1] == ["stop"]
    events = [k for k, found in enumerate(names) if "event" in found]
    assert len(events) == 2, "each came by itself"
    assert source.ended


def test_what_cannot_be_found_is_told_before_anything_is_given_out(
    engine, eiger, tiled_client, tmp_path
):
    uid = engine(bp.count([eiger]))[0]
    (master,) = (tmp_path / "files").glob("*_master.h5")
    master.rename(tmp_path / "files" / "away")
    source = stored(tiled_client, uid, tmp_path)
    for _ in range(2):
        with pytest.raises(UnreadableFramesError, match=f"Run {uid}, eiger_image: .*no master"):
            next(source.give_up())
    with pytest.raises(UnreadableFramesError, match="not below a folder that may be read"):
        next(stored(tiled_client, uid, tmp_path / "elsewhere").new_documents())
    (tmp_path / "files" / "away").rename(master)
    assert [name for name, _ in source.give_up()][-1] == "stop"


def write_run(client, spec):
    """Write a run of one event whose frames are in a file of that spec."""
    run = event_model.compose_run()
    key = {"source": "test", "dtype": "array", "shape": [4, 6, 8], "external": "FILESTORE:"}
    stream = run.compose_descriptor(name="primary", data_keys={"a_image": key})
    resource = run.compose_resource(
        spec=spec, root="/", resource_path="tmp/nowhere/gel", resource_kwargs={}
    )
    datum = resource.compose_datum(datum_kwargs={"seq_id": 1})
    event = stream.compose_event(
        data={"a_image": datum["datum_id"]},
        timestamps={"a_image": 0.0},
        filled={"a_image": False},
        validate=False,
    )
    writer = TiledWriter(client["raw"], batch_size=1)
    for name, doc in (
        ("start", run.start_doc),
        ("descriptor", stream.descriptor_doc),
        ("resource", resource.resource_doc),
        ("datum", datum),
        ("event", event),
        ("stop", run.compose_stop()),
    ):
        writer(name, doc)
    return run.start_doc["uid"]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("AD_EIGER", "no master file"),
        ("EIGER_NONE", "a file of the spec 'EIGER_NONE' that Tiled cannot read; expected an array"),
    ],
)
def test_other_files_that_tiled_cannot_read_are_told(tiled_client, tmp_path, spec, message):
    uid = write_run(tiled_client, spec)
    with pytest.raises(UnreadableFramesError, match=message):
        next(
            TiledDocuments(
                tiled_client["raw"], uid, data_key="a_image", roots=ANYWHERE
            ).new_documents()
        )


def test_frames_stored_as_something_else_are_told(tiled_client):
    run = event_model.compose_run()
    uid = run.start_doc["uid"]
    key = {"source": "test", "dtype": "array", "shape": [4, 6, 8], "external": "FILESTORE:"}
    stream = run.compose_descriptor(name="primary", data_keys={"a_image": key})
    writer = TiledWriter(tiled_client["raw"], batch_size=1)
    writer("start", run.start_doc)
    writer("descriptor", stream.descriptor_doc)
    tiled_client["raw"][uid].create_container("notes")  # no stream
    tiled_client["raw"][uid]["primary"].base.create_container("a_image")
    writer("stop", run.compose_stop())
    source = TiledDocuments(tiled_client["raw"], uid, data_key="a_image", roots=ANYWHERE)
    with pytest.raises(UnreadableFramesError, match="'a_image' is stored as a container; expected"):
        next(source.new_documents())


def test_documents_are_read_of_a_whole_uid_only(tiled_client):
    runs = tiled_client.create_container(f"raw_{uuid.uuid4()}", specs=[RUNS])
    uid = "abcdef12-3456-7890-abcd-000000000000"
    spec = Spec("BlueskyRun", version="3.0")
    runs.create_container(uid, metadata={"start": {"uid": uid}}, specs=[spec])
    with pytest.raises(ResultNotFoundError, match=f"the beginning of a uid.* Give {uid}"):
        next(TiledDocuments(runs, uid[:8], data_key="a_image", roots=ANYWHERE).give_up())


@pytest.fixture
def settings(tiled_server, tmp_path, monkeypatch):
    monkeypatch.setenv("TILED_API_KEY", tiled_server.api_key)
    return Settings(
        detector="eiger",
        denoise=False,
        file_roots=[tmp_path],
        tiled={"uri": tiled_server.uri, "raw_path": "raw"},
    )


def test_a_replay_equals_what_was_computed_live(engine, eiger, settings, tiled_client):
    live = LiveDenoise(settings, rois=ROIS, catalog=tiled_client, device=eiger)
    engine.subscribe(live)
    uid = engine(chx_series(eiger, expt=0.01, imnum=60, images_per_file=8))[0]
    assert live.wait(120)
    assert live.close(120)
    found = replay_runs(settings, [uid], rois=ROIS, timeout=120)[uid]
    assert (found["n_compared"], found["n_one_sided"]) == (60, 0)
    assert found["c2_difference"] < 1e-5
    assert found["n_rates"] > 0
    assert found["rate_difference"] < 1e-3
    replayed = results(tiled_client, uid)
    assert replayed.metadata["stop"]["exit_status"] == "success"
    assert not replayed.status_table()["n_skipped"].any()
    assert replayed.image()[0].shape == SHAPE


def test_a_followed_run_whose_files_are_missing_is_ended_with_the_reason(
    engine, eiger, tiled_server, tmp_path
):
    documents = []
    runs = TiledRuns(
        tiled_server.client()["raw"],
        lambda name, doc: documents.append((name, doc)),
        detector="eiger",
        data_key="eiger_image",
        roots=FileRoots([tmp_path / "elsewhere"]),
        poll_s=0.1,
        missing_s=0.3,
    )
    runs.look()  # a run that is over at the first look is an old one
    with runs:
        deadline = time.monotonic() + 60
        uid = engine(bp.count([eiger]))[0]
        while not (documents and documents[-1][0] == "stop") and time.monotonic() < deadline:
            time.sleep(0.05)
    assert [name for name, _ in documents] == ["start", "descriptor", "stop"]
    stop = documents[-1][1]
    assert (stop["run_start"], stop["exit_status"]) == (uid, "fail")
    assert "Add its folder to the setting `file_roots`" in stop["reason"]
    runs.look()
    assert len(documents) == 3
