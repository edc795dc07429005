"""Windows blended while a series grows."""

from __future__ import annotations

import numpy as np
import pytest

from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.numerics.band import band_of_c2
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
        first = max(0, self.blend.n_windows * 5)  # no more rows than the new windows need
        band = band_of_c2(c2, first, c2.shape[-1], 50)
        return denoise_new_windows(self.blend, band, first, self.ensemble, scaling)

    def denoised(self, c2):
        return self.blend.band(band_of(c2), 0)

    def spread(self, c2):
        return self.blend.band(np.full_like(band_of(c2), np.nan), 0, SPREAD)


def band_of(c2):
    """C2(t - lag, t), the half that a band of denoised values holds."""
    return band_of_c2(c2.swapaxes(1, 2), 0, c2.shape[-1], 50)


def pushed(c2, ends):
    live = Live(len(c2))
    return live, [live.push(c2[:, :end, :end]) for end in ends]


@pytest.mark.parametrize("ends", [range(1, 121), [49, 50, 53, 77, 120], [120], [7, 119, 120]])
def test_with_frozen_scales_it_equals_both_passes_over_the_same_windows(ends):
    c2 = growing_c2(120)  # both grids coincide: the final algorithm has the same windows
    live, _ = pushed(c2, ends)
    final = denoise_two_time(c2, FakeEnsemble(), contrast=CONTRAST, baseline=BASELINE)
    np.testing.assert_allclose(live.denoised(c2), band_of(final.c2), rtol=0, atol=2e-15)
    np.testing.assert_allclose(live.spread(c2), band_of(final.spread), rtol=0, atol=2e-15)


def test_between_two_windows_the_frames_behind_the_last_one_stay_raw():
    c2 = growing_c2(123)
    live, _ = pushed(c2, [60, 123])
    final = denoise_two_time(
        c2[:, :120, :120], FakeEnsemble(), contrast=CONTRAST, baseline=BASELINE
    )
    got = live.denoised(c2)
    np.testing.assert_allclose(got[:, :120], band_of(final.c2), rtol=0, atol=2e-15)
    np.testing.assert_array_equal(got[:, 120:], band_of(c2)[:, 120:])
    assert np.isnan(live.spread(c2)[:, 120:]).all()


def test_each_window_runs_once_and_all_rois_in_one_call():
    live, _ = pushed(growing_c2(75), range(1, 76))
    assert live.ensemble.calls == [2] * 6
    live, _ = pushed(growing_c2(75), [75])
    assert live.ensemble.calls == [12]


def test_rows_before_the_first_one_that_is_named_have_not_changed():
    c2 = growing_c2(97)
    live, shown = Live(), np.empty((2, 0, 50))
    for end in (30, 52, 53, 70, 97):
        same = min(live.push(c2[:, :end, :end]), shown.shape[1])
        now = live.denoised(c2[:, :end, :end])
        np.testing.assert_array_equal(now[:, :same], shown[:, :same])
        shown = now
    np.testing.assert_array_equal(shown, live.denoised(c2))


def test_rows_that_were_released_change_nothing_of_the_others():
    c2 = growing_c2(230)
    live, kept = Live(), Live()
    for end in (60, 97, 130, 230):
        for one in (live, kept):
            one.push(c2[:, :end, :end])
        final = live.blend.n_windows * 5
        live.blend.release(final)
        live.blend.release(final - 7)  # nothing is had back
    raw = band_of(c2)[:, final:]
    np.testing.assert_array_equal(live.blend.band(raw, final), kept.blend.band(raw, final))


def test_of_windows_without_a_measurement_the_network_is_not_asked():
    c2 = growing_c2(120)
    c2[0, 10:], c2[0, :, 10:] = np.nan, np.nan
    live, _ = pushed(c2, [120])
    assert live.ensemble.calls == [15 + 2]  # of the first ROI the windows at frames 0 and 5
    np.testing.assert_array_equal(np.isnan(live.denoised(c2)), np.isnan(band_of(c2)))


def test_before_the_first_window_everything_is_raw():
    c2 = growing_c2(30)
    live, _ = pushed(c2, [30])
    np.testing.assert_array_equal(live.denoised(c2), band_of(c2))
    assert np.isnan(live.spread(c2)).all()


def test_frames_without_a_new_window_change_nothing():
    _, changed = pushed(growing_c2(55), [20, 50, 54, 55])
    assert changed == [20, 0, 54, 5]


def test_gaps_stay_gaps():
    c2 = growing_c2(80)
    c2[0, 33], c2[0, :, 33] = np.nan, np.nan
    live, _ = pushed(c2, [60, 80])
    final = denoise_two_time(c2, FakeEnsemble(), contrast=CONTRAST, baseline=BASELINE)
    np.testing.assert_allclose(live.denoised(c2), band_of(final.c2), rtol=0, atol=2e-15)
    np.testing.assert_array_equal(np.isnan(live.denoised(c2)), np.isnan(band_of(c2)))


def test_a_roi_joins_when_its_contrast_is_known():
    c2 = growing_c2(100)
    live = Live()
    live.push(c2[:, :60, :60], contrast=np.array([0.3, np.nan]))
    np.testing.assert_array_equal(live.denoised(c2[:, :60, :60])[1], band_of(c2)[1, :60])
    live.push(c2)
    joined = denoise_two_time(c2, FakeEnsemble(), contrast=CONTRAST, baseline=BASELINE)
    np.testing.assert_allclose(live.denoised(c2)[0], band_of(joined.c2)[0], rtol=0, atol=2e-15)
    spread = live.spread(c2)
    assert np.isnan(spread[1, :15]).all()
    assert np.isfinite(spread[1, 15:60, 0]).all()


def test_a_window_that_cannot_slide_is_refused():
    with pytest.raises(InvalidInputError, match="got window 50 and step 51"):
        WindowScaling(contrast=CONTRAST, baseline=BASELINE, step=51)
