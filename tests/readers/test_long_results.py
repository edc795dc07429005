"""Results of series that are longer than their map has bins, and results of before the band."""

import numpy as np
import pytest

from tests.support import written
from xpcs_live_denoise.commands.replay import compare
from xpcs_live_denoise.errors import InvalidInputError, ResultNotFoundError
from xpcs_live_denoise.readers import results, two_time
from xpcs_live_denoise.records.results import GammaTable
from xpcs_live_denoise.sinks.run import TiledSink


@pytest.fixture(scope="module")
def long(module_client, synthetic):
    """A finished run of 330 frames, whose map has 83 bins of 4."""
    run = synthetic(n_frames=330, map_frames=100)
    path = run.gamma(range(330), source="path", final=True, rate=0.1)
    path = path.replace(alpha=1.0, beta=0.2, baseline=1.0)
    result = run.result()
    gamma = GammaTable.concatenate([result.gamma, path])
    run.result = lambda: type(result)(
        **{name: getattr(result, name) for name in result.__slots__} | {"gamma": gamma}
    )
    sink = TiledSink(run.info, client=module_client)
    for start in range(0, 330, 110):
        written.publish(sink, run.publication(start, start + 110))
    written.end(sink, run.result())
    return run, results(module_client, run.raw_uid)


def test_the_map_of_a_long_series_says_how_many_frames_a_bin_averages(long):
    run, result = long
    c2 = result.c2(2)
    np.testing.assert_array_equal(c2.values, run.map(330)[0][1])
    assert c2.name == "c2"
    assert c2.attrs["frames_per_bin"] == 4
    assert "band() has each frame" in c2.attrs["note"]
    np.testing.assert_allclose(c2["t1_s"][[0, 1, -1]], [0.75, 2.75, 164.25])


@pytest.mark.parametrize(
    ("ask", "field"),
    [({"denoised": False}, "c2"), ({}, "denoised"), ({"spread": True}, "spread")],
)
def test_the_band_has_every_frame_at_short_lags_with_coordinates(long, ask, field):
    run, result = long
    whole = getattr(run.band(0, 330), field)
    band = result.band(**ask)
    assert band.dims == ("roi", "t_s", "lag_s")
    np.testing.assert_array_equal(band.values, whole)
    at = {"roi": 1, "t_s": 100.0, "lag_s": 2.5}
    assert band.sel(at).item() == whole[0, 200, 5]
    part = result.band(2, start=100, stop=-200, **ask)
    assert part.dims == ("t_s", "lag_s")
    np.testing.assert_array_equal(part.values, whole[1, 100:130])
    np.testing.assert_allclose(part["t_s"][[0, -1]], [50.0, 64.5])
    assert result.band(2, start=330, **ask).shape == (0, 50)
    with pytest.raises(InvalidInputError, match="ROI 5"):
        result.band(5)


def test_only_the_rows_of_the_band_that_are_asked_for_are_read(long, module_client):
    run, _ = long
    result = results(module_client, run.raw_uid)
    answers = []
    hooks = module_client.context.http_client.event_hooks["response"]
    hooks.append(lambda answer: answers.append(answer.request.url.params.get("expected_shape")))
    result.band(1, start=200, stop=220)
    result.c2(1)
    hooks.pop()
    shapes = [shape for shape in answers if shape is not None]
    assert shapes == ["20,50", "83,83"]


def test_the_model_of_a_long_series_has_the_bins_of_its_map(long):
    _, result = long
    found = result.c2_model(1)
    assert found["model"].shape == (83, 83)
    np.testing.assert_array_equal(found["residual"]["t1_s"], result.c2(1)["t1_s"])
    # 0.1 1/s, 0.5 s a frame: the mean of the curve over bins of 4 frames, lags around 40 frames.
    lags = 40 + np.subtract.outer(np.arange(4), np.arange(4))
    exact = (1 + 0.2 * np.exp(-0.1 * lags)).mean()
    np.testing.assert_allclose(found["model"].values[50, 60], exact, rtol=1e-4)
    assert np.isfinite(found["residual"].values[50, 60])


def test_a_long_series_is_drawn_as_a_map_and_a_strip_of_short_lags(long):
    import matplotlib

    matplotlib.use("Agg")
    _, result = long
    titles = [axes.get_title(loc="left") for axes in result.plot(1).axes]
    assert "Short lags, denoised" in titles
    assert result.plot(1, model=True) is not None


def test_a_long_result_is_compared_by_map_and_band(long, module_client, synthetic):
    _, result = long
    other = synthetic(n_frames=330, map_frames=100)
    other.c2[0, 200, 199] += 0.5
    other.c2[0, 199, 200] += 0.5
    sink = TiledSink(other.info, client=module_client)
    written.publish(sink, other.publication(0, 330))
    written.end(sink, other.result())
    found = compare(results(module_client, other.raw_uid), result)
    assert found["n_compared"] == 330
    assert found["c2_difference"] == pytest.approx(0.5, rel=1e-5)
    assert found["n_one_sided"] == 0


class Node:
    """An array whose metadata change as it is read."""

    path_parts = ("processed", "uid", "two_time", "c2")

    def __init__(self, values, versions):
        self.values, self.versions, self.n_read = values, list(versions), 0

    @property
    def metadata(self):
        return {"version": self.versions.pop(0), "frames_per_bin": 2}

    @property
    def shape(self):
        return self.values.shape

    def __getitem__(self, at):
        self.n_read += 1
        return self.values[at]


def test_a_map_that_gets_other_bins_while_it_is_read_is_read_again(monkeypatch):
    monkeypatch.setattr(two_time, "PAUSE_S", 0.0)
    values = np.ones((1, 4, 4))
    # (version, bins, version) at each look: rewritten between the two, then under way, then whole.
    node = Node(values, [0, 0, 2, 3, 4, 4, 4])
    c2, frames_per_bin = two_time.read_map({"c2": node}, 0, 7)
    assert (c2.shape, frames_per_bin, node.n_read) == ((4, 4), 2, 2)


def test_a_map_that_never_stands_still_is_an_error_that_says_what_to_do(monkeypatch):
    monkeypatch.setattr(two_time, "PAUSE_S", 0.0)
    with pytest.raises(
        ResultNotFoundError, match=r"processed/uid/two_time/c2: got other bins .*band"
    ):
        two_time.read_map({"c2": Node(np.ones((1, 4, 4)), [1] * 100)}, 0, 7)


def test_results_of_before_the_band_are_read_from_their_squares(module_client, synthetic):
    run = synthetic()
    sink = TiledSink(run.info, client=module_client)
    written.end(sink, run.result())
    stream = module_client["processed", sink.uid, "two_time"].base
    for name in ("c2_band", "c2_band_denoised", "c2_band_spread"):
        stream.delete_contents(name, external_only=False)
    result = results(module_client, run.raw_uid)
    np.testing.assert_array_equal(result.c2(), run.denoised)
    for ask, field in (({"denoised": False}, "c2"), ({}, "denoised"), ({"spread": True}, "spread")):
        whole = getattr(run.band(0, 60), field)
        np.testing.assert_array_equal(result.band(**ask), whole)
        np.testing.assert_array_equal(result.band(2, start=55, **ask), whole[1, 55:])
    assert "Denoised C2" in [axes.get_title(loc="left") for axes in result.plot(1).axes]
