"""Replay: a stored run through the live pipeline again, and what it says of the difference."""

import functools
import io
import math
import re
import signal
import sys

import bluesky.plans as bp
import numpy as np
import pandas as pd
import pytest
from bluesky.run_engine import RunEngine
from bluesky_tiled_plugins import TiledWriter
from tiled.structures.core import Spec

from tests.support.live_runs import LABELS, series
from tests.support.proxy import Proxy
from xpcs_live_denoise import RoiMap, Settings, results
from xpcs_live_denoise.commands.replay import compare, replay_runs
from xpcs_live_denoise.errors import InvalidInputError, ResultNotFoundError, XpcsError
from xpcs_live_denoise.live import Timings
from xpcs_live_denoise.simulation import SimulatedCamera, recorded
from xpcs_live_denoise.sinks.spool import spooled_folders

FRAMES = series(60)
IMPATIENT = Timings(first_pause_s=0.1, longest_pause_s=0.1, close_s=0.2)
ROIS = RoiMap.from_labels(LABELS, q_inv_angstrom=[0.001, 0.002])


@pytest.fixture
def settings(tiled_server, monkeypatch):
    monkeypatch.setenv("TILED_API_KEY", tiled_server.api_key)
    monkeypatch.setenv("COLUMNS", "120")  # of the tables
    return Settings(
        detector="camera",
        denoise=False,
        frame_time_s=0.01,
        tiled={"uri": tiled_server.uri, "raw_path": "raw"},
    )


@pytest.fixture(scope="module")
def raw_uid(tiled_server):
    """A raw run of FRAMES inside events, which nobody has analysed."""
    client = tiled_server.client()
    engine = RunEngine({}, context_managers=[])
    engine.subscribe(TiledWriter(client["raw"], batch_size=20))
    return engine(bp.count([SimulatedCamera(recorded(FRAMES), name="camera")], num=60))[0]


@pytest.fixture
def replayed(settings, capsys):
    """Return a function that replays runs and returns the comparisons and what was printed."""

    def replayed(*uids, rois=ROIS, settings=settings):
        capsys.readouterr()
        found = replay_runs(settings, uids, rois=rois, timeout=100)
        return found, capsys.readouterr().out

    return replayed


def cells(table):
    """Return what a printed table holds, without its lines."""
    return " ".join("".join(letter for letter in table if ord(letter) < 128).split())


def to(settings, **tiled):
    return settings.model_copy(update={"tiled": settings.tiled.model_copy(update=tiled)})


def test_a_stored_run_is_computed_and_then_compared(replayed, raw_uid, tiled_client):
    comparisons, text = replayed(raw_uid)
    assert comparisons == {raw_uid: None}
    assert "earlier (none)" in text
    first = results(tiled_client, raw_uid)
    assert first.n_frames == 60
    assert first.metadata["stop"]["exit_status"] == "success"

    # The beginning of a uid is enough.
    comparisons, text = replayed(raw_uid[:8])
    second = results(tiled_client, raw_uid)
    assert second.start["uid"] != first.start["uid"], "a replay never touches what is there"
    assert second.start["original_run_uid"] == raw_uid
    assert second.xpcs["analysed_by"] == "replay"
    found = comparisons[raw_uid[:8]]
    assert (found["n_compared"], found["n_one_sided"]) == (60, 0)
    assert found["c2_difference"] < 1e-5
    assert math.isnan(found["rate_difference"]) == (found["n_rates"] == 0)
    assert not found["rate_difference"] > 1e-3
    for row in ("frames 60 60", "gaps 0 0", "exit status success success"):
        assert row in cells(text)
    assert f"Run {raw_uid}: computing" in text
    assert "max |dC2| over 60 frames" in text
    assert first.start["uid"][:8] in text


def test_runs_that_cannot_be_replayed_are_told(replayed, settings, raw_uid):
    with pytest.raises(ResultNotFoundError, match="Run nowhere: not in /raw"):
        replayed("nowhere")
    with pytest.raises(ResultNotFoundError, match="6 or more letters of a uid are needed"):
        replayed(raw_uid[:3])
    with pytest.raises(XpcsError, match="no frames of 'eiger_image'"):
        replayed(raw_uid, settings=settings.model_copy(update={"detector": "eiger"}))
    with pytest.raises(InvalidInputError, match=r"tiled\.raw_path"):
        replayed(raw_uid, settings=to(settings, raw_path=None))


def test_the_command_reads_the_settings_and_ends_with_an_error(settings, tmp_path, command):
    (tmp_path / "xpcs.yml").write_text(
        f"detector: camera\ntiled: {{uri: '{settings.tiled.uri}', raw_path: raw}}\n"
    )
    found = command("replay", "nowhere", f"--config={tmp_path}/xpcs.yml", check=False)
    assert found.returncode == 1
    assert "Run nowhere: not in /raw" in " ".join(found.stdout.split())


def test_a_run_that_fails_holds_up_none_after_it(settings, raw_uid, tiled_client, capsys):
    with pytest.raises(XpcsError, match="2 of 3 runs were not replayed: nowhere, neither"):
        replay_runs(
            settings, ["nowhere", raw_uid, "neither"], rois=ROIS, timeout=100, timings=IMPATIENT
        )
    text = capsys.readouterr().out
    for uid in ("nowhere", "neither"):
        (line,) = (line for line in text.splitlines() if line.startswith(f"Run {uid}: failed"))
        assert f"ResultNotFoundError: Run {uid}: not in /raw" in line
    assert text.count("derived run") == 1, "only of what was stored is there a table"
    assert results(tiled_client, raw_uid).metadata["stop"]["exit_status"] == "success"


def test_a_container_with_raw_runs_is_refused_before_anything_is_computed(
    settings, raw_uid, tiled_client, capsys
):
    other = tiled_client.create_container("other_raw")
    other.create_container("a-run", specs=[Spec("BlueskyRun", "3.0")], metadata={"start": {}})
    with pytest.raises(InvalidInputError, match="/other_raw: holds raw runs, a-run for one"):
        replay_runs(to(settings, path="other_raw"), [raw_uid], rois=ROIS)
    assert list(other) == ["a-run"]
    assert "computing" not in capsys.readouterr().out


@pytest.fixture
def refusing(tiled_server):
    """A proxy to the server that takes no result."""
    proxy = Proxy(tiled_server.uri)
    yield proxy
    proxy.close()


class When(io.StringIO):
    """Standard output that calls something once it is told a text."""

    def __init__(self, text, call):
        super().__init__()
        self._text, self._call = text, call

    def write(self, text):
        if self._text in text:
            self._call()
        return super().write(text)


def test_a_result_that_is_refused_for_good_ends_the_wait(settings, raw_uid, refusing, state_home):
    refusing.refusal = 403
    match = f"(?s)Run {raw_uid}: its result cannot be stored.*status 403"
    with pytest.raises(InvalidInputError, match=match):
        replay_runs(
            to(settings, uri=refusing.uri), [raw_uid], rois=ROIS, timeout=100, timings=IMPATIENT
        )
    assert spooled_folders(state_home / "xpcs-live-denoise" / "spool")


@pytest.mark.soak
def test_a_wait_for_the_server_is_told_with_its_reason(settings, raw_uid, refusing, monkeypatch):
    refusing.refusal = 507
    screen = When("Ctrl-C ends it", lambda: setattr(refusing, "refusal", None))
    monkeypatch.setattr(sys, "stdout", screen)
    replay_runs(
        to(settings, uri=refusing.uri), [raw_uid], rois=ROIS, timeout=100, timings=IMPATIENT
    )
    text = screen.getvalue()
    assert text.count("The server does not take the result: ") == 1
    assert re.search("507.* Trying again, Ctrl-C ends it", text)
    assert "derived run" in text


def test_ctrl_c_ends_a_wait_and_what_is_computed_is_told(
    settings, raw_uid, refusing, monkeypatch, caplog
):
    refusing.refusal = 507
    # A RunEngine of a test before may have left a handler of its own.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    interrupt = functools.partial(signal.raise_signal, signal.SIGINT)
    monkeypatch.setattr(sys, "stdout", When("Ctrl-C ends it", interrupt))
    with pytest.raises(KeyboardInterrupt):
        replay_runs(to(settings, uri=refusing.uri), [raw_uid], rois=ROIS, timings=IMPATIENT)
    assert raw_uid in caplog.text
    assert "--config xpcs.yml" in caplog.text


@pytest.mark.soak
def test_an_analysis_that_fails_fails_the_command_and_names_the_earlier_result(
    replayed, settings, raw_uid, tiled_client, capsys
):
    replayed(raw_uid)
    earlier = results(tiled_client, raw_uid).start["uid"]
    smaller = RoiMap.from_labels(LABELS[:-1])
    failed = rf'analysis failed.*shape.*catalog\["processed"\]\["{earlier}"\]'
    with pytest.raises(XpcsError, match=failed):
        replay_runs(settings, [raw_uid], rois=smaller, timeout=100)
    assert "exit status" in capsys.readouterr().out, "the table comes first"
    assert tiled_client["processed"][earlier].metadata["stop"]["exit_status"] == "success"


class StoredResult:
    """What `compare` asks of a result."""

    def __init__(self, c2, rates, *, recommended=True):
        self._c2 = c2
        self.n_frames = c2.shape[-1]
        self.xpcs = {"roi": list(range(1, len(c2) + 1))}
        self._rates = rates
        self._recommended = recommended

    def c2(self, roi, denoised):
        import xarray as xr

        assert not denoised
        return xr.DataArray(self._c2[roi - 1])

    def gamma_table(self):
        n = len(self._rates)
        return pd.DataFrame(
            {
                "roi": np.ones(n, int),
                "age_frame": np.arange(n, dtype=float),
                "source": "bayes",
                "width": 1,
                "recommended": self._recommended,
                "relaxation_rate": self._rates,
            }
        )


def test_the_comparison_says_what_differs():
    c2 = np.ones((2, 5, 5))
    other = c2[:, :4, :4].copy()
    other[1, 2, 3] = 1.25
    other[0, 1, :] = np.nan
    new = StoredResult(c2, [1.0, 2.0, 3.0])
    earlier = StoredResult(other, [1.0, 2.5])
    assert compare(new, earlier) == {
        "n_compared": 4,
        "c2_difference": 0.25,
        "n_one_sided": 4,
        "n_rates": 2,
        "rate_difference": pytest.approx(0.2),
    }


@pytest.mark.parametrize(
    "earlier",
    [
        StoredResult(np.ones((0, 5, 5)), []),
        StoredResult(np.ones((1, 0, 0)), []),
        StoredResult(np.full((1, 5, 5), np.nan), [1.0], recommended=False),
    ],
)
def test_results_without_anything_in_common_differ_by_nan(earlier):
    found = compare(StoredResult(np.ones((1, 5, 5)), [1.0]), earlier)
    assert math.isnan(found["c2_difference"])
    assert found["n_rates"] == 0
    assert math.isnan(found["rate_difference"])
