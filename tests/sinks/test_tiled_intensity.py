"""The streams `intensity` and `saxs` of a derived run, written and read back."""

import dataclasses

import numpy as np
import pytest

from xpcs_live_denoise import results
from xpcs_live_denoise.errors import ResultNotFoundError
from xpcs_live_denoise.records.results import Picture, Saxs
from xpcs_live_denoise.records.run import RunEnd, Status
from xpcs_live_denoise.sinks.run import TiledSink

END = RunEnd(raw_exit_status="success", analysis_exit_status="success", reason="", status=Status())


def picture(n_rings=5, *, q_known=True):
    radius = np.arange(float(n_rings))
    saxs = Saxs(
        radius_px=radius,
        q_inv_angstrom=radius * (1e-3 if q_known else np.nan),
        mean=np.where(radius == 1, np.nan, 9.0 - radius),
        n_pixels=np.arange(n_rings),
    )
    image = np.ones((4, 5), np.float32)
    return Picture(mean=image, labels=np.ones((4, 5), np.int32), binning=1, n_frames=3, saxs=saxs)


def test_i_of_t_grows_with_the_frames_and_ends_with_them(tiled_client, synthetic):
    run = synthetic(phi_deg=(10.0, 20.0))
    run.roi_mean[7] = np.nan  # a frame that is missing
    sink = TiledSink(run.info, client=tiled_client)
    sink.write(run.publication(0, 20))
    live = results(tiled_client, run.raw_uid)
    np.testing.assert_array_equal(live.intensity()["roi_mean"], run.roi_mean[:20])
    sink.write(run.publication(20, 45))
    assert live.intensity().sizes == {"t_s": 45, "roi": 2}
    sink.write(run.result())
    sink.finish(END)
    ended = results(tiled_client, run.raw_uid)
    counted = ended.intensity()
    np.testing.assert_array_equal(counted["roi_mean"], run.roi_mean)
    np.testing.assert_array_equal(counted["total"], run.intensity(0, 60).total)
    assert counted["t_s"].values[-1] == 59 * 0.5
    assert counted["phi_deg"].values.tolist() == [10, 20]
    assert ended.validate(fix_errors=False, raise_on_error=True)
    plain = ended["intensity"].read()  # without this package
    assert plain["roi_mean"].dims == ("t_s", "roi")
    np.testing.assert_array_equal(plain["total"].sel(t_s=20.0), run.intensity(40, 41).total[0])
    # What a pixel has counted in all frames, exactly.
    dose = np.nansum(run.roi_mean, axis=0, dtype=float)
    np.testing.assert_allclose(ended.metadata["stop"]["xpcs"]["dose"], dose)


def test_frames_that_arrived_are_not_sent_again(tiled_client, synthetic, monkeypatch):
    from xpcs_live_denoise.sinks.nodes import TiledArray

    run, sent = synthetic(), []
    patch = TiledArray.patch

    def counting(self, values, offset):
        if list(self.lengths) == ["t_s", "roi"]:
            sent.append((offset[0], len(values)))
        patch(self, values, offset)

    sink = TiledSink(run.info, client=tiled_client)
    sink.write(run.publication(0, 30))
    monkeypatch.setattr(TiledArray, "patch", counting)
    changed = run.roi_mean.copy()
    changed[10] += 1
    run.roi_mean = changed
    sink.write(run.publication(0, 0, c2=None, band=None, intensity=run.intensity(0, 40)))
    assert set(sent) == {(10, 30)}
    sent.clear()
    sink.write(run.result())
    assert (0, 60) not in sent
    assert (40, 20) in sent


@pytest.mark.parametrize("q_known", [True, False])
def test_i_of_q_is_along_q_or_the_radius_and_may_get_finer_rings(tiled_client, synthetic, q_known):
    run = synthetic()
    sink = TiledSink(run.info, client=tiled_client, picture_period_s=0.0)
    sink.write(run.publication(0, 10, picture=picture(3, q_known=q_known)))
    result = results(tiled_client, run.raw_uid)
    along = "q" if q_known else "radius"
    assert result.intensity()["saxs"].sizes == {along: 3}
    final = picture(q_known=q_known)
    sink.write(dataclasses.replace(run.result(), picture=final))
    sink.finish(END)
    found = results(tiled_client, run.raw_uid).intensity()
    assert found["saxs"].dims == (along,)
    np.testing.assert_array_equal(found["saxs"], final.saxs.mean)
    np.testing.assert_array_equal(found["q"], final.saxs.q_inv_angstrom)
    np.testing.assert_array_equal(found["radius"], final.saxs.radius_px)
    np.testing.assert_array_equal(found["n_pixels"], final.saxs.n_pixels)
    stream = results(tiled_client, run.raw_uid)["saxs"].read()
    assert set(stream.indexes) == {"radius"}
    assert results(tiled_client, run.raw_uid).validate(fix_errors=False, raise_on_error=True)


def test_a_result_without_i_of_t_says_how_to_get_it(tiled_client, synthetic):
    run = synthetic()
    sink = TiledSink(run.info, client=tiled_client)
    sink.write(dataclasses.replace(run.result(), intensity=None))
    sink.finish(END)
    with pytest.raises(
        ResultNotFoundError, match=r"no I\(t\); expected the stream `intensity`.*replay"
    ):
        results(tiled_client, run.raw_uid).intensity()
