"""Serve without a Tiled server: what it refuses, what it says, how it ends."""

import os
import queue
import signal
import threading
import time

import pytest
import yaml
from tiled.structures.core import Spec

from tests.support.live_runs import composed_run, series
from xpcs_live_denoise import LiveDenoise, RoiMap, Settings, save_rois
from xpcs_live_denoise.commands.serve import (
    analyse_until,
    listen,
    serve,
    show_status,
    status_line,
)
from xpcs_live_denoise.errors import InvalidInputError, TiledUnavailableError
from xpcs_live_denoise.records.run import Status
from xpcs_live_denoise.sources.remote.publisher import DocumentPublisher


@pytest.fixture
def fields(tmp_path, monkeypatch):
    """Settings as a file has them."""
    monkeypatch.setenv("TILED_API_KEY", "the-secret")
    save_rois(RoiMap.from_labels([[1, 1], [2, 2]]), tmp_path / "rois.npz")
    return {
        "detector": "cam",
        "rois": str(tmp_path / "rois.npz"),
        "file_roots": [str(tmp_path)],
        "spool": str(tmp_path / "spool"),
        "tiled": {"uri": "http://127.0.0.1:9", "raw_path": "raw"},
    }


@pytest.fixture
def config(tmp_path, fields):
    """Return a function that writes the settings' file, with other fields."""

    def write(**others):
        file = tmp_path / "xpcs.yml"
        kept = {name: value for name, value in {**fields, **others}.items() if value is not None}
        file.write_text(yaml.safe_dump(kept))
        return file

    return write


class Screen:
    """Standard output whose text can be waited for."""

    def __init__(self, capsys):
        self._capsys, self._text, self._lock = capsys, "", threading.Lock()

    @property
    def text(self):
        with self._lock:
            self._text += self._capsys.readouterr().out
            return self._text

    def wait_for(self, text, timeout=120):
        deadline = time.monotonic() + timeout
        while text not in self.text:
            assert time.monotonic() < deadline, f"no {text!r} in:\n{self.text}"
            time.sleep(0.01)


@pytest.fixture
def screen(capsys):
    return Screen(capsys)


@pytest.fixture
def served(fields, screen):
    """Serve on a thread; give the address, and what ends it and returns the answer."""
    ended, answers = queue.SimpleQueue(), []
    live = LiveDenoise(Settings(**fields))
    remote = listen("0", live, bind=True)

    def end():
        ended.put(None)
        thread.join(120)
        return answers[0]

    thread = threading.Thread(
        target=lambda: answers.append(analyse_until(ended, remote, live, close_s=5))
    )
    thread.start()
    screen.wait_for("Ready")
    yield remote.address, end
    end()


@pytest.fixture
def publisher(served):
    """A publisher that serve hears."""
    made = DocumentPublisher(served[0], connect_s=60)
    yield made
    made.close()


@pytest.fixture
def ctrl_c(screen):
    """Press Ctrl-C as soon as serve is ready."""

    def press():
        screen.wait_for("Ready")
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=press)
    thread.start()
    yield
    thread.join()


def test_documents_of_another_process_are_analysed_and_what_cannot_be_stored_is_kept(
    served, publisher, screen, fields
):
    uid, send, stop = composed_run(publisher, shape=(2, 2))
    for frame in series(6)[:, :2, :2]:
        send(frame)
    stop()
    screen.wait_for(f"Run {uid[:8]}: 6 of 6 frames")
    assert served[1]() is False
    assert "xpcs-live-denoise deliver" in screen.text
    assert os.listdir(fields["spool"])
    assert "the-secret" not in screen.text


def test_files_elsewhere_are_not_read_whatever_a_document_names(publisher, screen):
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


def test_ctrl_c_ends_it_and_gives_the_signals_back(config, screen, ctrl_c):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    serve(config(), documents="0", bind=True)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert "http://127.0.0.1:9: no answer" in screen.text, "told before the first run"
    assert "Whoever reaches this port" not in screen.text


@pytest.mark.parametrize(
    ("others", "options", "match"),
    [
        ({"file_roots": None}, {"documents": "0"}, "file_roots: not set"),
        ({}, {}, "Nothing to serve"),
        ({}, {"documents": "0", "tiled": True}, "would be counted twice"),
        ({"tiled": {}}, {"tiled": True}, "raw_path: not set"),
        ({"rois": None}, {"documents": "0"}, "ROI"),
        ({"tiled": {}}, {"documents": "here"}, 'expected "tcp://host:port"'),
        ({"file_roots": ["/no/such"]}, {"documents": "0"}, "file_roots: got /no/such; expected"),
        ({"tiled": {"api_key_env": "NO_SUCH"}}, {"documents": "0"}, "NO_SUCH is not set"),
    ],
)
def test_what_cannot_work_is_refused_at_the_start(config, screen, others, options, match):
    with pytest.raises(InvalidInputError, match=match):
        serve(config(**others), **options)
    assert "Ready" not in screen.text


def test_a_container_with_raw_runs_is_refused_before_a_run_comes(
    config, screen, tiled_server, tiled_client, monkeypatch
):
    monkeypatch.setenv("TILED_API_KEY", tiled_server.api_key)
    raw = tiled_client.create_container("raw_for_serve")
    raw.create_container("a-run", specs=[Spec("BlueskyRun", "3.0")], metadata={"start": {}})
    wrong = config(tiled={"uri": tiled_server.uri, "path": "raw_for_serve"})
    with pytest.raises(InvalidInputError, match="/raw_for_serve: holds raw runs, a-run for one"):
        serve(wrong, documents="0", bind=True)
    assert "Ready" not in screen.text


def test_following_a_server_that_is_away_is_refused_at_the_start(config, screen):
    with pytest.raises(TiledUnavailableError, match=r"127\.0\.0\.1:9: no answer"):
        serve(config(), tiled=True)
    assert "Ready" not in screen.text


def test_listening_beyond_this_machine_comes_with_a_warning(config, screen, ctrl_c):
    serve(config(), documents="tcp://0.0.0.0:0", bind=True)
    assert "Whoever reaches this port" in screen.text


def test_a_run_has_a_line_when_it_changes_but_not_all_the_time(screen):
    shown, uid = {}, "a" * 36
    show_status({uid: Status(n_seen=2, n_processed=1)}, shown)
    show_status({uid: Status(n_seen=3, n_processed=2)}, shown)
    assert screen.text.count("Run aaaaaaaa:") == 1
    show_status({uid: Status(n_seen=3, n_processed=3)}, shown, every_s=0)
    assert "3 of 3 frames" in screen.text


def test_nothing_new_is_no_line(screen):
    shown = {}
    for _ in range(2):
        show_status({"a" * 36: Status(n_seen=3, n_processed=3)}, shown, every_s=0)
    assert screen.text.count("Run aaaaaaaa:") == 1


def test_a_line_says_what_is_missing_and_why():
    status = Status(n_seen=9, n_processed=5, n_skipped=4, lag_s=0.2, message="A gap.")
    assert status_line("abcdefghij", status) == (
        "Run abcdefgh: 5 of 9 frames, 4 skipped, lag 0.20 s. A gap."
    )
