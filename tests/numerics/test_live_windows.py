"""Windows blended while a series grows."""

from __future__ import annotations

import numpy as np
import pytest

from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.numerics.windows import (
    SPREAD,
    RunningBlend,
    WindowScaling,
    denoise_new_windows,
    denoise_two_time,
)

CONTRAST, BASELINE = np.array([0.3, 0.25]), np.array([1.0, 1.01])


class FakeEnsemble:
    def __init__(self) -> None:
        self.gain = np.random.default_rng(7).uniform(0.2, 0.8, (50, 50))
        self.calls: list[int] = []

    def denoise(self, windows):
        self.calls.append(len(windows))
        whole = windows.astype(np.float64).mean(axis=(1, 2), keepdims=True)
        return self.gain * windows + whole, np.abs(windows - whole) * self.gain


def growing_c2(n: int, n_roi: int = 2) -> np.ndarray:
    rng = np.random.default_rng(n)
    noise = rng.normal(1.1, 0.1, (n_roi, n, n))
    return (noise + noise.transpose(0, 2, 1)) / 2


class Live:
    """A blend that grows, and what is read of it."""

    def __init__(self, n_roi: int = 2) -> None:
        self.blend, self.ensemble = RunningBlend(n_roi, window=50, step=5), FakeEnsemble()

    def push(self, c2, contrast=CONTRAST, baseline=BASELINE):
        scaling = WindowScaling(contrast=contrast, baseline=baseline)
        return denoise_new_windows(self.blend, c2, self.ensemble, scaling)

    def spread(self, c2):
        return self.blend.over(np.full_like(c2, np.nan), 0, SPREAD)


def pushed(c2, ends):
    live = Live(len(c2))
    return live, [live.push(c2[:, :end, :end]) for end in ends]


@pytest.mark.parametrize("ends", [range(1, 121), [49, 50, 53, 77, 120], [120], [7, 119, 120]])
def test_with_frozen_scales_it_equals_both_passes_over_the_same_windows(ends):
    c2 = growing_c2(120)  # both grids coincide: the final algorithm has the same windows
    live, _ = pushed(c2, ends)
    final = denoise_two_time(c2, FakeEnsemble(), contrast=CONTRAST, baseline=BASELINE)
    np.testing.assert_allclose(live.blend.over(c2, 0), final.c2, rtol=0, atol=2e-15)
    np.testing.assert_allclose(live.spread(c2), final.spread, rtol=0, atol=2e-15)


def test_between_two_windows_the_frames_behind_the_last_one_stay_raw():
    c2 = growing_c2(123)
    live, _ = pushed(c2, [60, 123])
    final = denoise_two_time(
        c2[:, :120, :120], FakeEnsemble(), contrast=CONTRAST, baseline=BASELINE
    )
    got = live.blend.over(c2, 0)
    np.testing.assert_allclose(got[:, :120, :120], final.c2, rtol=0, atol=2e-15)
    np.testing.assert_array_equal(got[:, 120:], c2[:, 120:])
    assert np.isnan(live.spread(c2)[:, 120:]).all()


def test_each_window_runs_once_and_all_rois_in_one_call():
    live, _ = pushed(growing_c2(75), range(1, 76))
    assert live.ensemble.calls == [2] * 6
    live, _ = pushed(growing_c2(75), [75])
    assert live.ensemble.calls == [12]


def test_bands_hold_every_change_in_order():
    c2 = growing_c2(97)
    live = Live()
    shown, spread = c2.copy(), np.full_like(c2, np.nan)
    for end in (30, 52, 53, 70, 97):
        for band in live.push(c2[:, :end, :end]):
            assert band.c2.shape == (2, band.stop - band.start, band.stop - band.start)
            shown[:, band.start : band.stop, band.start : band.stop] = band.c2
            spread[:, band.start : band.stop, band.start : band.stop] = band.spread
    np.testing.assert_array_equal(shown, live.blend.over(c2, 0))
    np.testing.assert_array_equal(spread, live.spread(c2))


@pytest.mark.parametrize(("start", "stop"), [(0, 97), (37, 97), (60, 80), (96, 97), (20, 20)])
def test_a_square_is_cut_from_the_whole(start, stop):
    c2 = growing_c2(97)
    live, _ = pushed(c2, [60, 97])
    square = live.blend.over(c2[:, start:stop, start:stop], start)
    np.testing.assert_array_equal(square, live.blend.over(c2, 0)[:, start:stop, start:stop])


def test_before_the_first_window_everything_is_raw():
    c2 = growing_c2(30)
    live, _ = pushed(c2, [30])
    np.testing.assert_array_equal(live.blend.over(c2, 0), c2)
    assert np.isnan(live.spread(c2)).all()


def test_frames_without_a_new_window_give_no_band():
    _, bands = pushed(growing_c2(55), [20, 50, 54, 55])
    assert [len(some) for some in bands] == [0, 1, 0, 1]
    assert (bands[3][0].start, bands[3][0].stop) == (5, 55)


def test_gaps_stay_gaps():
    c2 = growing_c2(80)
    c2[0, 33], c2[0, :, 33] = np.nan, np.nan
    live, _ = pushed(c2, [60, 80])
    final = denoise_two_time(c2, FakeEnsemble(), contrast=CONTRAST, baseline=BASELINE)
    np.testing.assert_allclose(live.blend.over(c2, 0), final.c2, rtol=0, atol=2e-15)
    np.testing.assert_array_equal(np.isnan(live.blend.over(c2, 0)), np.isnan(c2))


def test_a_roi_joins_when_its_contrast_is_known():
    c2 = growing_c2(100)
    live = Live()
    live.push(c2[:, :60, :60], contrast=np.array([0.3, np.nan]))
    np.testing.assert_array_equal(live.blend.over(c2[:, :60, :60], 0)[1], c2[1, :60, :60])
    live.push(c2)
    joined = denoise_two_time(c2, FakeEnsemble(), contrast=CONTRAST, baseline=BASELINE)
    np.testing.assert_allclose(live.blend.over(c2, 0)[0], joined.c2[0], rtol=0, atol=2e-15)
    spread = live.spread(c2)
    assert np.isnan(spread[1, :15, :15]).all()
    assert np.isfinite(spread[1, 15:60, 15:60]).all()


def test_a_window_that_cannot_slide_is_refused():
    with pytest.raises(InvalidInputError, match="got window 50 and step 51"):
        WindowScaling(contrast=CONTRAST, baseline=BASELINE, step=51)
