"""The path of a long series in sections: what everything in memory tells, and right."""

import dataclasses

import numpy as np
import pytest

from xpcs_live_denoise.numerics.estimator import sums as sums_module
from xpcs_live_denoise.numerics.estimator.ages import BayesEstimator
from xpcs_live_denoise.numerics.estimator.final_path import FinalPath
from xpcs_live_denoise.numerics.estimator.grid import kww_grid
from xpcs_live_denoise.numerics.estimator.path import PathEstimator
from xpcs_live_denoise.numerics.estimator.sums import AgeSums
from xpcs_live_denoise.numerics.rois import RoiMap
from xpcs_live_denoise.numerics.simulate import simulate_speckle
from xpcs_live_denoise.numerics.two_time import TwoTimeAccumulator

N = 3000
AGE = np.arange(N)
# Constant, then fast changes, then a jump: knots of six frames tell the first part only.
RATE = np.where(AGE < 1200, 0.05, np.where(AGE < 1700, 0.05 * 2.2 ** np.sin(AGE / 6.4), 0.04))
ROIS = RoiMap.from_labels(np.repeat([[1], [2]], 20, axis=0).repeat(25, axis=1))
GAP, DARK = slice(600, 620), slice(2100, 2110)


def accumulator(most_rows=sums_module.MOST_ROWS):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sums_module, "MOST_ROWS", most_rows)
        return TwoTimeAccumulator(ROIS, sums=True, map_frames=64)


def whole(sums, roi):
    series = BayesEstimator(roi).series(sums, kww_grid(*sums.lag_bins()))
    return PathEstimator(roi).whole(sums, series, (np.array([0]), np.log([0.05])))


@pytest.fixture(scope="module")
def frames():
    """A series with a gap; in DARK the second ROI has no photons."""
    pieces = simulate_speckle(ROIS, N, relaxation_rate=RATE, contrast=0.5, mean_counts=1.0, seed=3)
    frames = np.concatenate(list(pieces))
    frames[DARK, 20:] = 0
    return frames


def append(two_time, frames, start, stop):
    if not start < GAP.start < stop:
        two_time.append(frames[start:stop])
        return
    two_time.append(frames[start : GAP.start])
    two_time.append_gap(GAP.stop - GAP.start)
    two_time.append(frames[GAP.stop : stop])


@pytest.fixture(scope="module")
def streamed(frames):
    """Sums whose rows were doubled, and the path of each ROI made while they came."""
    two_time, paths = accumulator(), [FinalPath(roi) for roi in range(2)]
    for stop in range(256, N, 256):
        append(two_time, frames, stop - 256, stop)
        if stop >= 512:
            for path in paths:
                path.advance(two_time.age_sums)
    append(two_time, frames, stop, N)
    return two_time.age_sums, paths


class Rows:
    """The rows of all parts of a path, in order of age; how far they are from the truth."""

    def __init__(self, parts):
        age = np.concatenate([part.age for part in parts])
        order = np.argsort(age)
        self.age = age[order]
        for name in ("ln_rate", "ln_rate_error", "width"):
            values = np.concatenate([getattr(part, name) for part in parts])
            setattr(self, name, values[order])
        self.off = self.ln_rate - np.log(np.interp(self.age, AGE, RATE))

    def scores(self, first, stop):
        """RMS of ln Gamma and the share of truths within one and two errors."""
        some = (self.age >= first) & (self.age < stop)
        off, error = np.abs(self.off[some]), self.ln_rate_error[some]
        return np.sqrt(np.mean(off**2)), np.mean(off < error), np.mean(off < 2 * error)


@pytest.fixture(scope="module")
def found(streamed):
    sums, paths = streamed
    return [Rows(path.finish(sums, whole(sums, roi))) for roi, path in enumerate(paths)]


def test_a_streamed_path_is_that_of_everything_in_memory(streamed, found, frames):
    two_time = accumulator(4096)  # rows of one frame, and sections made at the end
    append(two_time, frames, 0, N)
    for roi, one in enumerate(found):
        parts = FinalPath(roi).finish(two_time.age_sums, whole(streamed[0], roi))
        full = Rows(parts)
        ln_rate, error = (
            np.interp(one.age, full.age, values) for values in (full.ln_rate, full.ln_rate_error)
        )
        assert (np.abs(one.ln_rate - ln_rate) < 0.1 * error).mean() > 0.95
        np.testing.assert_allclose(one.ln_rate_error, error, rtol=0.2)


def test_every_row_has_one_value_and_only_those_of_fast_changes_knots_of_their_own(found):
    for one in found:
        np.testing.assert_array_equal(one.age // 2, np.arange(N // 2))
        fast = (one.age > 1200) & (one.age < 1700)
        assert (one.width[fast] == 1).all()
        assert (one.width[(one.age < 896) | (one.age > 2176)] > 1).all()


def test_fast_changes_are_right_where_the_path_of_the_whole_series_rounds_them_off(streamed, found):
    rms, one, two = found[0].scores(1200, 1700)
    assert rms < 0.3
    assert one > 0.6
    assert two > 0.9
    rounded, covered, _ = Rows([whole(streamed[0], 0)]).scores(1200, 1700)
    assert rounded > 2 * rms
    assert covered < 0.3
    assert found[0].scores(0, N)[2] > 0.9


def test_finish_consumes_nothing_and_takes_sections_where_the_whole_path_has_no_answer(streamed):
    sums, paths = streamed
    known = whole(sums, 0)
    one, again = (paths[0].finish(sums, known) for _ in range(2))
    np.testing.assert_array_equal(one[0].ln_rate, again[0].ln_rate)
    (alone,) = paths[0].finish(sums, dataclasses.replace(known, converged=False))
    assert len(alone.age) == N // 2
    assert np.isfinite(alone.ln_rate_error).all()
    (alone,) = paths[0].finish(sums, dataclasses.replace(known, misfit=9.0))
    assert len(alone.age) == N // 2
    assert alone.misfit < 2


def test_a_short_series_is_one_path():
    sums = AgeSums.from_c2(1 + 0.2 * np.exp(-0.1 * np.abs(np.subtract.outer(AGE[:90], AGE[:90]))))
    known = whole(sums, 0)
    assert FinalPath(0).finish(sums, known) == [known]
