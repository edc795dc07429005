"""GammaTable: the columns of the gamma stream."""

import numpy as np
import pytest

from xpcs_live_denoise import GammaTable, InvalidInputError, fit_g2
from xpcs_live_denoise.numerics.kww import kww
from xpcs_live_denoise.records.results import GAMMA_COLUMNS


@pytest.fixture
def table():
    lags = np.arange(1, 40)
    return fit_g2(np.stack([kww(lags, rate, beta=0.3) for rate in (0.02, 0.05, 0.1)]))


def test_the_columns_are_those_of_the_schema_in_order(table):
    assert list(table.to_pandas().columns) == [
        "roi", "q_inv_angstrom", "age_s", "relaxation_rate", "relaxation_rate_error", "alpha",
        "recommended", "source", "age_frame", "phi_deg", "width", "error_kind", "alpha_error",
        "baseline", "baseline_error", "beta", "beta_error", "reduced_chi_square", "n_lags",
        "n_effective", "converged", "in_range", "reason", "caution", "final",
    ]  # fmt: skip
    assert len(table) == 3


def test_a_scalar_is_repeated_for_every_row_and_the_original_stays(table):
    changed = table.replace(source="other", width=7)
    assert changed.source.tolist() == ["other"] * 3
    assert changed.width.tolist() == [7] * 3
    assert table.source.tolist() == ["series_raw"] * 3


def test_select_and_concatenate_are_inverse(table):
    mask = np.array([True, False, True])
    joined = GammaTable.concatenate([table.select(mask), table.select(~mask)])
    back = joined.select(np.argsort(joined.roi))
    for name in GAMMA_COLUMNS:
        np.testing.assert_array_equal(getattr(back, name), getattr(table, name))


def test_columns_of_different_lengths_are_refused(table):
    columns = {name: getattr(table, name) for name in GAMMA_COLUMNS}
    columns["alpha"] = columns["alpha"][:2]
    with pytest.raises(InvalidInputError, match=r"columns of different shapes, .*'alpha': \(2,\)"):
        GammaTable(**columns)
