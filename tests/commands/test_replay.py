"""Replay: a stored run through the live pipeline again, and what it says of the difference."""

import io
import math

import bluesky.plans as bp
import numpy as np
import pandas as pd
import pytest
from bluesky.run_engine import RunEngine
from bluesky_tiled_plugins import TiledWriter
from rich.console import Console
from tiled.structures.core import Spec

from tests.support.live_runs import LABELS, series
from xpcs_live_denoise import RoiMap, Settings, results
from xpcs_live_denoise.commands import replay
from xpcs_live_denoise.commands.replay import UNFINISHED, Comparison, compare
from xpcs_live_denoise.errors import InvalidInputError, ResultNotFoundError, XpcsError
from xpcs_live_denoise.live import Timings
from xpcs_live_denoise.simulation import SimulatedCamera, recorded
from xpcs_live_denoise.sinks.run import TiledSink
from xpcs_live_denoise.sinks.spool import spooled_folders

FRAMES = series(60)
IMPATIENT = Timings(first_pause_s=0.1, longest_pause_s=0.1)
ROIS = RoiMap.from_labels(LABELS, q_inv_angstrom=[0.001, 0.002])


@pytest.fixture
def settings(tiled_server, monkeypatch):
    monkeypatch.setenv("TILED_API_KEY", tiled_server.api_key)
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


def run_replay(settings, *uids):
    text = io.StringIO()
    console = Console(file=text, width=120)
    found = replay.replay(settings, uids, console, rois=ROIS, timeout=100, timings=IMPATIENT)
    return found, text.getvalue()


def test_a_stored_run_is_computed_and_then_compared(settings, raw_uid, tiled_client):
    comparisons, text = run_replay(settings, raw_uid)
    assert comparisons == {raw_uid: None}
    assert "earlier (none)" in text
    first = results(tiled_client, raw_uid)
    assert first.n_frames == 60
    assert first.metadata["stop"]["exit_status"] == "success"

    comparisons, text = run_replay(settings, raw_uid)
    second = results(tiled_client, raw_uid)
    assert second.start["uid"] != first.start["uid"], "a replay never touches what is there"
    found = comparisons[raw_uid]
    assert found.n_frames == (60, 60)
    assert found.n_gaps == (0, 0)
    assert found.exit_status == ("success", "success")
    assert (found.n_compared, found.n_one_sided) == (60, 0)
    assert found.c2_difference < 1e-5
    assert math.isnan(found.rate_difference) == (found.n_rates == 0)
    assert not found.rate_difference > 1e-3
    assert "max |dC2| over 60 frames" in text
    assert first.start["uid"][:8] in text


def test_the_beginning_of_a_uid_is_enough(settings, raw_uid, tiled_client):
    run_replay(settings, raw_uid)
    first = results(tiled_client, raw_uid)
    comparisons, text = run_replay(settings, raw_uid[:8])
    assert comparisons[raw_uid[:8]].n_frames == (60, 60)
    second = results(tiled_client, raw_uid)
    assert second.start["uid"] != first.start["uid"]
    assert second.start["original_run_uid"] == raw_uid
    assert second.n_frames == 60
    assert f"Run {raw_uid}: computing" in text
    with pytest.raises(ResultNotFoundError, match="too short"):
        run_replay(settings, raw_uid[:3])


def test_runs_that_cannot_be_replayed_are_told(settings, raw_uid):
    with pytest.raises(ResultNotFoundError, match="Run nowhere: not in /raw"):
        run_replay(settings, "nowhere")
    other = settings.model_copy(update={"detector": "eiger"})
    with pytest.raises(XpcsError, match="no frames of 'eiger_image'"):
        run_replay(other, raw_uid)
    nowhere = settings.model_copy(
        update={"tiled": settings.tiled.model_copy(update={"raw_path": None})}
    )
    with pytest.raises(InvalidInputError, match=r"tiled\.raw_path"):
        run_replay(nowhere, raw_uid)


def test_a_run_that_fails_holds_up_none_after_it(settings, raw_uid, tiled_client):
    text = io.StringIO()
    console = Console(file=text, width=100)
    with pytest.raises(XpcsError, match="2 of 3 runs were not replayed: nowhere, neither"):
        replay.replay(settings, ["nowhere", raw_uid, "neither"], console, rois=ROIS, timeout=100)
    lines = text.getvalue().splitlines()
    for uid in ("nowhere", "neither"):
        (line,) = (line for line in lines if line.startswith(f"Run {uid}: failed"))
        assert f"ResultNotFoundError: Run {uid}: not in /raw" in line
    assert text.getvalue().count("derived run") == 1, "only of what was stored is there a table"
    assert results(tiled_client, raw_uid).metadata["stop"]["exit_status"] == "success"


def test_a_container_with_raw_runs_is_refused_before_anything_is_computed(
    settings, raw_uid, tiled_client, monkeypatch
):
    monkeypatch.setattr(replay, "LiveDenoise", None)
    other = tiled_client.create_container("other_raw")
    other.create_container("a-run", specs=[Spec("BlueskyRun", "3.0")], metadata={"start": {}})
    with pytest.raises(InvalidInputError, match="/other_raw: holds raw runs, a-run for one"):
        run_replay(to(settings, path="other_raw"), raw_uid)
    assert list(other) == ["a-run"]


def to(settings, **tiled):
    return settings.model_copy(update={"tiled": settings.tiled.model_copy(update=tiled)})


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(replay, "LOOK_S", 0.05)
    monkeypatch.setattr(replay, "CLOSE_S", 0.5)


@pytest.fixture
def failing(monkeypatch, impatient):
    """Return a function: from then on the sink raises an error, as long as `lasts()`."""

    def failing(error, lasts=lambda: True):
        write = TiledSink.write

        def fail(sink, record):
            if lasts():
                raise error
            write(sink, record)

        monkeypatch.setattr(TiledSink, "write", fail)

    return failing


def test_a_result_that_is_refused_for_good_ends_the_wait(settings, raw_uid, failing, state_home):
    failing(InvalidInputError("Container /x: no."))
    with pytest.raises(InvalidInputError, match=f"Run {raw_uid}: its result.*Container /x: no"):
        run_replay(settings, raw_uid)
    assert spooled_folders(state_home / "xpcs-live-denoise" / "spool")


def test_a_wait_for_the_server_is_told_with_its_reason(settings, raw_uid, failing):
    file = io.StringIO()
    failing(ConnectionError("it is full"), lasts=lambda: "Ctrl-C" not in file.getvalue())
    console = Console(file=file)
    replay.replay(settings, [raw_uid], console, rois=ROIS, timeout=100, timings=IMPATIENT)
    told = "The server does not take the result: it is full Trying again, Ctrl-C ends it."
    assert file.getvalue().count(told) == 1
    assert "derived run" in file.getvalue()


class Interrupting(Console):
    """Somebody presses Ctrl-C when it says that it waits."""

    def print(self, *objects, **kwargs):
        if "Ctrl-C" in str(objects[0]):
            raise KeyboardInterrupt
        super().print(*objects, **kwargs)


def test_ctrl_c_ends_a_wait_and_what_is_computed_is_told(settings, raw_uid, failing, caplog):
    failing(ConnectionError("it is full"))
    with pytest.raises(KeyboardInterrupt):
        replay.replay(settings, [raw_uid], Interrupting(file=io.StringIO()), rois=ROIS)
    assert raw_uid in caplog.text
    assert "--config xpcs.yml" in caplog.text


def test_an_analysis_that_fails_fails_the_command_and_names_the_earlier_result(
    settings, raw_uid, tiled_client
):
    run_replay(settings, raw_uid)
    earlier = results(tiled_client, raw_uid).start["uid"]
    text = io.StringIO()
    smaller = RoiMap.from_labels(LABELS[:-1])
    failed = rf'analysis failed.*shape.*catalog\["processed"\]\["{earlier}"\]'
    with pytest.raises(XpcsError, match=failed):
        replay.replay(settings, [raw_uid], Console(file=text, width=120), rois=smaller, timeout=100)
    assert "exit status" in text.getvalue(), "the table comes first"
    assert tiled_client["processed"][earlier].metadata["stop"]["exit_status"] == "success"


class StoredResult:
    """What `compare` asks of a result."""

    def __init__(self, c2, rates, *, stop="success", skipped=0, recommended=True):
        self._c2 = c2
        self.n_frames = c2.shape[-1]
        self.xpcs = {"roi": list(range(1, len(c2) + 1))}
        self.metadata = {"stop": {"exit_status": stop}} if stop else {}
        self._rates = rates
        self._skipped = skipped
        self._recommended = recommended

    def c2(self, roi, denoised):
        import xarray as xr

        assert not denoised
        return xr.DataArray(self._c2[roi - 1])

    def status_table(self):
        return pd.DataFrame({"n_skipped": [0, self._skipped]})

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
    earlier = StoredResult(other, [1.0, 2.5], stop=None, skipped=1)
    assert compare(new, earlier) == Comparison(
        n_frames=(5, 4),
        n_gaps=(0, 1),
        exit_status=("success", UNFINISHED),
        n_compared=4,
        c2_difference=0.25,
        n_one_sided=4,
        n_rates=2,
        rate_difference=pytest.approx(0.2),
    )


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
    assert math.isnan(found.c2_difference)
    assert found.n_rates == 0
    assert math.isnan(found.rate_difference)
