"""What the tests of LiveDenoise share: a RunEngine, a fake denoiser, runs made by hand."""

import uuid

import event_model
import numpy as np
import pytest
from bluesky.run_engine import RunEngine

from xpcs_live_denoise import LiveDenoise, RoiMap, Settings, analyse
from xpcs_live_denoise.numerics.mean_image import compile_kernels
from xpcs_live_denoise.sinks.memory import MemorySink

compile_kernels()  # before anything waits for it: a second, once a machine

SHAPE = (30, 40)
LABELS = np.zeros(SHAPE, int)
LABELS[2:14] = 1
LABELS[15:28] = 2
ROIS = RoiMap.from_labels(LABELS)


def series(n, seed=0):
    """Poisson frames of a field that forgets itself by a tenth a frame."""
    rng = np.random.default_rng(seed)
    field, frames = rng.normal(size=(2, *SHAPE)), np.empty((n, *SHAPE), np.uint16)
    for frame in frames:
        frame[:] = rng.poisson(3 * (field**2).sum(0))
        field = 0.9 * field + np.sqrt(1 - 0.81) * rng.normal(size=(2, *SHAPE))
    return frames


class Fake:
    """A denoiser that gives back what it got: the windows and the blending stay visible."""

    def __init__(self):
        self.info = {"name": "fake"}

    def denoise(self, windows):
        return windows, np.full_like(windows, 0.1)


FAKE = Fake()


@pytest.fixture
def engine():
    return RunEngine({}, context_managers=[])


@pytest.fixture
def subscribe(engine):
    """Return a function that subscribes a LiveDenoise and returns it with its memory sinks."""
    made = []

    def subscribe(*, rois=ROIS, roi_files=None, ensemble=FAKE, device=None, timings=None, **fields):
        sinks = []

        def sink(info):
            sinks.append(MemorySink(info))
            return sinks[-1]

        options = {"detector": "cam", "publish_period_s": 0.02, "rois": roi_files, **fields}
        live = LiveDenoise(
            Settings(**options),
            rois=rois,
            sinks=[sink],
            device=device,
            ensemble=ensemble,
            timings=timings,
        )
        engine.subscribe(live)
        made.append(live)
        return live, sinks

    yield subscribe
    for live in made:
        assert live.close(10)


def offline(frames, **fields):
    options = {"detector": "cam", "frame_time_s": 0.01, **fields}
    return analyse(frames, Settings(**options), rois=ROIS, ensemble=Fake())


def assert_same_result(result, expected):
    np.testing.assert_allclose(result.c2, expected.c2, rtol=1e-5)
    np.testing.assert_allclose(result.denoised.c2, expected.denoised.c2, rtol=1e-5)
    # Per frame: how far apart the frames of a plan are depends on the machine.
    per_frame = [one.gamma.relaxation_rate * one.g2.delay_s[0] for one in (result, expected)]
    np.testing.assert_allclose(*per_frame, rtol=1e-3)


def composed_run(live, shape=SHAPE, **start):
    """Send start and descriptor of a run; return what sends its events and its stop."""
    run = event_model.compose_run(uid=str(uuid.uuid4()), metadata=start)
    key = {"source": "test", "dtype": "array", "shape": list(shape)}
    stream = run.compose_descriptor(name="primary", data_keys={"cam_image": key})
    live("start", run.start_doc)
    live("descriptor", stream.descriptor_doc)

    def send(value):
        live(
            "event", stream.compose_event(data={"cam_image": value}, timestamps={"cam_image": 0.0})
        )

    return run.start_doc["uid"], send, lambda: live("stop", run.compose_stop())
