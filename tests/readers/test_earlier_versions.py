"""Results that earlier versions of the package wrote: everything opens them."""

import h5py
import numpy as np
import pytest

from tests.support.stored_results import restore
from xpcs_live_denoise import compare, results, runs
from xpcs_live_denoise.records.results import GAMMA_COLUMNS

SOURCES = {"raw", "denoised", "bayes", "series_raw", "series_denoised"}


@pytest.fixture(scope="module")
def start(module_client):
    """The start document of a result of version 1: 54 frames, ROIs 3 and 5, denoised."""
    return restore(module_client, "result_version_1", "earlier")


@pytest.fixture
def result(module_client, start):
    return results(module_client["earlier"], start["original_run_uid"])


def test_c2_of_version_1_is_read_whole_and_as_a_band(result):
    raw, denoised = result.c2(denoised=False), result.c2(3)
    assert raw.dims == ("roi", "t1_s", "t2_s")
    assert raw.shape == (2, 54, 54)
    np.testing.assert_allclose(raw["t1_s"], 0.05 * np.arange(54))
    np.testing.assert_array_equal(raw.values, raw.values.swapaxes(1, 2))
    assert 0 < abs(denoised.values - raw.sel(roi=3).values).max() < 1
    band = result.band(5, denoised=False)
    assert band.shape == (54, 50)
    np.testing.assert_array_equal(band.values[40, :30], raw.sel(roi=5).values[40, 40:10:-1])


def test_tables_of_version_1_have_todays_columns_and_what_was_not_known_then_is_empty(result):
    table = result.gamma_table(recommended=True)
    assert tuple(table.columns) == GAMMA_COLUMNS
    assert set(table["roi"]) == {3, 5}
    assert set(table["caution"]) == {""}
    assert table["phi_deg"].isna().all()
    assert set(result.gamma_table()["source"]) == SOURCES
    assert 1 < table["relaxation_rate"].median() < 5  # 2.1 1/s was simulated
    g2 = result.g2_table()
    assert len(g2) == 2 * 53
    assert g2["heterogeneity"].isna().all()
    assert result.status_table()["n_processed"].iloc[-1] == 54
    assert result.image()[0].shape == (24, 28)


@pytest.mark.parametrize("kind", ["h5", "csv", "png"])
def test_a_result_of_version_1_is_exported(result, tmp_path, kind):
    path = tmp_path / f"old.{kind}"
    result.export(path)
    assert path.stat().st_size > 1000
    if kind == "h5":
        with h5py.File(path) as file:
            assert file["entry/twotime/two_time_corr_func"].shape == (2, 54, 54)
            assert np.isfinite(file["entry/gamma/relaxation_rate"][:]).all()
            assert file["entry/scan_number"][()] == 412


def test_runs_and_compare_show_a_result_of_version_1(module_client, start):
    table = runs(module_client["earlier"], sample="gel of version 1")
    assert table["roi"].tolist() == [3, 5]
    assert set(table["state"]) == {"finished"}
    assert table["relaxation_rate"].isna().all()  # its stop document tells none
    found = compare(module_client["earlier"], start["uid"])
    assert [*found.results] == ["unknown"]
    assert (found.summary()["relaxation_rate"] > 0).all()
