"""Serve without a Tiled server: what it refuses, what it says, how it ends."""

import io
import os
import signal
import threading
import time

import pytest
from rich.console import Console
from tiled.structures.core import Spec

from tests.support.live_runs import composed_run, series
from xpcs_live_denoise import LiveDenoise, RoiMap, Settings, save_rois
from xpcs_live_denoise.commands import serve
from xpcs_live_denoise.commands.serve import ServeOptions, StatusLines, status_line
from xpcs_live_denoise.errors import InvalidInputError, TiledUnavailableError
from xpcs_live_denoise.records.run import Status
from xpcs_live_denoise.sources.remote.publisher import DocumentPublisher


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.setenv("TILED_API_KEY", "the-secret")
    labels = RoiMap.from_labels([[1, 1], [2, 2]])
    save_rois(labels, tmp_path / "rois.npz")
    return Settings(
        detector="cam",
        rois=tmp_path / "rois.npz",
        file_roots=[tmp_path],
        spool=tmp_path / "spool",
        tiled={"uri": "http://127.0.0.1:9", "raw_path": "raw"},
    )


class Screen:
    """A console whose text can be waited for."""

    def __init__(self):
        self._file = io.StringIO()
        self.console = Console(file=self._file, width=200)

    @property
    def text(self):
        return self._file.getvalue()

    def wait_for(self, text, timeout=120):
        deadline = time.monotonic() + timeout
        while text not in self.text:
            assert time.monotonic() < deadline, f"no {text!r} in:\n{self.text}"
            time.sleep(0.01)


@pytest.fixture
def served(settings, monkeypatch):
    """Serve on a thread; give the screen, the address, and what ends it and returns the answer."""
    monkeypatch.setattr(serve, "TICK_S", 0.02)
    monkeypatch.setattr(serve, "CLOSE_S", 5.0)
    screen, ending, answers = Screen(), threading.Event(), []

    def end():
        ending.set()
        thread.join(120)
        return answers[0]

    options = ServeOptions(documents="0", bind=True)
    thread = threading.Thread(
        target=lambda: answers.append(serve.serve(settings, options, screen.console, ending=ending))
    )
    thread.start()
    screen.wait_for("Ready")
    line = next(line for line in screen.text.splitlines() if "tcp://" in line)
    yield screen, line.split()[-1].rstrip("."), end
    end()


@pytest.fixture
def publisher(served):
    """A publisher that serve hears."""
    _, address, _ = served
    made = DocumentPublisher(address, connect_s=60)
    yield made
    made.close()


def test_documents_of_another_process_are_analysed_and_what_cannot_be_stored_is_kept(
    served, publisher, settings
):
    screen, _, end = served
    assert "http://127.0.0.1:9: no answer" in screen.text, "told before the first run"
    uid, send, stop = composed_run(publisher, shape=(2, 2))
    for frame in series(6)[:, :2, :2]:
        send(frame)
    stop()
    screen.wait_for(f"Run {uid[:8]}: 6 of 6 frames")
    assert end() is False
    assert "xpcs-live-denoise deliver" in screen.text
    assert list(settings.spool.iterdir())
    assert "the-secret" not in screen.text


def test_files_elsewhere_are_not_read_whatever_a_document_names(served, publisher):
    screen, *_ = served
    publisher("start", {"uid": "run", "time": 0.0})
    key = {"source": "", "dtype": "array", "shape": [2, 2], "external": "STREAM:"}
    publisher(
        "descriptor",
        {
            "uid": "stream", "run_start": "run", "time": 0.0, "name": "primary",
            "data_keys": {"cam_image": key},
        },
    )  # fmt: skip
    publisher(
        "stream_resource",
        {
            "uid": "file", "run_start": "run", "data_key": "cam_image", "parameters": {},
            "mimetype": "application/x-hdf5", "uri": "file://localhost/etc/passwd",
        },
    )  # fmt: skip
    publisher(
        "stream_datum",
        {
            "uid": "file/0", "stream_resource": "file", "descriptor": "stream",
            "indices": {"start": 0, "stop": 3}, "seq_nums": {"start": 1, "stop": 4},
        },
    )  # fmt: skip
    screen.wait_for("not below a folder that may be read")


def test_ctrl_c_ends_it_and_gives_the_signals_back(settings, monkeypatch):
    monkeypatch.setattr(serve, "TICK_S", 0.02)
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    screen = Screen()

    def press():
        screen.wait_for("Ready")
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=press)
    thread.start()
    assert serve.serve(settings, ServeOptions(documents="0", bind=True), screen.console)
    thread.join()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.mark.parametrize(
    ("fields", "options", "match"),
    [
        ({"file_roots": None}, {"documents": "0"}, "file_roots: not set"),
        ({}, {}, "Nothing to serve"),
        ({}, {"documents": "0", "tiled": True}, "would be counted twice"),
        ({"tiled": {}}, {"tiled": True}, "raw_path: not set"),
        ({"rois": None}, {"documents": "0"}, "ROI"),
        ({}, {"documents": "here"}, 'expected "tcp://host:port"'),
        ({"file_roots": ["/no/such"]}, {"documents": "0"}, "file_roots: got /no/such; expected"),
        ({"tiled": {"api_key_env": "NO_SUCH"}}, {"documents": "0"}, "NO_SUCH is not set"),
    ],
)
def test_what_cannot_work_is_refused_at_the_start(settings, fields, options, match):
    fitting = {name: getattr(settings, name) for name in ("detector", "rois", "file_roots")}
    with pytest.raises(InvalidInputError, match=match):
        serve.serve(Settings(**{**fitting, **fields}), ServeOptions(**options), Screen().console)


def test_a_container_with_raw_runs_is_refused_before_a_run_comes(
    settings, tiled_server, tiled_client, monkeypatch
):
    monkeypatch.setenv("TILED_API_KEY", tiled_server.api_key)
    raw = tiled_client.create_container("raw_for_serve")
    raw.create_container("a-run", specs=[Spec("BlueskyRun", "3.0")], metadata={"start": {}})
    tiled = settings.tiled.model_copy(update={"uri": tiled_server.uri, "path": "raw_for_serve"})
    wrong, screen = settings.model_copy(update={"tiled": tiled}), Screen()
    with pytest.raises(InvalidInputError, match="/raw_for_serve: holds raw runs, a-run for one"):
        serve.serve(wrong, ServeOptions(documents="0", bind=True), screen.console)
    assert "Ready" not in screen.text


def test_following_a_server_that_is_away_is_refused_at_the_start(settings):
    screen = Screen()
    with pytest.raises(TiledUnavailableError, match=r"127\.0\.0\.1:9: no answer"):
        serve.serve(settings, ServeOptions(tiled=True), screen.console)
    assert "Ready" not in screen.text


def test_a_start_that_fails_leaves_no_thread_that_imports(settings, monkeypatch):
    prepared = []
    monkeypatch.setattr(LiveDenoise, "prepare", lambda _live: prepared.append(True))
    with pytest.raises(InvalidInputError, match="tcp://host:port"):
        serve.serve(settings, ServeOptions(documents="here"), Screen().console)
    assert not prepared
    ending = threading.Event()
    ending.set()
    options = ServeOptions(documents="0", bind=True)
    assert serve.serve(settings, options, Screen().console, ending=ending)
    assert prepared


def test_listening_beyond_this_machine_comes_with_a_warning(settings):
    screen, ending = Screen(), threading.Event()
    ending.set()
    options = ServeOptions(documents="tcp://0.0.0.0:0", bind=True)
    serve.serve(settings, options, screen.console, ending=ending)
    assert "Whoever reaches this port" in screen.text


def test_a_run_has_a_line_when_it_changes_but_not_all_the_time(monkeypatch):
    screen = Screen()
    lines = StatusLines(screen.console)
    lines.show({"a" * 36: Status(n_seen=2, n_processed=1)})
    lines.show({"a" * 36: Status(n_seen=3, n_processed=2)})
    assert screen.text.count("Run aaaaaaaa:") == 1
    lines.show({"a" * 36: Status(n_seen=3, n_processed=3)}, last=True)
    assert "3 of 3 frames" in screen.text
    monkeypatch.setattr(serve, "LINE_EVERY_S", 0.0)
    lines.show({"a" * 36: Status(n_seen=3, n_processed=3)})
    assert screen.text.count("Run aaaaaaaa:") == 2, "nothing new, no line"


def test_a_line_says_what_is_missing_and_why():
    status = Status(n_seen=9, n_processed=5, n_skipped=4, lag_s=0.2, message="A gap.")
    assert status_line("abcdefghij", status) == (
        "Run abcdefgh: 5 of 9 frames, 4 skipped, lag 0.20 s. A gap."
    )
