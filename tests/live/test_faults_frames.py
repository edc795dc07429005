"""LiveDenoise: frames that hold something else than the sample's speckle."""

import numpy as np
import pytest

from tests.support.live_runs import (  # noqa: F401
    ROIS,
    SHAPE,
    composed_run,
    engine,
    offline,
    series,
    subscribe,
)
from xpcs_live_denoise import TwoTimeAccumulator
from xpcs_live_denoise.records.results import BandRows

FRAMES = series(90, seed=5)
STRANGER = series(1, seed=6)[0]


def beam_dump(frames):
    frames[40:45] = 0


def no_beam_at_first(frames):
    frames[:5] = 0


def written_twice(frames):
    frames[40] = frames[39]


def frozen_detector(frames):
    frames[80:] = frames[79]


def cosmic_hit(frames):
    frames[40, 5, 7] = 3000


def stray_burst(frames):
    frames[40] = frames[40] * 20 + 30


def stray_frame(frames):
    frames[40] = STRANGER


def dead_readout(frames):
    frames[40, :20] = 65535


GAPS = {
    beam_dump: (range(40, 45), "no counts (beam dump)"),
    no_beam_at_first: (range(5), "no counts before the first light"),
    written_twice: ([40], "the same as the frame before"),
    frozen_detector: (range(80, 90), "the same as the frame before"),
    cosmic_hit: ([40], "single pixels far above all others"),
    stray_burst: ([40], "intensity far above its level"),
    stray_frame: ([40], "unlike both neighbours"),
    dead_readout: ([40], "too many bad pixels"),
}


def live_result(subscribe, frames, per_event=1, **fields):
    live, sinks = subscribe(**fields)
    _, send, stop = composed_run(live, shape=[per_event, *SHAPE], **{"acquire period": 0.01})
    for start in range(0, len(frames), per_event):
        send(frames[start : start + per_event])
    stop()
    assert live.wait(60)
    (sink,) = sinks
    assert sink.end.analysis_exit_status == "success"
    return sink.result, sink.end


@pytest.mark.parametrize("per_event", [1, 45])
@pytest.mark.parametrize("fault", GAPS)
def test_frames_that_do_not_belong_become_gaps_live_and_offline(
    subscribe,
    fault,
    per_event,
):
    bad, reason = GAPS[fault]
    frames = FRAMES.copy()
    fault(frames)
    result, end = live_result(subscribe, frames, per_event)
    expected = np.zeros(90, bool)
    expected[list(bad)] = True
    for one in (result, offline(frames)):
        np.testing.assert_array_equal(np.isnan(one.c2).all(axis=(0, 2)), expected)
        assert one.status.skipped == ((bad[0], bad[-1] + 1),)
        assert (one.status.n_seen, one.status.n_processed) == (90, 90 - len(bad))
        assert reason in one.status.message
    assert "could not be had" not in end.reason
    kept = np.flatnonzero(~expected)
    clean = offline(FRAMES).c2[:, kept][:, :, kept]
    np.testing.assert_allclose(result.c2[:, kept][:, :, kept], clean, rtol=1e-5)


def test_a_jump_in_exposure_leaves_c2_as_it_is(subscribe):
    frames = FRAMES.copy()
    frames[45:] *= 2
    result, _ = live_result(subscribe, frames)
    assert result.status.n_skipped == 0
    np.testing.assert_allclose(result.c2, offline(FRAMES).c2, rtol=1e-5)


def test_an_attenuator_that_went_out_costs_nine_frames_and_a_note(subscribe):
    frames = FRAMES.copy()
    frames[45:] *= 10
    result, _ = live_result(subscribe, frames)
    assert result.status.skipped == ((45, 54),)
    assert "went to a new level 1 time;" in result.status.message


@pytest.mark.parametrize(("dtype", "bad"), [("u2", 65535), ("u4", 2**32 - 1), ("i4", -1)])
def test_dead_pixels_are_left_out_of_the_whole_run(subscribe, dtype, bad):
    frames = FRAMES.astype(dtype)
    frames[:, 5, 10:20] = bad
    result, _ = live_result(subscribe, frames)
    mask = np.ones(SHAPE, bool)
    mask[5, 10:20] = False
    assert result.status.n_skipped == 0
    assert "10 pixels of the ROIs are bad" in result.status.message
    masked = ROIS.with_mask(mask)
    assert masked.n_pixels.tolist() == [470, 520]
    from xpcs_live_denoise import Settings, analyse

    expected = analyse(FRAMES, Settings(detector="cam", denoise=False), rois=masked)
    np.testing.assert_allclose(result.c2, expected.c2, rtol=1e-4)


def test_a_detector_that_delivers_only_its_bad_value_ends_with_an_error(subscribe):
    live, sinks = subscribe()
    _, send, stop = composed_run(live)
    for frame in FRAMES[:20]:
        send(np.where(np.arange(30)[:, np.newaxis] < 14, frame, 65535).astype(np.uint16))
    stop()
    assert live.wait(30)
    assert sinks[0].end.analysis_exit_status == "fail"
    assert "ROI 2: got 0 good pixels of 520" in sinks[0].end.reason


def test_a_run_of_unusable_frames_ends_as_failed_with_the_reason(subscribe):
    live, sinks = subscribe()
    _, send, stop = composed_run(live)
    for _ in range(10):
        send(np.full(SHAPE, np.nan))
    stop()
    assert live.wait(30)
    end = sinks[0].end
    assert end.analysis_exit_status == "fail"
    assert "None of the 10 frames could be used" in end.reason
    assert "too many bad pixels" in end.reason


def test_a_series_longer_than_its_map_is_published_and_analysed_to_its_end(subscribe):
    live, sinks = subscribe(map_frames=60, publish_period_s=1e-3)
    _, send, stop = composed_run(live, **{"number of images": 37, "acquire period": 0.01})
    for frame in FRAMES:
        send(frame)
    stop()
    assert live.wait(30)
    (sink,) = sinks
    assert (sink.end.analysis_exit_status, sink.end.reason) == ("success", "")
    result = sink.result
    assert (result.frames_per_bin, result.map_values.shape[1], result.band.stop) == (2, 45, 90)
    np.testing.assert_allclose(
        result.map_values, offline(FRAMES, map_frames=60).map_values, rtol=1e-6
    )
    published = [one.band for one in sink.publications if one.band is not None]
    band = BandRows.concatenate([*published, result.band])
    assert (band.start, band.stop) == (0, 90)
    accumulator = TwoTimeAccumulator(ROIS)
    accumulator.append(FRAMES)
    np.testing.assert_allclose(band.c2, accumulator.band, rtol=1e-5)


def test_a_series_longer_than_scikit_beams_engine_takes_ends_with_what_it_took(subscribe):
    live, sinks = subscribe(map_frames=60, engine="skbeam")
    _, send, stop = composed_run(live, **{"number of images": 90, "acquire period": 0.01})
    for frame in FRAMES:
        send(frame)
    stop()
    assert live.wait(30)
    (sink,) = sinks
    np.testing.assert_allclose(sink.result.c2, offline(FRAMES[:60]).c2, rtol=1e-5)
    assert sink.end.analysis_exit_status == "success"
    assert "30 of 90 frames could not be had" in sink.end.reason
    assert "engine 'dense' takes any number" in sink.end.reason


@pytest.mark.parametrize("usable", [True, False])
def test_a_live_run_divides_by_the_flat_field_or_says_why_not(subscribe, tmp_path, usable):
    flat = np.random.default_rng(3).uniform(0.5, 1.5, SHAPE if usable else (4, 4))
    np.save(tmp_path / "flat.npy", flat)
    from xpcs_live_denoise import Settings, analyse

    result, _ = live_result(subscribe, FRAMES, flat_field=tmp_path / "flat.npy")
    assert ("No flat field: " in result.status.message) != usable
    settings = Settings(detector="cam", denoise=False, flat_field=tmp_path / "flat.npy")
    expected = analyse(FRAMES, settings, rois=ROIS)
    np.testing.assert_allclose(result.c2, expected.c2, rtol=1e-4)
