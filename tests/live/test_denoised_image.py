"""A live run with the setting `denoise_image`."""

import numpy as np

from tests.support.live_runs import composed_run, engine, subscribe  # noqa: F401 - fixtures
from xpcs_live_denoise import RoiMap

ROIS = RoiMap.from_labels(np.ones((20, 24), int))


def test_publications_and_the_result_of_a_live_run_have_the_denoised_image(subscribe):
    live, sinks = subscribe(rois=ROIS, denoise_image=True)
    _, send, stop = composed_run(live, shape=(20, 24))
    for frame in np.random.default_rng(0).poisson(1.0, (6, 20, 24)).astype(np.uint16):
        send(frame)
    stop()
    assert live.wait(60)
    picture = sinks[0].result.picture
    assert picture.denoised.shape == picture.mean.shape == (20, 24)
    assert picture.denoised.std() < 0.5 * picture.mean.std()
