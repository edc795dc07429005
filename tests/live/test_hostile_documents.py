"""Documents with anything in them: the callback lives on, and the next run has its result."""

from __future__ import annotations

import functools
import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.hostile_documents import HUGE, KEY, SHAPE, proper_run, spoiled_runs, values
from tests.support.live_runs import ROIS
from xpcs_live_denoise import LiveDenoise, Settings
from xpcs_live_denoise.live import Timings
from xpcs_live_denoise.live.run import MOST_CHARACTERS
from xpcs_live_denoise.sinks.memory import MemorySink

hostile = functools.partial(
    settings,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


class Receiver:
    """A LiveDenoise that many examples use one after the other, and its newest sink."""

    def __init__(self, **fields):
        self.sinks = {}
        options = {"detector": "cam", "publish_period_s": 0.02, "denoise": False, **fields}
        self.live = LiveDenoise(
            Settings(**options), rois=ROIS, sinks=[self.sink], timings=Timings(read_s=0.01)
        )

    def sink(self, info):
        self.sinks[info.uid] = MemorySink(info)
        return self.sinks[info.uid]

    def send(self, documents):
        """Send documents; nothing may be raised."""
        for name, doc in documents:
            self.live(name, doc)

    def require_alive(self):
        """A proper run, sent now, gives its result."""
        documents = proper_run("inline")
        uid = documents[0][1]["uid"]
        self.send(documents)
        assert self.live.wait(30)
        result = self.sinks[uid].result
        assert result.c2.shape == (2, 6, 6)
        assert np.isfinite(result.c2).all()
        self.sinks.clear()


@pytest.fixture
def receiver(tmp_path):
    receiver = Receiver(file_roots=[tmp_path])
    yield receiver
    assert receiver.live.close(20)


@hostile(max_examples=25)
@given(runs=st.lists(spoiled_runs(), min_size=4, max_size=4))
def test_runs_with_spoiled_documents_harm_nothing(receiver, runs):
    for documents in runs:
        receiver.send(documents)
    receiver.require_alive()


no_documents = st.lists(st.tuples(st.one_of(st.sampled_from(("start", "stop")), values), values))


@hostile(max_examples=10)
@given(several=st.lists(no_documents, min_size=3, max_size=3))
def test_what_is_no_document_at_all_harms_nothing(receiver, several):
    for documents in several:
        receiver.send(documents)
    receiver.require_alive()


def changed(form, name, place, value):
    """Return a proper run of which one field of the first document of a name is another one."""
    documents = proper_run(form)
    doc = next(doc for known, doc in documents if known == name)
    for key in place[:-1]:
        doc = doc[key]
    doc[place[-1]] = value
    return documents


def endless():
    value = []
    value.append(value)
    return value


def deep(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


WORST = {
    "10**15 inline frames": (
        "inline",
        "event",
        ("data", KEY),
        np.broadcast_to(np.uint16(1), (HUGE, *SHAPE)),
    ),
    "a frame of 10**14 bytes": (
        "inline",
        "event",
        ("data", KEY),
        np.broadcast_to(np.uint8(1), (10**7, 10**7)),
    ),
    "a list in itself": ("inline", "event", ("data", KEY), endless()),
    "100,000 lists in one another": ("inline", "event", ("data", KEY), deep(100_000)),
    "an event number of 10**15": ("inline", "event", ("seq_num",), HUGE),
    "an event number of 400 digits": ("inline", "event", ("seq_num",), 10**400),
    "a text of 50 MB as a uid": ("inline", "event", ("descriptor",), "x" * 50_000_000),
    "a data key without a name": ("inline", "descriptor", ("data_keys",), {None: {"shape": []}}),
    "a configuration that is a text": ("inline", "descriptor", ("configuration",), "text"),
    "a configuration of deep lists": (
        "inline",
        "descriptor",
        ("configuration", "cam", "data", "cam_beam_center_x"),
        deep(100_000),
    ),
    "a shape of 10**45 frames": (
        "stream",
        "descriptor",
        ("data_keys", KEY, "shape"),
        [HUGE, HUGE, HUGE, 30, 40],
    ),
    "a shape of negative lengths": ("stream", "descriptor", ("data_keys", KEY, "shape"), [-5, -1]),
    "10**15 points": ("stream", "start", ("num_points",), HUGE),
    "10**15 images": ("stream", "start", ("number of images",), f"{HUGE}"),
    "detectors that are a number": ("stream", "start", ("detectors",), 5),
    "10**15 frames in a stream": ("stream", "stream_datum", ("indices", "stop"), HUGE),
    "frames from 10**30 on": (
        "stream",
        "stream_datum",
        ("indices",),
        {"start": 10**30, "stop": 10**30 + 5},
    ),
    "a million frames that are not there": ("stream", "stream_datum", ("indices", "stop"), 10**6),
    "10**15 frames an index": ("stream", "stream_resource", ("parameters", "multiplier"), HUGE),
    "a dataset of 10 MB": ("stream", "stream_resource", ("parameters", "dataset"), "x" * 10**7),
    "10**15 frames behind a datum": (
        "asset",
        "resource",
        ("resource_kwargs",),
        {"frame_per_point": HUGE},
    ),
    "an argument that no handler has": ("asset", "resource", ("resource_kwargs",), {"x": 1}),
    "a spec that is a list": ("asset", "resource", ("spec",), ["AD_HDF5"]),
    "an Eiger's sequence of text": ("asset", "resource", ("spec",), "AD_EIGER2"),
    "a datum number of 10**400": ("asset", "datum", ("datum_kwargs",), {"point_number": 10**400}),
    "a stop whose reason is a list": ("inline", "stop", ("reason",), deep(100_000)),
    "a stop whose status is a number": ("inline", "stop", ("exit_status",), 5.0),
    "a stop with a reason of 50 MB": ("inline", "stop", ("reason",), "x" * 50_000_000),
}


@pytest.mark.parametrize("worst", WORST.values(), ids=WORST.keys())
def test_the_worst_values_neither_allocate_nor_loop_nor_fill_the_log(receiver, worst, caplog):
    documents = changed(*worst)
    receiver.send(documents)
    assert receiver.live.wait(30)
    for sink in receiver.sinks.values():
        assert len(sink.end.reason) < 20 * MOST_CHARACTERS
    messages = [record.getMessage() for record in caplog.records]
    assert sum(map(len, messages)) < 50 * MOST_CHARACTERS
    receiver.require_alive()


# --- files that documents name ------------------------------------------------------------------


@pytest.fixture
def secret(tmp_path):
    """Readable frames outside of the only root, tmp_path/data; a link leads there."""
    import h5py

    (tmp_path / "data").mkdir()
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["entry/data/data"] = np.ones((10, *SHAPE), "u2")
    (tmp_path / "data/link.h5").symlink_to(tmp_path / "secret.h5")
    (tmp_path / "data/folder").symlink_to(tmp_path)
    receiver = Receiver(file_roots=[tmp_path / "data"])
    yield tmp_path, receiver
    assert receiver.live.close(20)


@pytest.mark.parametrize(
    "name",
    [
        "{0}/secret.h5",
        "{0}/data/../secret.h5",
        "{0}/data/link.h5",
        "{0}/data/folder/secret.h5",
        "/../..{0}/secret.h5",
        "/proc/self/root{0}/secret.h5",
        "/dev/zero",
    ],
)
@pytest.mark.parametrize("form", ["stream", "uri", "asset", "root", "swmr asset", "eiger"])
def test_no_way_leads_to_a_file_outside_the_roots(secret, form, name):
    folder, receiver = secret
    path = name.format(folder)
    documents = proper_run("stream" if form in ("stream", "uri") else "asset")
    resource = next(doc for kind, doc in documents if kind in ("resource", "stream_resource"))
    if form == "stream":
        resource["uri"] = path
    elif form == "uri":
        resource["uri"] = "file://localhost" + path.replace("/", "%2f").replace("%2f", "/", 1)
    elif form == "root":
        root, _, rest = path.rpartition("/")
        resource.update(root=root, resource_path=rest)
    else:
        resource.update(root="/", resource_path=path)
    if form == "swmr asset":
        resource["spec"] = "AD_HDF5_SWMR"
    if form == "eiger":
        resource.update(spec="AD_EIGER2", resource_kwargs={"images_per_file": 6})
        for kind, doc in documents:
            if kind == "datum":
                doc["datum_kwargs"] = {"seq_id": 1}
    receiver.send(documents)
    assert receiver.live.wait(30)
    (sink,) = receiver.sinks.values()
    assert sink.end.status.n_processed == 0
    assert sink.end.analysis_exit_status == "fail"
    if form != "eiger":  # there is no master file of that name
        assert "may be read" in sink.end.status.message


@pytest.mark.parametrize("value", [deep(100_000), 10**400, "x" * 10**6, float("nan"), [1, 2], {}])
def test_a_quantity_that_is_no_number_costs_a_sentence_and_not_the_run(receiver, value):
    place = ("configuration", "cam", "data", "cam_beam_center_x")
    documents = changed("inline", "descriptor", place, value)
    receiver.send(documents)
    assert receiver.live.wait(30)
    (sink,) = receiver.sinks.values()
    assert sink.result.status.n_processed == 6
    assert "no usable number" in sink.result.status.message


def test_a_start_document_of_odd_values_can_be_stored(receiver):
    documents = changed("inline", "start", ("cycle",), deep(100_000))
    receiver.send(documents)
    assert receiver.live.wait(30)
    (sink,) = receiver.sinks.values()
    assert len(json.dumps(sink.info.start)) < 10_000
