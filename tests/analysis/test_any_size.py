"""The setting `denoiser: any_size`: the band while frames come, the whole C2 at the end."""

import numpy as np
import pytest

from xpcs_live_denoise import RoiMap, Settings, analyse_c2, simulate_speckle
from xpcs_live_denoise.analysis.series import Analysis, open_ensemble
from xpcs_live_denoise.denoising.ensemble import KINDS, load_ensemble
from xpcs_live_denoise.page.c2_node import c2_to_read
from xpcs_live_denoise.window.run_view import view_of_result

ROIS = RoiMap.from_labels(np.repeat([[1], [2]], 24, axis=0).repeat(24, axis=1))
FRAMES = np.concatenate(
    list(simulate_speckle(ROIS, 330, relaxation_rate=0.02, mean_counts=1.0, seed=4))
)


@pytest.fixture(scope="module")
def ensemble():
    return load_ensemble(denoiser="any_size")


def analysis(ensemble, **fields):
    settings = Settings(detector="d", denoiser="any_size", **fields)
    return Analysis(settings, ROIS, frame_time_s=0.1, ensemble=ensemble)


def test_while_frames_come_the_band_is_denoised_and_at_the_end_the_whole_c2(ensemble):
    made = analysis(ensemble)
    made.push(FRAMES[:20])  # no window is complete, and none is needed
    band = made.publish(0).band
    assert band.denoised is not None
    rough, smooth = (np.diff(c2[:, 10:, 1:9], axis=1).std() for c2 in (band.c2, band.denoised))
    assert smooth < 0.4 * rough
    made.push(FRAMES[20:120])
    result = made.finish()
    np.testing.assert_allclose(result.denoised.c2, ensemble.denoise(result.c2)[0], rtol=1e-6)
    far = np.abs(np.subtract.outer(np.arange(120), np.arange(120))) > 60
    assert result.denoised.c2[:, far].std() < 0.5 * result.c2[:, far].std()
    assert result.denoised.spread is result.band.spread is band.spread is None  # one network
    assert result.denoised.reached.all()
    assert {"denoised", "series_denoised"} <= set(result.gamma.source)
    assert "denoised_coarse" not in set(result.gamma.source)
    rows = result.gamma.select(result.gamma.source == "denoised")
    assert not rows.recommended.any()  # a picture, never the number to trust
    assert np.isfinite(result.g2.g2_denoised).all()


@pytest.mark.parametrize("sizes", [[330], [1, 7, 92, 150, 80], [15] * 22])
def test_a_long_series_does_not_depend_on_how_it_was_split(ensemble, sizes):
    def finished(sizes):
        made, rows = analysis(ensemble, map_frames=100), {}
        for block in np.split(FRAMES, np.cumsum(sizes)[:-1]):
            made.push(block)
            band = made.publish(made.n_frames).band
            if band is not None and band.denoised is not None:
                rows |= dict(zip(range(band.start, band.stop), band.denoised[0], strict=True))
        result = made.finish()
        rows |= dict(zip(range(result.band.start, 330), result.band.denoised[0], strict=True))
        return result, np.array([rows[k] for k in range(330)])

    result, band = finished(sizes)
    expected, expected_band = finished([100, 230])
    assert result.frames_per_bin == 4
    np.testing.assert_allclose(band, expected_band, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(result.g2.g2_denoised, expected.g2.g2_denoised, rtol=1e-4)


def test_what_is_missing_stays_missing(ensemble):
    made = analysis(ensemble)
    made.push(FRAMES[:60])
    made.push_gap(3)
    made.push(FRAMES[60:90])
    made.publish(0)
    result = made.finish()
    assert np.isnan(result.denoised.c2[:, 60:63]).all()
    assert np.isfinite(result.denoised.c2[:, 63:, 63:]).all()


def test_a_series_that_is_too_short_says_so(ensemble):
    made = analysis(ensemble)
    made.push(FRAMES[:5])
    result = made.finish()
    assert result.denoised is None
    assert "5 frames, fewer than 8: nothing denoised." in result.status.message


def test_a_c2_alone_is_denoised_by_the_denoiser_of_the_settings():
    c2 = np.random.default_rng(0).normal(1.2, 0.1, (60, 60))
    result = analyse_c2((c2 + c2.T) / 2, settings=Settings(detector="c2", denoiser="any_size"))
    assert result.info.model["kind"] == "any_size"
    assert result.info.settings["denoiser"] == "any_size"
    assert result.denoised.c2[0, :5, 55:].std() < 0.5 * result.c2[0, :5, 55:].std()
    drawn = view_of_result(result, result.info, 0).two_time
    np.testing.assert_allclose(drawn.denoised, result.denoised.c2[0])


@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_the_other_kind_end_no_run_and_are_named(kind):
    (other,) = KINDS.keys() - {kind}
    settings = Settings(detector="d", denoiser=kind, weights=KINDS[other])
    ensemble, why_not = open_ensemble(settings)
    assert ensemble is None
    assert f"its weights are for the denoiser '{other}'" in why_not
    assert f"Set `denoiser: {other}`" in why_not


def test_windows_are_the_default():
    assert open_ensemble(Settings(detector="d"))[0].info["window"] == 50


@pytest.mark.parametrize(("any_size", "squares"), [(True, ["c2_denoised"]), (False, [])])
def test_the_page_reads_the_whole_denoised_c2_where_it_is_more_than_the_band(any_size, squares):
    children = ("c2", "c2_band", "c2_band_denoised", "c2_denoised")
    names = ("c2", "c2_band", "c2_band_denoised")
    read = c2_to_read(children, names, live=False, any_size=any_size)
    assert read == ["c2", "c2_band_denoised", *squares]
    assert c2_to_read(children[:3], names, live=True, any_size=True) == list(names)
