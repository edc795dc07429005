"""A C2 that is there is analysed as the live pipeline analyses its own."""

import numpy as np
import pytest

from xpcs_live_denoise import InvalidInputError, RoiMap, Settings, analyse, analyse_c2
from xpcs_live_denoise.numerics.simulate import simulate_speckle


class Identity:
    """A denoiser that changes nothing."""

    def denoise(self, windows):
        return windows, np.zeros_like(windows)


@pytest.fixture(scope="module")
def series():
    rois = RoiMap.from_labels(np.ones((30, 40), int))
    pieces = simulate_speckle(rois, 90, relaxation_rate=0.08, mean_counts=3.0, seed=5)
    return rois, np.concatenate(list(pieces))


@pytest.fixture(scope="module")
def from_frames(series):
    settings = Settings(detector="cam", frame_time_s=0.1)
    return analyse(series[1], settings, rois=series[0], ensemble=Identity())


def test_a_c2_gives_the_same_rows_as_its_frames_but_for_the_jackknife(from_frames):
    result = analyse_c2(from_frames.c2[0], frame_time_s=0.1, ensemble=Identity())
    assert result.c2.shape == (1, 90, 90)
    np.testing.assert_array_equal(result.denoised.c2, from_frames.denoised.c2)
    np.testing.assert_array_equal(result.g2.g2, from_frames.g2.g2)
    one, other = result.gamma, from_frames.gamma
    assert (one.source == other.source).all()
    raw = one.source == "raw"
    np.testing.assert_array_equal(one.relaxation_rate[raw], other.relaxation_rate[raw])
    bayes = one.select(one.source == "bayes")
    assert set(bayes.error_kind) == {"residual"}
    assert np.median(bayes.relaxation_rate) == pytest.approx(0.8, rel=0.2)
    path = one.select(one.source == "path")
    assert set(path.error_kind) == {"residual"}
    assert np.median(path.relaxation_rate) == pytest.approx(0.8, rel=0.2)
    assert path.recommended.sum() > 60
    whole, by_blocks = (each.select(each.source == "series_raw") for each in (one, other))
    assert (whole.error_kind[0], by_blocks.error_kind[0]) == ("residual", "jackknife")
    assert whole.relaxation_rate_error[0] == pytest.approx(
        by_blocks.relaxation_rate_error[0], rel=1.0
    )
    # 90 frames are seven correlation times: few blocks have nothing in common.
    assert "Errors of Gamma in ROI 1 may be off by a factor of 2" in result.status.message


def test_a_c2_that_is_long_enough_tells_its_errors_without_a_warning(series):
    fast = np.concatenate(list(simulate_speckle(series[0], 90, relaxation_rate=0.25, seed=5)))
    settings = Settings(detector="cam", denoise=False)
    result = analyse_c2(analyse(fast, settings, rois=series[0]).c2, settings=settings)
    assert "Errors of Gamma" not in result.status.message


def test_what_may_be_static_is_recommended_with_a_caution(from_frames):
    raised = analyse_c2(from_frames.c2[0] + 0.1, ensemble=Identity()).gamma
    rows = raised.select((raised.source == "path") & raised.recommended)
    assert len(rows) > 60
    cautions = {one.partition(":")[0] for one in rows.caution}
    assert cautions == {"static_or_nonuniform"}
    plain = analyse_c2(from_frames.c2[0], ensemble=Identity()).gamma
    assert set(plain.caution) == {""}


def test_several_rois_are_numbered_from_one_and_gaps_stay_gaps(from_frames):
    c2 = np.repeat(from_frames.c2, 2, axis=0)
    c2[1, 40], c2[1, :, 40] = np.nan, np.inf
    result = analyse_c2(c2, ensemble=Identity())
    assert set(result.gamma.roi) == {1, 2}
    assert np.isnan(result.c2[1, 40]).all()
    rows = result.gamma.select((result.gamma.source == "bayes") & (result.gamma.roi == 2))
    assert np.isfinite(rows.relaxation_rate).all()


@pytest.mark.parametrize("shape", [(3, 4), (0, 0), (5,), (1, 2, 3, 3)])
def test_what_is_no_c2_is_refused(shape):
    with pytest.raises(InvalidInputError, match="C2: got shape"):
        analyse_c2(np.ones(shape), ensemble=Identity())


def test_a_frame_time_that_is_none_is_refused():
    with pytest.raises(InvalidInputError, match="frame_time_s: got 0"):
        analyse_c2(np.ones((60, 60)), frame_time_s=0.0, ensemble=Identity())
