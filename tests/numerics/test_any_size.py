"""A band that is denoised while it grows ends as if it had come at once."""

import numpy as np
import pytest

from xpcs_live_denoise.numerics.any_size import CHUNK, GrowingRows, RowDenoiser, rows_of_maps
from xpcs_live_denoise.numerics.windows import WindowScaling

WINDOW = 6
SCALING = WindowScaling(contrast=np.ones(2), baseline=np.ones(2), window=WINDOW)


class RunningMean:
    """Means over 7 frames, and the number of rows it was given."""

    reach, least_frames = 3, 4

    def denoise_rows(self, rows):
        padded = np.pad(rows, ((0, 0), (3, 3), (0, 0)), mode="edge")
        mean = np.mean([padded[:, k : k + rows.shape[1]] for k in range(7)], axis=0)
        return mean, np.full_like(rows, float(rows.shape[1]))


def grown(band, stops):
    made = GrowingRows(RunningMean(), len(band), WINDOW)
    changed = []
    for stop in stops:
        needs = made.needs
        changed.append(made.advance(band[:, needs:stop], needs, SCALING))
    return made, changed


@pytest.fixture
def band():
    return np.random.default_rng(0).normal(size=(2, 260, WINDOW))


@pytest.mark.parametrize("stops", [[260], [3, 4, 90, 107, 230, 260], [*range(1, 260, 7), 260]])
def test_rows_do_not_depend_on_how_the_series_was_split(band, stops):
    made, _ = grown(band, stops)
    whole, _ = grown(band, [260])
    for quantity in (0, 1):
        np.testing.assert_array_equal(made.rows(band, 0, quantity), whole.rows(band, 0, quantity))
    expected = RunningMean().denoise_rows(band)[0]
    np.testing.assert_allclose(made.rows(band, 0, 0)[:, : 2 * CHUNK], expected[:, : 2 * CHUNK])


def test_final_rows_do_not_change_and_the_first_changed_row_is_told(band):
    made, changed = grown(band, [2, 50, 103, 150])
    assert not GrowingRows(RunningMean(), 2, WINDOW).has_rows
    assert (changed, made.n_final, made.needs) == ([2, 0, 0, CHUNK], CHUNK, CHUNK - 3)
    before = made.rows(band[:, :CHUNK], 0, 0)
    made.advance(band[:, made.needs :], made.needs, SCALING)
    np.testing.assert_array_equal(made.rows(band[:, :CHUNK], 0, 0), before)


def test_what_is_released_is_forgotten_and_the_rest_stays(band):
    made, _ = grown(band, [200])
    kept = made.rows(band[:, 60:200], 60, 0)
    made.release(60)
    assert made.start == 60
    np.testing.assert_array_equal(made.rows(band[:, 60:200], 60, 0), kept)
    made.release(190)  # not final yet
    assert made.start == made.n_final == CHUNK


def test_frames_that_have_not_come_and_gaps_stay_as_they_are(band):
    band[:, 40:42] = np.nan
    made, _ = grown(band, [80])
    rows = made.rows(band[:, :100], 0, 0)
    np.testing.assert_array_equal(rows[:, 80:], band[:, 80:100])
    assert np.isnan(rows[:, 40:42]).all()


def test_a_denoiser_of_windows_is_none_of_rows():
    class Windows:
        def denoise(self, windows):
            return windows, windows

    assert isinstance(RunningMean(), RowDenoiser)
    assert not isinstance(Windows(), RowDenoiser)


def test_rows_of_a_map_are_its_lower_triangle_by_lag():
    c2 = np.arange(9.0).reshape(1, 3, 3)
    rows = rows_of_maps((c2 + c2.swapaxes(1, 2)) / 2)
    np.testing.assert_array_equal(rows[0, 2], [8, 6, 4])
    assert np.isnan(rows[0, 0, 1:]).all()
