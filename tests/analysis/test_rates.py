"""Rows of the estimator beside raw ones: one to trust an age, each said once while live."""

import itertools
from collections import Counter

import numpy as np
import pytest

from xpcs_live_denoise.analysis.rates import LIVE_ROIS, LIVE_ROWS, PATH_DELAY, SeriesRates
from xpcs_live_denoise.analysis.series import Analysis
from xpcs_live_denoise.config import Settings
from xpcs_live_denoise.numerics.estimator import sums
from xpcs_live_denoise.numerics.rois import RoiMap
from xpcs_live_denoise.numerics.simulate import simulate_speckle
from xpcs_live_denoise.numerics.threads import VARIABLE
from xpcs_live_denoise.numerics.two_time import TwoTimeAccumulator
from xpcs_live_denoise.records.results import GammaTable, RowSource

RATES = np.array([0.05, 0.1])
FRAME_TIME_S = 0.5
N_FRAMES = 100


@pytest.fixture(scope="module")
def rois():
    return RoiMap.from_labels(np.repeat([3, 7], 20)[:, np.newaxis] * np.ones((1, 25), int))


@pytest.fixture(scope="module")
def frames(rois):
    pieces = simulate_speckle(
        rois, N_FRAMES, relaxation_rate=RATES, contrast=0.25, mean_counts=3.0, seed=2
    )
    return np.concatenate(list(pieces))


def run(rois, frames, step, **settings):
    """Push the series in blocks; return provisional tables and the final result."""
    analysis = Analysis(
        Settings(detector="cam", denoise=False, **settings), rois, frame_time_s=FRAME_TIME_S
    )
    tables = []
    for start in range(0, len(frames), step):
        analysis.push(frames[start : start + step])
        table = analysis.publish(start).gamma
        if table is not None:
            tables.append((analysis.n_frames, table))
    return tables, analysis.finish()


@pytest.fixture(scope="module")
def done(rois, frames):
    return run(rois, frames, 5)


def test_every_roi_and_age_has_one_final_row_of_the_estimator(done):
    gamma = done[1].gamma
    rows = gamma.select(gamma.source == RowSource.BAYES)
    keys = Counter(zip(rows.roi.tolist(), rows.age_frame.tolist(), strict=True))
    assert set(keys.values()) == {1}
    assert len(keys) == 2 * N_FRAMES
    assert rows.final.all()
    assert set(rows.error_kind) == {"jackknife"}


def test_at_most_one_row_an_age_is_recommended_and_others_say_why_not(done):
    gamma = done[1].gamma
    of_ages = gamma.select(np.isfinite(gamma.age_frame))
    good = of_ages.select(of_ages.recommended)
    keys = Counter(zip(good.roi.tolist(), good.age_frame.tolist(), strict=True))
    assert len(keys) > 180
    assert set(keys.values()) == {1}
    assert set(good.source) == {RowSource.PATH}
    assert (of_ages.reason[~of_ages.recommended] != "").all()
    assert (of_ages.reason[of_ages.recommended] == "").all()
    for source in (RowSource.RAW, RowSource.BAYES):
        assert "path_is_better" in of_ages.select(of_ages.source == source).reason


def test_rates_are_those_of_the_simulation_in_its_units(done):
    gamma = done[1].gamma
    for roi, rate in zip((3, 7), RATES / FRAME_TIME_S, strict=True):
        rows = gamma.select(
            (gamma.source == RowSource.PATH) & (gamma.roi == roi) & gamma.recommended
        )
        assert np.median(rows.relaxation_rate) == pytest.approx(rate, rel=0.3)
        within = np.abs(rows.relaxation_rate - rate) < 3 * rows.relaxation_rate_error
        assert within.mean() > 0.9


def test_live_every_row_is_said_once_and_none_is_final(done):
    table = GammaTable.concatenate([table for _, table in done[0]])
    keys = Counter(
        zip(
            table.roi.tolist(),
            table.age_frame.tolist(),
            table.source.tolist(),
            table.width.tolist(),
            strict=True,
        )
    )
    assert set(keys.values()) == {1}
    assert not table.final.any()


def test_live_the_cut_of_25_and_the_path_of_5_frames_ago_are_there(done):
    for n_frames, table in done[0]:
        for source, behind in ((RowSource.BAYES, 25), (RowSource.PATH, PATH_DELAY)):
            rows = table.select(table.source == source)
            assert rows.age_frame.max() == n_frames - behind
            assert set(rows.roi) == {3, 7}


def test_many_frames_at_once_bring_no_more_rows_than_there_is_time_for(rois, frames):
    tables, _ = run(rois, frames, N_FRAMES)
    table = tables[0][1]
    rows = table.select(table.source == RowSource.BAYES)
    assert len(rows) == rois.n_roi * LIVE_ROWS
    assert rows.age_frame.max() == N_FRAMES - 25
    assert rows.age_frame.min() < 10


def test_the_final_rows_do_not_depend_on_how_the_run_was_split(rois, frames, done):
    _, result = run(rois, frames, N_FRAMES)
    for name in ("width", "recommended"):
        assert (getattr(result.gamma, name) == getattr(done[1].gamma, name)).mean() > 0.99
    for source in (RowSource.BAYES, RowSource.PATH):
        rates = [
            gamma.select(gamma.source == source).relaxation_rate
            for gamma in (result.gamma, done[1].gamma)
        ]
        np.testing.assert_allclose(*rates, rtol=1e-3)


def test_scikit_beams_engine_has_errors_from_residuals(rois, frames):
    _, result = run(rois, frames[:60], 30, engine="skbeam")
    gamma = result.gamma
    assert set(gamma.error_kind[gamma.source == RowSource.BAYES]) == {"residual"}


# --- long series -------------------------------------------------------------------------------


def rates_of(rois, frames, most_rows, step, *, advance=False):
    """Return live tables, final ones and the sums, with rows doubled beyond `most_rows`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sums, "MOST_ROWS", most_rows)
        two_time = TwoTimeAccumulator(rois, sums=True, map_frames=40)
    rates, first, tables = SeriesRates(rois, FRAME_TIME_S, window=50, step=5), 0, []
    for start in range(0, len(frames), step):
        two_time.append(frames[start : start + step])
        n = two_time.n_frames
        if n >= 50:
            tables.append(GammaTable.concatenate(rates.live(two_time.age_sums, first, n - 24)))
            first = n - 24
        if advance:
            rates.advance(two_time.age_sums)
    return tables, GammaTable.concatenate(rates.final(two_time.age_sums)), two_time.age_sums


def test_rows_of_several_frames_have_their_middle_as_age_and_come_once(rois, frames):
    tables, final, so_far = rates_of(rois, frames, 50, 10)
    assert so_far.row_frames == 2
    apart = {RowSource.PATH: 2, RowSource.BAYES: 32}
    last = GammaTable.concatenate(tables[1:])
    for source, label in itertools.product(apart, (3, 7)):
        ages = final.age_frame[(final.roi == label) & (final.source == source)]
        np.testing.assert_array_equal(ages, np.arange(0, N_FRAMES, apart[source]) + 0.5)
        ages = last.age_frame[(last.roi == label) & (last.source == source)]
        np.testing.assert_array_equal(np.diff(ages), apart[source])
    assert ages[-1] == N_FRAMES - 35.5
    cuts = final.select(final.source == RowSource.BAYES)
    inside = np.abs(cuts.age_frame - N_FRAMES / 2) < 8  # others are cut off by the ends
    expected = cuts.age_frame[inside] * FRAME_TIME_S
    np.testing.assert_allclose(cuts.age_s[inside], expected, atol=2 * FRAME_TIME_S)


def test_rows_do_not_depend_on_how_many_threads_make_them(rois, frames, monkeypatch):
    found = []
    for threads in ("1", "3"):
        monkeypatch.setenv(VARIABLE, threads)
        found.append(rates_of(rois, frames, 1000, 50)[:2])
    for one, other in zip(*[(*live, final) for live, final in found], strict=True):
        np.testing.assert_array_equal(one.roi, other.roi)
        np.testing.assert_array_equal(one.source, other.source)
        np.testing.assert_allclose(one.relaxation_rate, other.relaxation_rate, rtol=1e-6)


def test_a_series_that_is_not_long_has_the_same_final_rows_however_it_advances(rois, frames):
    one, other = (rates_of(rois, frames, 1000, 25, advance=each)[1] for each in (False, True))
    np.testing.assert_allclose(one.relaxation_rate, other.relaxation_rate, rtol=1e-9)
    np.testing.assert_allclose(one.relaxation_rate_error, other.relaxation_rate_error, rtol=1e-9)


def test_many_rois_take_turns_and_none_is_left_out():
    labels = np.arange(2 * LIVE_ROIS + 5).repeat(20).reshape(-1, 20) + 1
    rois = RoiMap.from_labels(labels)
    series = np.concatenate(
        list(simulate_speckle(rois, 160, relaxation_rate=0.1, mean_counts=1.0, seed=2))
    )
    analysis = Analysis(Settings(detector="d"), rois, frame_time_s=1.0, ensemble=None)
    told: list[GammaTable] = []
    for start in range(0, 160, 16):
        analysis.push(series[start : start + 16])
        if (table := analysis.publish(0).gamma) is not None:
            told.append(table)
    groups = [tuple(np.unique(table.roi)) for table in told]
    assert max(len(group) for group in groups) <= LIVE_ROIS
    assert groups[:3] == groups[3:6], "each group again when all others have been told"
    assert set(itertools.chain(*groups[:3])) == set(rois.labels)
    rows = GammaTable.concatenate(told)
    keys = Counter(zip(rows.roi, rows.age_frame, rows.source, strict=True))
    assert set(keys.values()) == {1}
    for label in (1, 2 * LIVE_ROIS + 5):
        ages = np.sort(rows.age_frame[(rows.roi == label) & (rows.source == RowSource.PATH)])
        assert ages[0] < 3
        assert np.diff(ages).max() <= 2, "50 rows a turn, evenly: no hole while others are told"
    final = analysis.finish().gamma
    assert set(final.roi[final.source == RowSource.PATH]) == set(rois.labels)
