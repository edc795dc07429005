"""Which rows of a gamma table are shown when better ones are there."""

import pandas as pd

from xpcs_live_denoise.readers.client import without_superseded


def table(*rows):
    return pd.DataFrame(rows, columns=["roi", "age_frame", "source", "width", "final"])


def kept(*rows):
    return [tuple(row) for row in without_superseded(table(*rows)).itertuples(index=False)]


def test_a_final_row_replaces_provisional_ones_of_another_width():
    final = (1, 5.0, "bayes", 25, True)
    assert kept((1, 5.0, "bayes", 15, False), final, (1, 5.0, "bayes", 41, False)) == [final]


def test_a_row_of_the_estimator_replaces_the_early_one_even_while_provisional():
    late = (1, 5.0, "bayes", 25, False)
    assert kept((1, 5.0, "bayes_early", 25, False), late) == [late]


def test_other_ages_rois_and_sources_stay():
    rows = [
        (1, 5.0, "bayes", 25, True),
        (1, 6.0, "bayes_early", 25, False),
        (2, 5.0, "bayes", 15, False),
        (1, 5.0, "denoised", 1, False),
        (1, float("nan"), "series_raw", 90, True),
    ]
    assert len(kept(*rows)) == len(rows)


def test_several_widths_of_one_age_that_are_all_final_stay():
    rows = [(1, 5.0, "raw", 1, True), (1, 5.0, "raw", 9, True)]
    assert kept(*rows) == rows


def test_an_empty_table_stays_empty():
    assert kept() == []
