"""Which rows of a gamma table count, and what is drawn of them."""

import dataclasses

import numpy as np
import pytest

from xpcs_live_denoise import views
from xpcs_live_denoise.records.results import GAMMA_COLUMNS, GammaTable, RowSource
from xpcs_live_denoise.views.gamma import MOST_POINTS, series_fit


def table(synthetic, *rows):
    """Rows of (roi, age_frame, source, width, final)."""
    columns = list(zip(*rows, strict=True))
    made = synthetic(n_roi=1).gamma(range(len(rows)))
    names = ("roi", "age_frame", "source", "width", "final")
    return dataclasses.replace(
        made, **{name: np.array(column) for name, column in zip(names, columns, strict=True)}
    )


def kept(synthetic, *rows, order=None):
    return [rows[row] for row in views.rows_that_count(table(synthetic, *rows), order)]


def test_a_final_row_replaces_provisional_ones_of_another_width(synthetic):
    final = (1, 5.0, "bayes", 25, True)
    early, late = (1, 5.0, "bayes", 15, False), (1, 5.0, "bayes", 41, False)
    assert kept(synthetic, early, final, late) == [final]


def test_a_row_of_the_estimator_replaces_the_early_one_even_while_provisional(synthetic):
    late = (1, 5.0, "bayes", 25, False)
    assert kept(synthetic, late, (1, 5.0, "bayes_early", 25, False)) == [late]


def test_other_ages_rois_sources_and_rows_without_an_age_stay(synthetic):
    rows = [
        (1, 5.0, "bayes", 25, True),
        (1, 6.0, "bayes_early", 25, False),
        (2, 5.0, "bayes", 15, False),
        (1, 5.0, "denoised", 1, False),
        (1, float("nan"), "series_raw", 90, True),
    ]
    assert kept(synthetic, *rows) == rows
    assert kept(synthetic, rows[-1], rows[-1]) == [rows[-1]]


def test_several_widths_of_one_age_that_are_all_final_stay(synthetic):
    rows = [(1, 5.0, "raw", 1, True), (1, 5.0, "raw", 9, True)]
    assert kept(synthetic, *rows) == rows


def test_of_rows_that_are_alike_the_newest_counts_and_a_late_provisional_one_changes_nothing(
    synthetic,
):
    row, final = (1, 5.0, "raw", 1, False), (1, 5.0, "raw", 1, True)
    alike = table(synthetic, row, row)
    assert views.rows_that_count(alike).tolist() == [1]
    assert views.rows_that_count(alike, np.array([9, 2])).tolist() == [0]
    assert views.rows_that_count(table(synthetic, final, row)).tolist() == [0]


def test_an_empty_table_has_no_rows_that_count(synthetic):
    assert not views.rows_that_count(synthetic().gamma(range(0))).size


def test_columns_of_a_data_frame_become_a_table_of_the_same_types(synthetic):
    rows = synthetic().gamma(range(4), source="bayes")
    again = views.table_from_columns(rows.to_pandas())
    for name in GAMMA_COLUMNS:
        np.testing.assert_array_equal(getattr(again, name), getattr(rows, name))
        assert getattr(again, name).dtype.kind == getattr(rows, name).dtype.kind


def test_a_table_of_an_earlier_version_lacks_columns_that_are_then_not_known(synthetic):
    rows = synthetic().gamma(range(4), source="bayes").to_pandas()
    again = views.table_from_columns(rows.drop(columns="n_effective"))
    assert np.isnan(again.n_effective).all()
    assert len(again.n_effective) == len(rows)


def view(rows, label=1, **options):
    return views.gamma_view(rows, label, **{"end_s": 30.0, "window": 50, "final": False, **options})


def test_points_are_told_apart_by_source_and_recommendation(synthetic):
    run = synthetic()
    doubtful = run.gamma(range(10, 14), source="path").replace(recommended=False, reason="prior")
    rows = GammaTable.concatenate(
        [
            run.gamma(range(4)),
            run.gamma(range(3), source="denoised"),
            run.gamma(range(1), source="denoised_coarse"),
            run.gamma(range(5), source="path", final=True),
            run.gamma(range(6), source="bayes").replace(recommended=False, reason="path_is_better"),
            doubtful,
        ]
    )
    shown = view(rows, 2)
    assert {kind: len(points) for kind, points in shown.points.items()} == {
        "raw": 4,
        "denoised": 4,
        "cuts": 6,
        "doubtful": 4,
        "recommended": 5,
    }
    assert list(shown.points) == list(views.KINDS)
    assert shown.points["recommended"].final.all()
    assert set(shown.points["doubtful"].reason) == {"prior"}
    assert shown.provisional
    assert shown.note == ""


def test_rows_that_are_no_points_are_left_out(synthetic):
    run = synthetic(n_roi=1)
    rows = run.gamma(range(5))
    converged = np.array([True, False, True, True, True])
    rate, age = np.array([1.0, 1, -1, 1, 1]), np.array([1.0, 1, 1, np.nan, 3])
    rows = rows.replace(converged=converged, relaxation_rate=rate, age_s=age)
    assert view(rows).points["raw"].age_s.tolist() == [1.0, 3.0]


def test_points_that_are_too_many_are_thinned_and_no_bar_reaches_zero(synthetic):
    rows = synthetic(n_roi=1).gamma(range(5 * MOST_POINTS)).replace(relaxation_rate_error=9.0)
    points = view(rows).points["raw"]
    assert len(points) == MOST_POINTS
    lower, upper = views.error_bars(points)
    np.testing.assert_allclose(lower, 0.1)
    np.testing.assert_allclose(upper, 10.0)
    unknown = view(rows.replace(relaxation_rate_error=np.nan)).points["raw"]
    np.testing.assert_array_equal(*views.error_bars(unknown))


def test_the_scale_is_that_of_the_estimator_where_it_has_rows(synthetic):
    run = synthetic(n_roi=1)
    raw, bayes = run.gamma(range(9), rate=1e4), run.gamma(range(9), source="bayes", rate=2.0)
    assert view(GammaTable.concatenate([raw, bayes])).high == 12.0
    assert view(raw).high == 6e4


@pytest.mark.parametrize("rows", [None, "empty", "other ROI"])
def test_without_rows_it_says_when_there_will_be_some(synthetic, rows):
    if rows is not None:
        rows = synthetic(n_roi=1).gamma(range(0 if rows == "empty" else 3)).replace(roi=7)
    assert view(rows).note == "waiting for the first 50 frames"
    assert view(rows, final=True).note == "no fit converged"
    assert not view(rows).provisional


def test_the_axis_of_ages_says_how_few_independent_points_there_are(synthetic):
    rows = synthetic(n_roi=1).gamma(range(9), source="bayes").replace(n_effective=2.6)
    assert view(rows).age_label == ("age (s), worth 2.6 independent points")
    assert view(rows.replace(n_effective=np.nan)).age_label == "age (s)"
    assert view(rows.replace(recommended=False)).age_label == "age (s)"


LABELS, Q = (1, 2, 3), (0.002, 0.003, 0.004)


def test_gamma_against_q_has_its_exponent(synthetic):
    rows = synthetic(n_roi=3).gamma(range(5), source="bayes")
    rate = np.repeat(1e6 * np.array(Q) ** 2, 5)
    rows = rows.replace(relaxation_rate=rate, relaxation_rate_error=0.5 * rate)
    shown = views.power_law_view(rows, LABELS, Q)
    # One age's error is a half of ln Gamma, and five neighbours tell little more than one.
    assert "Γ ∝ qⁿ, n = 2.00 ± " in shown.words
    assert "± 0.00" not in shown.words
    np.testing.assert_allclose(shown.rate, 1e6 * shown.q_squared)
    np.testing.assert_allclose(shown.error, 0.5 * shown.rate)
    np.testing.assert_allclose(shown.line_rate, 1e6 * shown.line_q_squared)
    assert shown.n_ages.tolist() == [5, 5, 5]
    assert shown.label.tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("q", "sentence"),
    [
        ((np.nan,) * 3, "q is not known"),
        ((0.1, 0.2, np.nan), "recommended Γ in 2 of 3 ROIs"),
        ((0.1, 0.2), "needs three ROIs"),
    ],
)
def test_a_power_law_that_cannot_be_is_explained(synthetic, q, sentence):
    rows = synthetic(n_roi=len(q)).gamma(range(5), source="bayes")
    shown = views.power_law_view(rows, range(1, len(q) + 1), q)
    assert sentence in shown.words
    assert not shown.line_rate.size


def test_only_the_estimator_recommends(synthetic):
    rows = synthetic(n_roi=3).gamma(range(5), source="raw")
    assert views.power_law_view(rows, LABELS, Q).words.startswith("recommended Γ in 0 of 3")
    assert views.power_law_view(None, LABELS, Q).words.startswith("recommended Γ in 0 of 3")


def test_the_fit_of_the_series_is_the_last_that_converged(synthetic):
    rows = synthetic(n_roi=2).gamma(range(3), source="series_raw")
    rows = rows.replace(relaxation_rate=np.array([1.0, 2, 3, 4, 5, 6]))
    rows = rows.replace(converged=rows.relaxation_rate < 6)
    found = series_fit(rows, 2, RowSource.SERIES_RAW)
    assert found.relaxation_rate.tolist() == [5.0]
    assert series_fit(rows, 2, RowSource.SERIES_DENOISED) is None
    assert series_fit(None, 2, RowSource.SERIES_RAW) is None


def test_recommended_rates_are_preferred_then_denoised_ones(synthetic):
    run = synthetic(n_roi=1)
    rows = GammaTable.concatenate(
        [run.gamma(range(1), source=source) for source in ("raw", "denoised", "bayes")]
    )
    assert views.preference(rows).tolist() == [0, 1, 2]


def test_the_caution_of_the_newest_recommended_rate_is_said_with_its_roi(synthetic):
    rows = synthetic(n_roi=1).gamma(range(3), source="bayes")
    cautions = np.array(["static_not_excluded:1.50", "static_not_excluded:1.30", ""])
    rows = rows.replace(caution=cautions, recommended=np.array([True, True, False]))
    assert view(rows).caution == (
        f"ROI {rows.roi[0]}: static speckle is not excluded: Γ up to 1.30 times as high."
    )
    assert view(rows).points["recommended"].caution.tolist() == cautions[:2].tolist()
    assert view(rows.replace(caution="")).caution == ""


def test_a_table_of_schema_version_1_has_no_cautions(synthetic):
    rows = synthetic().gamma(range(3))
    old = rows.to_pandas().drop(columns="caution")
    again = views.table_from_columns(old)
    assert again.caution.tolist() == [""] * len(rows)
    with pytest.raises(KeyError, match="reason"):
        views.table_from_columns(old.drop(columns="reason"))
