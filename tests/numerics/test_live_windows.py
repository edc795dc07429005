"""Windows blended while a series grows."""

from __future__ import annotations

import numpy as np
import pytest

from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.numerics.live_windows import LiveWindows
from xpcs_live_denoise.numerics.windows import denoise_two_time

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


def pushed(c2, ends, *, contrast=CONTRAST, baseline=BASELINE):
    live, ensemble = LiveWindows(len(c2)), FakeEnsemble()
    bands = [live.push(c2[:, :end, :end], ensemble, contrast, baseline) for end in ends]
    return live, bands, ensemble


@pytest.mark.parametrize("ends", [range(1, 121), [49, 50, 53, 77, 120], [120], [7, 119, 120]])
def test_with_frozen_scales_it_equals_both_passes_over_the_same_windows(ends):
    c2 = growing_c2(120)  # both grids coincide: the final algorithm has the same windows
    live, _, _ = pushed(c2, ends)
    final = denoise_two_time(c2, FakeEnsemble(), contrast=CONTRAST, baseline=BASELINE)
    np.testing.assert_allclose(live.c2(c2), final.c2, rtol=0, atol=2e-15)
    np.testing.assert_allclose(live.spread, final.spread, rtol=0, atol=2e-15)


def test_between_two_windows_the_frames_behind_the_last_one_stay_raw():
    c2 = growing_c2(123)
    live, _, _ = pushed(c2, [60, 123])
    final = denoise_two_time(
        c2[:, :120, :120], FakeEnsemble(), contrast=CONTRAST, baseline=BASELINE
    )
    got = live.c2(c2)
    np.testing.assert_allclose(got[:, :120, :120], final.c2, rtol=0, atol=2e-15)
    np.testing.assert_array_equal(got[:, 120:], c2[:, 120:])
    assert live.spread.shape == (2, 123, 123)
    assert np.isnan(live.spread[:, 120:]).all()


def test_each_window_runs_once_and_all_rois_in_one_call():
    _, _, ensemble = pushed(growing_c2(75), range(1, 76))
    assert ensemble.calls == [2] * 6
    _, _, ensemble = pushed(growing_c2(75), [75])
    assert ensemble.calls == [12]


def test_ready_names_the_complete_windows_that_are_not_done():
    live = LiveWindows(2)
    assert live.ready(49).size == 0
    np.testing.assert_array_equal(live.ready(61), [0, 5, 10])
    live.push(growing_c2(56), FakeEnsemble(), CONTRAST, BASELINE)
    assert live.ready(59).size == 0
    np.testing.assert_array_equal(live.ready(66), [10, 15])


def test_bands_hold_every_change_in_order():
    c2 = growing_c2(97)
    live = LiveWindows(2)
    ensemble = FakeEnsemble()
    shown, spread = c2.copy(), np.full_like(c2, np.nan)
    for end in (30, 52, 53, 70, 97):
        for band in live.push(c2[:, :end, :end], ensemble, CONTRAST, BASELINE):
            assert band.c2.shape == (2, band.stop - band.start, band.stop - band.start)
            shown[:, band.start : band.stop, band.start : band.stop] = band.c2
            spread[:, band.start : band.stop, band.start : band.stop] = band.spread
    np.testing.assert_array_equal(shown, live.c2(c2))
    np.testing.assert_array_equal(spread, live.spread)


@pytest.mark.parametrize(("start", "stop"), [(0, 97), (37, 97), (60, 80), (96, 97), (20, 20)])
def test_a_square_is_cut_from_the_whole(start, stop):
    c2 = growing_c2(97)
    live, _, _ = pushed(c2, [60, 97])
    square = live.square(c2, start, stop)
    np.testing.assert_array_equal(square, live.c2(c2)[:, start:stop, start:stop])


def test_before_the_first_window_everything_is_raw():
    c2 = growing_c2(30)
    live, _, _ = pushed(c2, [30])
    np.testing.assert_array_equal(live.c2(c2), c2)
    assert np.isnan(live.spread).all()
    assert live.spread.shape == c2.shape


def test_a_push_without_a_new_window_gives_no_band():
    _, bands, _ = pushed(growing_c2(55), [20, 50, 54, 55])
    assert [len(some) for some in bands] == [0, 1, 0, 1]
    assert (bands[3][0].start, bands[3][0].stop) == (5, 55)


def test_gaps_stay_gaps():
    c2 = growing_c2(80)
    c2[0, 33], c2[0, :, 33] = np.nan, np.nan
    live, _, _ = pushed(c2, [60, 80])
    final = denoise_two_time(c2, FakeEnsemble(), contrast=CONTRAST, baseline=BASELINE)
    np.testing.assert_allclose(live.c2(c2), final.c2, rtol=0, atol=2e-15)
    np.testing.assert_array_equal(np.isnan(live.c2(c2)), np.isnan(c2))


def test_a_roi_joins_when_its_contrast_is_known():
    c2 = growing_c2(100)
    live, ensemble = LiveWindows(2), FakeEnsemble()
    unknown = np.array([0.3, np.nan])
    live.push(c2[:, :60, :60], ensemble, unknown, BASELINE)
    np.testing.assert_array_equal(live.c2(c2[:, :60, :60])[1], c2[1, :60, :60])
    live.push(c2, ensemble, CONTRAST, BASELINE)
    joined = denoise_two_time(c2, FakeEnsemble(), contrast=CONTRAST, baseline=BASELINE)
    np.testing.assert_allclose(live.c2(c2)[0], joined.c2[0], rtol=0, atol=2e-15)
    assert np.isnan(live.spread[1, :15, :15]).all()
    assert np.isfinite(live.spread[1, 15:60, 15:60]).all()


def test_a_window_that_cannot_slide_is_refused():
    with pytest.raises(InvalidInputError, match="got window 50 and step 51"):
        LiveWindows(1, step=51)
