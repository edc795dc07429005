"""Series with more frames than their map has bins: what is final while they are measured."""

import itertools
import tracemalloc

import numpy as np
import pytest

from xpcs_live_denoise import RoiMap, Settings, TwoTimeAccumulator, simulate_speckle
from xpcs_live_denoise.analysis.series import Analysis
from xpcs_live_denoise.numerics.contrast import estimate_contrast
from xpcs_live_denoise.numerics.windows import window_inputs
from xpcs_live_denoise.records.results import BandRows, C2Rows, GammaTable

ROIS = RoiMap.from_labels(np.repeat([[3], [7]], 200, axis=1).reshape(20, 20))
MAP, N = 64, 403
RATES = [0.05, 0.01]
FRAMES = np.concatenate(
    list(simulate_speckle(ROIS, N, relaxation_rate=RATES, mean_counts=3.0, seed=8))
)
SIZES = [[50, 13, 1, 1, 1, 337], [64, 339], [65, 4] * 5 + [58]]


class Mixer:
    """A denoiser that moves values about, so that no window looks like its neighbours."""

    gain = np.random.default_rng(7).uniform(0.2, 0.8, (50, 50))

    def denoise(self, windows):
        whole = windows.astype(np.float64).mean(axis=(1, 2), keepdims=True)
        return self.gain * windows + whole, np.abs(windows - whole) * self.gain


def analysis(*, map_frames=MAP, is_published=True, writer=None, **fields):
    settings = Settings(**{"detector": "d", "map_frames": map_frames, **fields})
    return Analysis(
        settings,
        ROIS,
        frame_time_s=0.1,
        ensemble=Mixer(),
        is_published=is_published,
        band_writer=writer,
    )


class Written:
    """A writer that keeps what it is given."""

    def __init__(self):
        self.parts = []

    def write(self, rows):
        self.parts.append(rows)


def run(sizes, frames=FRAMES, publish_every=1, gaps=(), **fields):
    """Push blocks, publish some of the time; return the publications, the result and its band."""
    made, publications, n = analysis(**fields), [], 0
    for number, block in enumerate(np.split(frames, np.cumsum(sizes)[:-1])):
        if number in gaps:
            made.push_gap(len(block))
        else:
            made.push(block)
        if publish_every and number % publish_every == 0:
            publications.append(made.publish(n))
            n = publications[-1].n_frames
    result = made.finish()
    bands = [one.band for one in publications if one.band is not None]
    return publications, result, BandRows.concatenate([*bands, result.band])


@pytest.fixture(scope="module")
def whole():
    return run([N])


@pytest.mark.parametrize("sizes", SIZES)
def test_results_do_not_depend_on_how_frames_were_pushed_and_published(whole, sizes):
    _, result, band = run(sizes, publish_every=2)
    _, expected, whole_band = whole
    np.testing.assert_allclose(result.map_values, expected.map_values, rtol=1e-5)
    assert result.status.contrast == pytest.approx(expected.status.contrast, rel=1e-5)
    for name in ("c2", "denoised", "spread"):
        got, wanted = getattr(band, name), getattr(whole_band, name)
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5, err_msg=name)
    assert set(result.gamma.source) == set(expected.gamma.source)
    for name in ("relaxation_rate", "alpha", "recommended", "reason", "in_range"):
        got, wanted = getattr(result.gamma, name), getattr(expected.gamma, name)
        same = got == wanted if got.dtype.kind in "Ub" else np.isclose(got, wanted, rtol=5e-3)
        assert same.mean() > 0.99, name
    np.testing.assert_allclose(result.g2.g2, expected.g2.g2, rtol=1e-5)
    np.testing.assert_allclose(result.g2.g2_denoised, expected.g2.g2_denoised, rtol=1e-4)


@pytest.fixture(scope="module")
def full_c2():
    accumulator = TwoTimeAccumulator(ROIS, map_frames=512)
    accumulator.append(FRAMES)
    return accumulator.c2


def test_the_map_is_block_means_and_the_band_is_that_of_all_frames(whole, full_c2):
    _, result, band = whole
    values, size = result.map
    assert (size, values.shape[1]) == (8, 51)
    blocks = full_c2[:, :400, :400].reshape(2, 50, 8, 50, 8).mean(axis=(2, 4), dtype=np.float64)
    off = ~np.eye(50, dtype=bool)
    np.testing.assert_allclose(values[:, :50, :50][:, off], blocks[:, off], rtol=1e-6)
    accumulator = TwoTimeAccumulator(ROIS)
    accumulator.append(FRAMES)
    assert (band.start, band.stop) == (0, N)
    np.testing.assert_allclose(band.c2, accumulator.band, rtol=1e-6)


def plain_passes(c2, contrast, baseline, starts):
    """Both passes over the windows at `starts`, window by window, as the paper has them."""
    results = []
    for order in (starts, starts[::-1]):
        written = np.full(c2.shape, np.nan)
        for start in order:
            inside = slice(start, start + 50)
            for roi in range(len(c2)):
                scale = {"contrast": contrast[[roi]], "baseline": baseline[[roi]], "seed": 0}
                raw = c2[[roi], inside, inside]
                given = window_inputs(raw, np.array([start]), np.array([roi]), **scale)
                out = (Mixer().denoise(given)[0][0] - 1) * contrast[roi] + baseline[roi]
                square = written[roi, inside, inside]
                square[:] = np.where(np.isnan(square), out, (square + out) / 2)
        results.append(written)
    return np.mean(results, axis=0)


def test_the_denoised_band_is_both_passes_with_the_scale_of_the_first_frames(whole, full_c2):
    _, result, band = whole
    contrast, baseline = estimate_contrast(full_c2[:, :MAP, :MAP])
    np.testing.assert_allclose(result.status.contrast, contrast, rtol=1e-6)
    denoised = plain_passes(full_c2, contrast, baseline, np.arange(0, N - 49, 5))
    t, lag = np.meshgrid(np.arange(N), np.arange(50), indexing="ij")
    expected = np.where(t >= lag, denoised[:, np.maximum(t - lag, 0), t], np.nan)
    reached = np.isfinite(expected)
    np.testing.assert_array_equal(np.isfinite(band.spread), reached)
    np.testing.assert_allclose(band.denoised[reached], expected[reached], rtol=2e-5)
    np.testing.assert_array_equal(band.denoised[~reached], band.c2[~reached])
    assert result.denoised is None
    assert f"those of the first {MAP} frames" in result.status.message
    # g2 of what windows have reached, at the lags of the sums.
    of_lag_1 = np.nanmean(expected[:, :, 1], axis=1)
    np.testing.assert_allclose(result.g2.g2_denoised[:, 0], of_lag_1, rtol=1e-4)
    lags = result.g2.delay_s / 0.1
    known = np.isfinite(result.g2.g2_denoised).all(axis=0)
    np.testing.assert_array_equal(known, lags < 48)


def test_every_source_has_one_row_a_roi_and_age_and_g2_ends_with_the_series(whole):
    _, result, _ = whole
    gamma = result.gamma
    for source in ("raw", "denoised", "bayes", "path"):
        rows = gamma.select(gamma.source == source)
        keys = set(zip(rows.roi.tolist(), rows.age_frame.tolist(), strict=True))
        assert len(keys) == len(rows) == 2 * N
    assert gamma.final.all()
    series = gamma.select(gamma.source == "series_raw")
    np.testing.assert_allclose(series.relaxation_rate * 0.1, RATES, rtol=0.4)
    assert (series.relaxation_rate_error > 0).all()
    lags = result.g2.delay_s / 0.1
    assert (np.diff(lags) > 0).all()
    assert len(lags) == result.g2.g2.shape[1] < 100
    assert N / 2 < lags[np.isfinite(result.g2.g2).all(axis=0)].max() < N
    found = result.status.contrast_estimates
    np.testing.assert_allclose(found["lag_1"], result.g2.g2[:, 0] - 1)


def test_a_long_series_says_of_gamma_what_a_whole_c2_says(whole):
    _, expected, _ = run([N], map_frames=512)
    gamma = {}
    for name, one in (("long", whole[1]), ("short", expected)):
        gamma[name] = one.gamma.select(np.isin(one.gamma.source, ["path", "bayes"]))
    np.testing.assert_array_equal(gamma["long"].age_frame, gamma["short"].age_frame)
    error = gamma["short"].relaxation_rate_error
    off = np.abs(gamma["long"].relaxation_rate - gamma["short"].relaxation_rate)
    assert (off < 0.1 * error)[np.isfinite(error)].mean() > 0.95
    np.testing.assert_array_equal(gamma["long"].recommended, gamma["short"].recommended)
    assert expected.frames_per_bin == 1
    assert expected.band.start == 0


def test_slow_dynamics_are_denoised_on_the_map(whole):
    gamma = whole[1].gamma
    coarse = gamma.select(gamma.source == "denoised_coarse")
    assert set(coarse.roi) == {7}
    assert set(coarse.width) == {8}
    np.testing.assert_array_equal(coarse.age_frame, np.arange(51) * 8 + 3.5)


def test_rows_of_the_map_are_published_anew_when_bins_hold_more_frames():
    made, shown, rows = analysis(denoise=False), 0, []
    for stop in range(31, 280, 31):
        made.push(FRAMES[stop - 31 : stop])
        rows.append(made.publish(shown).c2)
        shown = stop
    bins = [(one.start, one.stop, one.frames_per_bin) for one in rows]
    assert bins[:4] == [(0, 31, 1), (31, 62, 1), (0, 47, 2), (46, 62, 2)]
    assert bins[4:6] == [(0, 39, 4), (38, 47, 4)]
    joined = C2Rows.concatenate(rows)
    result = made.finish()
    n = joined.stop - 1  # the last bin may be filled up by the frame that waited
    np.testing.assert_array_equal(joined.values[:, :n, :n], result.map_values[:, :n, :n])


def test_the_whole_band_is_published_anew_when_its_scale_is_frozen():
    publications, _, _ = run([60, 30, 30, 283])
    starts = [one.band.start for one in publications]
    assert starts[:2] == [0, 0]
    assert starts[2] == 45  # the first window that was new
    assert publications[3].band.start <= 85


@pytest.mark.parametrize("start", [60, 64, 200])
def test_gaps_stay_gaps_wherever_they_lie(start):
    sizes = [start, 30, N - start - 30]
    _, result, band = run(sizes, gaps=[1])
    gap = np.zeros((N, 50), bool)
    t, lag = np.meshgrid(np.arange(N), np.arange(50), indexing="ij")
    for frame in (t, t - lag):
        gap |= (frame >= start) & (frame < start + 30)
    np.testing.assert_array_equal(np.isnan(band.c2[0]), gap | (lag > t))
    np.testing.assert_array_equal(np.isnan(band.denoised), np.isnan(band.c2))
    assert result.status.skipped == ((start, start + 30),)
    path = result.gamma.select((result.gamma.source == "path") & (result.gamma.roi == 3))
    assert np.median(path.relaxation_rate) * 0.1 == pytest.approx(0.05, rel=0.3)


@pytest.mark.parametrize(("window", "step"), [(10, 3), (60, 20)])
def test_other_windows_than_those_of_50_frames_work(window, step):
    class Half:
        def denoise(self, windows):
            return (windows + 1) / 2, np.full_like(windows, 0.1)

    made = Analysis(
        Settings(detector="d", map_frames=MAP, window=window, step=step),
        ROIS,
        frame_time_s=0.1,
        ensemble=Half(),
    )
    made.push(FRAMES[:200])
    news = made.publish(0)
    assert news.band.c2.shape[2] == news.band.denoised.shape[2] == window
    made.push(FRAMES[200:260])
    result = made.finish()
    assert result.band.c2.shape[2] == window
    rows = result.gamma.select(result.gamma.source == "denoised")
    assert len(rows) == 520
    assert rows.n_lags.max() == window - step - 1
    assert result.gamma.select(result.gamma.source == "raw").n_lags.max() == min(
        max(window, 50) - 1, 50
    )


def test_a_map_of_fewer_bins_than_a_window_has_as_many():
    made = analysis(map_frames=2)
    made.push(FRAMES[:120])
    result = made.finish()
    assert (result.map_values.shape[1], result.frames_per_bin) == (30, 4)
    assert "those of the first 50 frames" in result.status.message


@pytest.mark.parametrize("n_expected", [10_000, 37])
def test_an_announced_number_of_frames_is_a_hint_only(n_expected):
    results = []
    for announced, n in ((n_expected, 37), (n_expected, 150), (None, 37), (None, 150)):
        made = Analysis(
            Settings(detector="d", map_frames=MAP, denoise=False),
            ROIS,
            frame_time_s=0.1,
            n_frames=announced,
        )
        made.push(FRAMES[:n])
        results.append(made.finish())
    for with_hint, without in zip(results[:2], results[2:], strict=True):
        np.testing.assert_array_equal(with_hint.map_values, without.map_values)
        np.testing.assert_array_equal(
            with_hint.gamma.relaxation_rate, without.gamma.relaxation_rate
        )


def test_a_writer_gets_every_final_row_once_and_nothing_else():
    writer = Written()
    made = analysis(is_published=False, writer=writer)
    for block in np.split(FRAMES, 31):
        made.push(block)
    made.finish()
    edges = [(part.start, part.stop) for part in writer.parts]
    assert edges[0][0] == 0
    assert all(stop == start for (_, stop), (start, _) in itertools.pairwise(edges))
    assert edges[-1][1] == N
    band = BandRows.concatenate(writer.parts)
    _, _, expected = run([N])
    for name in ("c2", "denoised", "spread"):
        got, wanted = getattr(band, name), getattr(expected, name)
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5, err_msg=name)


def test_memory_does_not_grow_with_the_series():
    pool = np.random.default_rng(4).poisson(2.0, (300, 20, 20)).astype(np.uint16)
    made = analysis(is_published=False)
    used = {}
    tracemalloc.start()
    try:
        for n in range(300, 6_601, 300):
            made.push(pool)
            used[n] = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert made.n_frames >= 6_599
    assert used[6_600] < 1.25 * used[3_300]  # when the first rows of cuts are final


def test_ages_are_published_at_the_step_of_the_rows_and_none_where_no_row_is_new():
    pool = np.concatenate([FRAMES] * 6)
    made, tables, n = analysis(denoise=False, outliers="off"), [], 0
    made.push(pool[:2_100])
    n = made.publish(0).n_frames
    for stop in range(2_101, 2_180):
        made.push(pool[stop - 1 : stop])
        tables.append(made.publish(n).gamma)
        n = stop
    told = GammaTable.concatenate([one for one in tables if one is not None])
    ages = {source: np.unique(told.age_frame[told.source == source]) for source in set(told.source)}
    np.testing.assert_array_equal(np.diff(ages["path"]), 2)
    assert len(ages["path"]) in (39, 40)
    np.testing.assert_array_equal(ages["raw"], ages["bayes"] - 0.5)
    np.testing.assert_array_equal(ages["raw"] % 32, 0)
    assert len(ages["raw"]) in (2, 3)
    assert len(told.select(told.source == "raw")) == 2 * len(ages["raw"])


def test_fast_changes_are_followed_frame_by_frame_however_frames_were_pushed():
    n = 700
    rate = 0.05 * 2.2 ** np.sin(np.arange(n) / 6.4)  # a path of so many frames has wider knots
    rois = RoiMap.from_labels(np.ones((20, 25), int))
    pieces = simulate_speckle(rois, n, relaxation_rate=rate, contrast=0.5, seed=4)
    frames, found = np.concatenate(list(pieces)), []
    for map_frames, sizes in ((64, [n]), (64, [300, 211, 1, 1, n - 513]), (n, [n])):
        settings = Settings(detector="d", map_frames=map_frames, denoise=False, outliers="off")
        made = Analysis(settings, rois, frame_time_s=1.0)
        for block in np.split(frames, np.cumsum(sizes)[:-1]):
            made.push(block)
        gamma = made.finish().gamma
        found.append(gamma.select(gamma.source == "path"))
    for rows in found:
        np.testing.assert_array_equal(rows.width, 1)
        np.testing.assert_array_equal(rows.age_frame, np.arange(n))
        np.testing.assert_allclose(rows.relaxation_rate, found[0].relaxation_rate, rtol=1e-3)
        off = np.log(rows.relaxation_rate / np.interp(rows.age_frame, np.arange(n), rate))
        assert np.sqrt(np.mean(off**2)) < 0.3
