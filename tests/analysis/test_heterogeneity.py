"""Heterogeneity of a run: while it is on ROI after ROI, at its end of all, with a sentence."""

import re

import numpy as np
import pytest

from tests.support.changing_speckle import RATES, speckle
from xpcs_live_denoise import analyse_c2
from xpcs_live_denoise.analysis.heterogeneity import RoisHeterogeneity
from xpcs_live_denoise.analysis.series import Analysis
from xpcs_live_denoise.config import Settings
from xpcs_live_denoise.numerics.rois import RoiMap
from xpcs_live_denoise.numerics.simulate import simulate_speckle
from xpcs_live_denoise.records.results import GammaTable
from xpcs_live_denoise.records.run import RoiHeterogeneity

SETTINGS = Settings(detector="cam", denoise=False)
N_FRAMES, LABELS = 180, (3, 7)


@pytest.fixture(scope="module")
def done():
    """The publications and the result of a ROI with constant Gamma and one where it oscillates."""
    rois = RoiMap.from_labels(np.repeat(LABELS, 40)[:, np.newaxis] * np.ones((1, 60), int))
    rates = np.stack([RATES["constant"], RATES["oscillating"]])[:, :N_FRAMES]
    frames = simulate_speckle(
        rois, N_FRAMES, relaxation_rate=rates, contrast=0.2, mean_counts=0.5, seed=9
    )
    frames = np.concatenate(list(frames))
    analysis = Analysis(SETTINGS, rois, frame_time_s=0.1)
    published = []
    for start in range(0, N_FRAMES, 15):
        analysis.push(frames[start : start + 15])
        published.append(analysis.publish(start).status)
    return published, analysis.finish()


def rows(run, label, **columns):
    """Rows of the path of one ROI."""
    table = run.gamma(range(9), source="path", rate=1.0)
    table = table.select(table.roi == 1)
    return table.replace(roi=label, **{"beta": 0.2, "alpha": 1.0, **columns})


def test_a_roi_whose_gamma_oscillates_is_named_and_one_whose_gamma_is_constant_is_not(done):
    steady, oscillating = done[1].status.heterogeneity
    assert (steady.found, oscillating.found) == (False, True)
    true = np.log(RATES["oscillating"]).std()
    assert 0.5 * true < oscillating.spread < 1.6 * true
    words = f"{oscillating.spread:.2f} +- {oscillating.spread_error:.2f}."
    sentence = f"ROI 7 is dynamically heterogeneous: ln Gamma fluctuates by {words}"
    assert sentence in done[1].status.message


def test_g2_has_it_at_every_lag_of_its_bins(done):
    result = done[1]
    for values, name in (
        (result.g2.heterogeneity, "chi"),
        (result.g2.heterogeneity_error, "chi_error"),
    ):
        assert values.shape == result.g2.g2.shape
        assert np.isnan(values[:, 0]).all(), "lag 1"
        for roi, one in enumerate(result.status.heterogeneity):
            at = [round(lag) - 1 for lag in one.lag]
            np.testing.assert_allclose(values[roi, at], getattr(one, name), rtol=1e-3)


def test_while_the_run_is_on_one_roi_is_looked_at_in_a_publication(done):
    before = (RoiHeterogeneity(),) * 2
    for status in done[0]:
        changed = [a is not b for a, b in zip(before, status.heterogeneity, strict=True)]
        assert sum(changed) <= 1 or not before[0].lag
        before = status.heterogeneity
    assert before[1].found
    assert "ROI 7 is dynamically heterogeneous" in done[0][-1].message


def test_a_roi_is_looked_at_again_when_the_series_has_grown_enough(synthetic):
    made = RoisHeterogeneity(np.array([1]), 1.0)
    looked = []
    sums = speckle("constant", 411)
    for n_frames in range(10, 351, 10):
        before = made.newest[0]
        made.look(
            SameForAll(sums, n_frames),
            rows(synthetic(n_frames=9), 1, relaxation_rate=0.05),
            range(1),
        )
        if made.newest[0] is not before:
            looked.append(n_frames)
    assert looked == [50, 100, 150, 200, 250, 300], "the next one at 360"


class SameForAll:
    """Sums of the first frames of a series of one ROI, as if all ROIs had them."""

    def __init__(self, sums, n_frames=350):
        self._sums, self.n_frames = sums, n_frames
        self.n_rows, self.row_frames = n_frames, 1

    def cuts(self, roi, ages, width):
        return self._sums.cuts(0, ages, width)


def test_several_rois_share_one_sentence(synthetic):
    made = RoisHeterogeneity(np.array([3, 7]), 1.0)
    assert made.notes == []
    sums, run = SameForAll(speckle("oscillating", 411)), synthetic(n_frames=9)
    tables = [rows(run, label, relaxation_rate=0.05) for label in (3, 7)]
    made.whole(sums, GammaTable.concatenate(tables), np.arange(1.0, 350.0))
    assert re.fullmatch(
        r"ROI 3, 7 are dynamically heterogeneous: ln Gamma fluctuates by "
        r"0\.\d\d \+- 0\.\d\d, 0\.\d\d \+- 0\.\d\d\.",
        *made.notes,
    )


@pytest.mark.parametrize("columns", [{"reason": "no_contrast"}, {"beta": -0.1}, {"source": "raw"}])
def test_without_contrast_or_rate_nothing_is_known(synthetic, columns):
    made = RoisHeterogeneity(np.array([1]), 1.0)
    chi, error = made.whole(
        speckle("oscillating", 411), rows(synthetic(), 1, **columns), np.arange(1.0, 350.0)
    )
    assert chi.shape == error.shape == (1, 349)
    assert np.isnan(chi).all()
    assert made.newest == (RoiHeterogeneity(),)


def test_c2_alone_gives_a_bound_and_no_sentence():
    ages = np.arange(200)
    total = np.cumsum(0.05 * 2.2 ** np.sin(2 * np.pi * ages / 40))
    noise = np.random.default_rng(3).normal(0, 0.05, (200, 200))
    c2 = 1 + 0.2 * np.exp(-2 * abs(np.subtract.outer(total, total))) + (noise + noise.T) / 2
    result = analyse_c2(c2, settings=Settings(detector="c2", denoise=False))
    assert result.status.heterogeneity[0].upper_bound
    assert result.status.heterogeneity[0].spread > 0.3
    assert "heterogeneous" not in result.status.message
