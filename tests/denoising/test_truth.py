"""The two truths of an input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from xpcs_live_denoise.denoising.evaluation.metrics import disjoint_truth, truths, weighted_fit
from xpcs_live_denoise.denoising.model import LAG
from xpcs_live_denoise.denoising.training.data import load_windows


def test_each_truth_is_the_weighted_fit_to_its_c2(path: Path):
    data = load_windows(path)
    known = truths(data)
    fits = weighted_fit(data.target)
    for k in (0, 17, 39):
        expected = fits.relaxation_rate[data.target_index[k]]
        assert known["target"].rates.relaxation_rate[k] == pytest.approx(expected)
    c2, has = disjoint_truth(data)
    np.testing.assert_array_equal(known["frame_disjoint"].rows, np.flatnonzero(has))
    expected = weighted_fit(c2[has]).relaxation_rate
    np.testing.assert_array_equal(known["frame_disjoint"].rates.relaxation_rate, expected)


def test_the_frame_disjoint_truth_holds_nothing_of_the_input(path: Path, tmp_path: Path):
    arrays = dict(np.load(path))
    arrays["c2"][0] += 3 * np.exp(-0.3 * LAG)  # input 0 of series 0; cuts 2, 3 and 4 are its truth
    np.savez(tmp_path / "odd.npz", **arrays)
    before, after = (load_windows(file) for file in (path, tmp_path / "odd.npz"))
    one, other = truths(before)["frame_disjoint"], truths(after)["frame_disjoint"]
    np.testing.assert_array_equal(one.c2[0], other.c2[0])
    assert one.rates.relaxation_rate[0] == other.rates.relaxation_rate[0]
    assert one.rates.relaxation_rate[4] != other.rates.relaxation_rate[4]
