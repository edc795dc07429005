"""DocumentsByRun: each run's documents to its own callback."""

from __future__ import annotations

import event_model
import pytest

from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.sources.documents import MOST_OPEN_RUNS, NO_STOP, DocumentsByRun


class Recorder:
    """Remembers the documents of every run; raises for names in `broken`."""

    def __init__(self, broken=()):
        self.runs = {}
        self.broken = broken
        self.router = DocumentsByRun(self.begin)

    def begin(self, start):
        got = self.runs.setdefault(start["uid"], [])

        def callback(name, doc):
            got.append((name, doc))
            if name in self.broken:
                raise RuntimeError("broken")

        return callback

    def names(self, uid):
        return [name for name, _ in self.runs[uid]]


def test_the_documents_of_interleaved_runs_are_kept_apart():
    recorder = Recorder()
    runs = [event_model.compose_run() for _ in range(2)]
    for run in runs:
        recorder.router("start", run.start_doc)
    for run in reversed(runs):
        recorder.router("stop", run.compose_stop())
    for run in runs:
        assert recorder.names(run.start_doc["uid"]) == ["start", "stop"]


def test_an_event_passes_before_its_datum():
    recorder = Recorder()
    run = event_model.compose_run()
    key = {"source": "t", "dtype": "array", "shape": [4, 6], "external": "FILESTORE:"}
    stream = run.compose_descriptor(name="primary", data_keys={"image": key})
    event = stream.compose_event(
        data={"image": "r/0"}, timestamps={"image": 0.0}, filled={"image": False}, validate=False
    )
    for name, doc in (
        ("start", run.start_doc),
        ("descriptor", stream.descriptor_doc),
        ("event", event),
    ):
        recorder.router(name, doc)
    assert recorder.names(run.start_doc["uid"]) == ["start", "descriptor", "event_page"]


@pytest.mark.parametrize("name", ["emit", "__init__", "__class__", "bulk_events", "", 5, None, []])
def test_nothing_but_a_document_of_the_event_model_is_taken(name):
    recorder = Recorder()
    with pytest.raises(InvalidInputError, match="expected a document of the event model"):
        recorder.router(name, {"uid": "a"})
    assert recorder.runs == {}


@pytest.mark.parametrize(
    "uid", [5, None, "", "x" * 1000, ["a"], float("nan"), "a\x1b[2J", "a\0", "a\ud800"]
)
def test_a_run_without_a_proper_uid_is_not_begun(uid):
    recorder = Recorder()
    with pytest.raises(InvalidInputError, match="has the uid"):
        recorder.router("start", {"uid": uid})
    assert recorder.runs == {}


@pytest.mark.parametrize(
    ("name", "doc"),
    [
        ("start", {}),
        ("descriptor", {"uid": "d", "run_start": "unknown"}),
        ("event", {"descriptor": "unknown", "data": {}}),
        ("event_page", {"descriptor": ["unhashable"]}),
        ("datum_page", {"resource": "unknown"}),
        ("stream_datum", {"stream_resource": "unknown"}),
        ("stop", {}),
    ],
)
def test_what_belongs_to_no_run_is_refused(name, doc):
    with pytest.raises(InvalidInputError, match="belongs to no run that began here"):
        Recorder().router(name, doc)


def test_a_start_that_comes_twice_begins_one_run():
    recorder = Recorder()
    start = {"uid": "a", "time": 0.0}
    recorder.router("start", start)
    with pytest.raises(InvalidInputError, match="came twice"):
        recorder.router("start", start)
    recorder.router("stop", {"run_start": "a"})
    recorder.router("stop", {"run_start": "a"})
    assert recorder.names("a") == ["start", "stop"]


def test_a_run_is_over_at_its_stop_even_if_its_callback_raises():
    recorder = Recorder(broken=["stop"])
    recorder.router("start", {"uid": "a"})
    with pytest.raises(RuntimeError, match="broken"):
        recorder.router("stop", {"run_start": "a"})
    recorder.broken = ()
    recorder.router("start", {"uid": "a"})  # not "twice": the first one is forgotten
    assert recorder.names("a") == ["start", "stop", "start"]


def test_runs_whose_stop_never_comes_are_ended_when_many_have_begun():
    recorder = Recorder()
    for index in range(MOST_OPEN_RUNS + 2):
        recorder.router("start", {"uid": f"run {index}"})
    ended = [uid for uid in recorder.runs if "stop" in recorder.names(uid)]
    assert ended == ["run 0", "run 1"]
    _, stop = recorder.runs["run 0"][-1]
    assert (stop["exit_status"], stop["reason"]) == ("fail", NO_STOP)
