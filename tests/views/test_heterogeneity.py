"""The panel of the heterogeneity: its points, its range, its words."""

import dataclasses

import numpy as np
import pytest

from xpcs_live_denoise import views
from xpcs_live_denoise.records.run import RoiHeterogeneity, Status


def test_bins_stand_at_their_delays_with_error_bars_inside_the_range(synthetic):
    status = Status(heterogeneity=synthetic().heterogeneity)
    shown = views.heterogeneity_view(status, 0, 0.5)
    np.testing.assert_allclose(shown.delay_s, [1.0, 1.75, 3.0])
    np.testing.assert_allclose(shown.upper - shown.chi, [0.02, 0.05, 0.1])
    np.testing.assert_allclose(shown.chi - shown.lower, [0.02, 0.05, 0.1])
    assert shown.low < -0.15
    assert 0.35 < shown.high < 0.5


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, "ln Γ fluctuates by 0.55 ± 0.08"),
        ({"found": False}, "no fluctuation found (0.55 ± 0.08)"),
        ({"found": False, "upper_bound": True}, "ln Γ fluctuates by at most 0.55 ± 0.08"),
        ({"spread": float("nan")}, "not known yet"),
    ],
)
def test_the_words_say_how_much_and_whether_it_is_significant(synthetic, change, words):
    one = dataclasses.replace(synthetic().heterogeneity[0], **change)
    assert views.heterogeneity_view(Status(heterogeneity=(one,)), 0, 1.0).words == words


@pytest.mark.parametrize("status", [None, Status(), Status(heterogeneity=(RoiHeterogeneity(),))])
def test_where_nothing_is_known_there_is_an_empty_panel_around_zero(status):
    shown = views.heterogeneity_view(status, 0, 1.0)
    assert not len(shown.chi)
    assert shown.low < 0 < shown.high
    assert shown.words == "not known yet"
