"""`bench`: what it measures is never asserted, only that everything is, and how it is told."""

import contextlib
import dataclasses
import json
import logging
import math
import re

import numpy as np
import pytest
from typer.testing import CliRunner

from xpcs_live_denoise.commands.bench import (
    analyses,
    chain,
    command,
    memory,
    peers,
    reading,
    scaling,
    thread,
    two_time,
)
from xpcs_live_denoise.commands.bench.case import Case, FramePool, ring_map, speckle_pixels
from xpcs_live_denoise.commands.bench.contest import (
    Contestant,
    Section,
    extrapolated_seconds,
    in_turns,
    measure,
    rows_of,
    seconds_for,
)
from xpcs_live_denoise.commands.bench.report import document, machine, table
from xpcs_live_denoise.commands.cli import app
from xpcs_live_denoise.errors import InvalidInputError, XpcsError
from xpcs_live_denoise.numerics.two_time import ENGINES

TINY = Case(n_frames=24, n_pixels=300, n_rois=2, n_series=60, peers=True, quick=True)
SMALL_DETECTOR = (64, 72)


def measured(make, case=TINY, **options):
    """Measure a section; return its rows by contestant and quantity."""
    with make(case, **options) as section:
        rows = rows_of(section, [*measure(section, lambda _: None)])
    return section, {(row.contestant, row.quantity): row for row in rows}


def numbers_of(rows):
    return {key: row.median for key, row in rows.items() if row.values}


def constant(name, value=1.0, **fields):
    return Contestant(name=name, run=lambda: {("speed", "frames/s"): value}, **fields)


# --- how it is measured -----------------------------------------------------------------------


def test_each_repetition_runs_all_contestants_and_nobody_always_after_the_same_one():
    names = list("abcdefghijkl")
    orders = [*in_turns(names, 3)]

    assert all(sorted(order) == names for order in orders)
    before = [dict(zip(order[1:], order, strict=False)) for order in orders]
    assert all(len({one.get(name) for one in before}) > 1 for name in names)


def test_contestants_are_prepared_once_and_run_in_turns():
    calls = []

    def one(name):
        return Contestant(
            name=name,
            prepare=lambda: calls.append(f"prepare {name}"),
            run=lambda: calls.append(name) or {("speed", "frames/s"): 1.0},
        )

    section = Section(title="t", contestants=[one("a"), one("b")], repeats=2)
    runs = [*measure(section, lambda _: None)]
    assert calls == ["prepare a", "prepare b", "a", "b", "b", "a"]
    assert [name for name, _ in runs] == ["a", "b", "b", "a"]


def test_a_row_tells_the_median_and_how_many_times_as_fast_the_first_contestant_is():
    section = Section(title="t", contestants=[constant("ours"), constant("theirs")])
    speeds = [("ours", 100.0), ("ours", 400.0), ("ours", 200.0), ("theirs", 20.0), ("theirs", 60.0)]
    runs = [
        (name, {("speed", "frames/s"): speed, ("pause", "ms"): 1e3 / speed})
        for name, speed in speeds
    ]
    rows = {(row.contestant, row.quantity): row for row in rows_of(section, runs)}
    assert rows["ours", "speed"].median == 200.0
    assert rows["ours", "speed"].ratio is None
    assert rows["theirs", "speed"].ratio == pytest.approx(200 / 40)
    assert rows["theirs", "pause"].ratio == pytest.approx(rows["theirs", "pause"].median / 5.0)


def test_one_that_fails_is_named_with_its_reason_and_the_others_are_measured():
    def fail():
        raise RuntimeError("no such kernel")

    broken = Contestant(name="broken", run=fail)
    section = Section(title="t", contestants=[broken, constant("good")], repeats=2)
    rows = rows_of(section, [*measure(section, lambda _: None)])
    assert rows[0].values == ()
    assert rows[0].note == "failed: RuntimeError: no such kernel"
    assert rows[1].values == (1.0, 1.0)


def test_one_that_is_not_installed_is_not_run_and_says_how_to_install_it():
    section = Section(
        title="t", contestants=[constant("absent", missing="Install it."), constant("a")]
    )
    rows = rows_of(section, [*measure(section, lambda _: None)])
    assert (rows[0].values, rows[0].note) == ((), "Install it.")
    assert "Install it." in table(rows, machine())


def test_times_of_a_long_series_follow_from_two_short_ones():
    def seconds(n):
        return 2e-3 * n + 5e-6 * n**2

    assert extrapolated_seconds(500, {30: seconds(30), 60: seconds(60)}) == pytest.approx(
        seconds(500)
    )
    assert seconds_for(seconds, 500, 60) == pytest.approx(seconds(500))
    assert seconds_for(seconds, 50, 60) == seconds(50)


def test_times_that_grow_less_than_in_proportion_are_not_extrapolated_to_nothing():
    assert extrapolated_seconds(1000, {10: 1.0, 20: 1.5}) >= 1000 * 1.5 / 20 * 0.9


def test_products_that_are_needed_are_those_of_band_levels_and_map():
    assert two_time.products_needed(20, window=50, map_frames=64) == 20 * 20 + 20**2 / 2
    # 8 frames at window 2: levels of 4 and 2 frames with one lag each; a map of 4 bins filled with
    # frames, then from 2 to 4 bins of two frames.
    assert two_time.products_needed(8, window=2, map_frames=4) == 8 * 2 + (4 + 2) + 8 + 6


# --- what it is measured on -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n_pixels", "n_rois"), [(1, 1), (7, 7), (100, 3), (72_000, 10), (500, 100)]
)
def test_rings_have_exactly_the_pixels_and_rois_that_were_asked_for(n_pixels, n_rois):
    rois = ring_map(n_pixels, n_rois)
    assert (rois.n_pixels.sum(), rois.n_roi) == (n_pixels, n_rois)


def test_simulated_counts_have_the_mean_the_contrast_and_the_memory_of_a_sample():
    counts = speckle_pixels(300, 2000, 0.5).astype(float)
    assert counts.mean() == pytest.approx(0.5, rel=0.02)

    def contrast(lag):
        return np.mean(counts[: len(counts) - lag] * counts[lag:]) / counts.mean() ** 2 - 1

    assert contrast(1) == pytest.approx(0.5 * 0.98**2, abs=0.04)
    assert contrast(20) == pytest.approx(0.5 * 0.98**40, abs=0.04)
    short = speckle_pixels(10, 20_000, 0.5)
    assert short.mean() == pytest.approx(0.5, rel=0.02)
    assert np.mean(short[0] * short[-1]) / short.mean() ** 2 - 1 > 0.4  # the circle closes


def test_a_series_that_is_longer_than_its_pool_repeats_it_without_copies():
    pool = FramePool(TINY)
    blocks = [*pool.pixel_blocks(60, 10)]
    assert sum(map(len, blocks)) == 60
    assert np.array_equal(np.concatenate(blocks)[24:48], pool.pixels)
    assert all(np.shares_memory(block, pool.pixels) for block in blocks)
    assert np.array_equal(pool.rois.gather(pool.frames(30)), np.concatenate(blocks)[:30])


# --- the sections -----------------------------------------------------------------------------


def test_engines_and_peers_are_measured_on_the_same_frames():
    section, rows = measured(two_time.two_time)
    numbers = numbers_of(rows)
    assert section.title == "C2: 24 frames, 300 pixels, 2 ROIs, 0.5 counts"
    ours = [(f"engine {engine}", "C2") for engine in ENGINES]
    others = ("scikit-beam lazy_two_time", peers.PLAIN, "scipy.sparse product")
    for key in (*ours, *((name, "C2") for name in others), ("numpy sgemm", "sgemm")):
        assert 0 < numbers[key] < math.inf
    assert numbers["engine dense", "products needed, of sgemm"] > 0
    assert [row.peer for row in rows.values()].count(True) >= 6


def test_esrf_correlators_that_are_missing_are_said_with_the_way_to_install_them(monkeypatch):
    monkeypatch.setattr(peers.importlib.util, "find_spec", lambda name: None)
    _, rows = measured(two_time.two_time)
    absent = [row for row in rows.values() if row.contestant.startswith("xpcs-correlator")]
    assert len(absent) == 3
    assert all(not row.values for row in absent)
    assert all(
        row.note == "xpcs-correlator is not installed. In a clone of the repository: "
        "pip install '.[bench]'."
        for row in absent
    )


def test_peers_of_a_long_series_are_run_on_fewer_frames_and_the_table_says_so():
    case = Case(n_frames=10_000, n_pixels=300, n_rois=2, peers=True)
    chosen = {one.name: one for one in peers.peers(case, FramePool(TINY))}
    lazy = chosen["scikit-beam lazy_two_time"]
    assert lazy.extrapolated
    assert lazy.note == "from 30 and 60 frames, as a N + b N^2"
    assert "fed events; from" in chosen["scipy.sparse product"].note


def test_photon_sparse_frames_have_few_counts_and_more_frames():
    sparse = Case(n_frames=20, n_pixels=200, n_rois=1)
    with two_time.sparse_two_time(sparse) as section:
        assert section.title == "C2, photon-sparse: 2,000 frames, 200 pixels, 1 ROI, 0.02 counts"


def test_the_whole_analysis_tells_its_pace_its_publications_and_its_end():
    _, rows = measured(analyses.whole_analysis)
    numbers = numbers_of(rows)
    for quantity in ("whole series", "slowest tenth", "publication", "finish"):
        assert 0 < numbers["analysis", quantity] < math.inf
        assert 0 < numbers["analysis, denoised", quantity] < math.inf
    assert numbers["analysis", "frames analysed"] == 60


def test_the_pace_is_that_of_the_slowest_tenth_and_of_the_quarters():
    times = [
        (0, 0.0),
        *((10 * k, float(k)) for k in range(1, 16)),
        *((10 * k, 15.0 + 3 * (k - 15)) for k in range(16, 21)),
    ]
    found = analyses.pace(times)
    assert found["whole series", "frames/s"] == pytest.approx(200 / 30)
    assert found["slowest tenth", "frames/s"] == pytest.approx(10 / 3)
    assert found["last quarter : second", "times"] == pytest.approx(1 / 3)


def test_a_series_that_takes_too_long_is_stopped_after_a_publication():
    case = Case(n_frames=24, n_pixels=100, n_rois=1, n_series=5000, longest_s=0.0)
    _, found = analyses.published(FramePool(case), case, None)
    assert found["frames analysed", "frames"] == analyses.publish_frames()


def test_estimator_windows_and_fits_are_counted_a_second():
    _, rows = measured(analyses.parts)
    numbers = numbers_of(rows)
    assert numbers["estimator", "rows of the estimator"] > 0
    assert numbers["ensemble", "windows"] > 0
    assert numbers["path", "rows of a whole path"] > 0
    assert rows["loop over scipy curve_fit", "fits, 50 lags"].ratio > 0


def test_without_torch_the_denoiser_is_missing_and_the_rest_is_measured(monkeypatch):
    monkeypatch.setattr(analyses, "why_not_denoised", lambda: "torch is not installed.")
    _, rows = measured(analyses.parts)
    assert rows["ensemble", ""].note == "torch is not installed."
    assert rows["estimator", "rows of the estimator"].values


def test_reading_is_measured_beside_h5py():
    section, rows = measured(reading.reading, shape=SMALL_DETECTOR)
    assert "64 x 72 bslz4 frames" in section.title
    assert all(0 < row.median < math.inf for row in rows.values())
    names = ("FrameReader", "h5py + hdf5plugin")
    for dtype in ("uint16", "uint32"):  # each beside the other that reads the same file
        ours, plain = (rows[f"{name}, {dtype}", f"read and gathered, {dtype}"] for name in names)
        assert ours.ratio is None
        assert plain.ratio == pytest.approx(ours.median / plain.median)


def test_the_runengines_thread_is_measured_for_each_kind_of_document():
    _, rows = measured(thread.runengine_thread, shape=SMALL_DETECTOR)
    numbers = numbers_of(rows)
    assert {name for name, _ in numbers} == {
        "stream_datum",
        "resource, datum, event",
        "event with a 4M frame",
    }
    assert all(0 < value < 1e6 for value in numbers.values())
    assert all(row.ratio is None for row in rows.values())
    assert logging.root.manager.disable == logging.NOTSET


@pytest.mark.system
@pytest.mark.deployment
def test_the_live_chain_tells_its_lag_and_when_a_client_saw_the_first_row():
    _, rows = measured(chain.live_chain, shape=SMALL_DETECTOR)
    numbers = numbers_of(rows)
    assert numbers["live", "frames lost"] == 0
    assert 0 < numbers["live", "first row seen by a client"] < 60
    assert numbers["live", "lag at the end"] > 0
    assert numbers["live", "result stored after the end"] > 0


def test_memory_is_that_of_a_process_for_each_contestant(monkeypatch):
    monkeypatch.setattr(memory, "OURS", memory.OURS[:1])
    case = Case(n_frames=20, n_pixels=50, n_rois=1, n_series=60, quick=True)
    _, rows = measured(memory.memory, case)
    assert 50 < numbers_of(rows)["engine auto", "memory, c2"] < 5000


def test_a_contestant_that_failed_has_no_memory(monkeypatch):
    def fail():
        raise RuntimeError("no room")

    @contextlib.contextmanager
    def section(case):
        yield Section(title="C2", contestants=[Contestant(name="engine auto", run=fail)])

    monkeypatch.setitem(memory.SECTIONS, "c2", section)
    asked = {"case": dataclasses.asdict(Case()), "section": "c2", "name": "engine auto"}
    with pytest.raises(XpcsError, match="engine auto failed: RuntimeError: no room"):
        memory.run_child(json.dumps(asked))


# --- the command ------------------------------------------------------------------------------


@pytest.fixture
def one_section(monkeypatch):
    """Let the command have one section, of `contestants`."""

    def put(*contestants):
        @contextlib.contextmanager
        def make(case):
            yield Section(title=f"C2: {case.title}", contestants=contestants, repeats=case.repeats)

        monkeypatch.setattr(command, "sections", lambda: dict.fromkeys(command.SECTIONS, make))

    return put


def run(*arguments):
    return CliRunner().invoke(app, ["bench", *map(str, arguments)])


def test_a_line_of_the_table_has_number_unit_spread_ratio_and_note(one_section):
    speeds = iter([300.0, 100.0, 200.0])
    ours = Contestant(name="engine", run=lambda: {("C2", "frames/s"): next(speeds)}, note="a note")
    theirs = Contestant(name="other", run=lambda: {("C2", "frames/s"): 4.0}, peer=True)
    one_section(ours, theirs)
    shown = run("--only", "c2", "--rois", 3).stdout
    assert "C2: 500 frames, 72,000 pixels, 3 ROIs, 0.5 counts" in shown
    assert re.search(r"engine +C2 +200 frames/s \(100 - 300\) +a note", shown)
    assert re.search(r"other +C2 +4 frames/s \(4 - 4\) +50 x", shown)


def test_json_is_alone_on_the_output_and_has_versions_machine_and_date(one_section):
    one_section(constant("engine", 5.0), constant("absent", missing="Install it."))
    found = json.loads(run("--only", "c2", "--json").stdout)
    assert found["complete"]
    assert found["rows"][0]["median"] == 5.0
    assert found["rows"][0]["values"] == [5.0, 5.0, 5.0]
    assert (found["rows"][1]["median"], found["rows"][1]["note"]) == (None, "Install it.")
    assert found["versions"]["numpy"] == np.__version__
    assert found["machine"]["cores"] >= 1
    assert found["case"]["n_pixels"] == 72_000
    assert re.match(r"\d{4}-\d\d-\d\dT.*\+00:00", found["date"])


def test_ctrl_c_shows_what_was_measured_so_far(one_section):
    def interrupted():
        raise KeyboardInterrupt

    one_section(constant("first", 7.0), Contestant(name="second", run=interrupted))
    found = run("--only", "c2,sparse", "--quick")
    assert found.exit_code == 130
    assert re.search(r"first +speed +7 frames/s", found.stdout)
    assert re.search(r"second +not measured", found.stdout)
    assert "Interrupted: this was measured so far." in found.stderr


def test_a_section_whose_data_cannot_be_made_is_said_and_the_next_one_is_measured(monkeypatch):
    @contextlib.contextmanager
    def full(case):
        raise OSError("no space left on device")
        yield

    @contextlib.contextmanager
    def good(case):
        yield Section(title="good", contestants=[constant("engine")], repeats=1)

    monkeypatch.setattr(
        command,
        "sections",
        lambda: (
            {"reading": full, "c2": good}
            | dict.fromkeys(set(command.SECTIONS) - {"reading", "c2"}, good)
        ),
    )
    found = run("--only", "c2,reading")
    assert found.exit_code == 0
    assert "failed: no space left on device" in found.stdout
    assert "1 frames/s" in found.stdout


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--frames", 0), r"--frames: got 0, expected 1 or more"),
        (("--pixels", -5), r"--pixels: got -5, expected 1 or more"),
        (("--pixels", 5, "--rois", 6), r"--rois: got 6 ROIs for 5 pixels; expected at most one"),
        (("--counts", 0), r"--counts: got 0; expected mean counts a pixel and frame, above 0"),
        (("--counts", "nan"), r"--counts: got nan; expected"),
        (("--only", "c2,speed"), r"--only: got 'speed'; expected some of c2, sparse, analysis"),
        (("--plot", "scaling.txt"), r"Output scaling.txt: got the ending '.txt'; expected .png"),
    ],
)
def test_options_that_cannot_be_are_refused_with_what_fits(options, sentence):
    found = run(*options)
    assert isinstance(found.exception, InvalidInputError)
    assert re.search(sentence, str(found.exception))


def test_a_series_that_is_asked_for_is_analysed_to_its_end(one_section):
    one_section(constant("engine"))
    found = json.loads(run("--only", "c2", "--json", "--frames", 100_000).stdout)
    assert (found["case"]["n_series"], found["case"]["longest_s"]) == (100_000, None)


# --- the picture ------------------------------------------------------------------------------


def test_the_picture_has_a_panel_for_each_size_and_marks_what_was_extrapolated(
    tmp_path, monkeypatch
):
    same = {"n_frames": 1, "n_pixels": scaling.SHARE_OF_PIXELS, "n_rois": 2, "mean_counts": 0.5}
    axes = tuple((*axis[:2], (same[axis[0]],), axis[3]) for axis in scaling.AXES)
    monkeypatch.setattr(scaling, "AXES", axes)
    found = [*scaling.points(TINY, lambda _: None)]
    assert {point.axis for point in found} == {"n_frames", "n_pixels", "n_rois", "mean_counts"}
    assert {"engine dense", "analysis", "scipy.sparse product"} <= {p.contestant for p in found}
    assert all(0 < point.ms_a_frame < math.inf for point in found)
    picture = tmp_path / "scaling.png"
    scaling.draw(found, picture, "title")
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_more_rois_than_pixels_are_no_point_of_the_picture():
    base = Case(n_frames=10, n_pixels=20, n_rois=2)
    assert scaling.changed(base, "n_rois", 100) is None
    assert scaling.changed(base, "n_frames", 40).n_series == 40


def test_numbers_that_nobody_measured_are_null_in_json():
    rows = rows_of(Section(title="t", contestants=[constant("a")]), [])
    assert document(TINY, rows, machine(), complete=False)["rows"][0]["median"] is None
