"""Frames of a detector with two thresholds, wherever they come from: the setting chooses one."""

import contextlib
import uuid

import event_model
import h5py
import numpy as np
import pytest

from tests.support.file_roots import ANYWHERE
from xpcs_live_denoise.errors import UnreadableFramesError
from xpcs_live_denoise.records.frames import MissingFrames
from xpcs_live_denoise.sources.documents import RunDocuments
from xpcs_live_denoise.sources.frames import FrameReader, read_tiled
from xpcs_live_denoise.sources.handlers import AssetReader
from xpcs_live_denoise.sources.hdf5 import ThresholdChoice

# 6 events of two thresholds each: (event, threshold, rows, cols)
FRAMES = np.random.default_rng(3).poisson(3.0, (6, 2, 4, 5)).astype(np.uint16)
KEY = "cam_image"
SHAPES = pytest.mark.parametrize("stored", [FRAMES, FRAMES.reshape(12, 4, 5)], ids=["4d", "flat"])
BYTES = pytest.mark.parametrize("most_bytes", [1, 100, 10**6])


class Run:
    """The references to the frames of one run, composed with event_model."""

    def __init__(self, threshold, *, shape=(2, 4, 5), external=None, num_images=None):
        run = event_model.compose_run(uid=str(uuid.uuid4()))
        self.documents = RunDocuments(
            run.start_doc, detector="cam", data_key=KEY, threshold=threshold
        )
        key = {"source": "test", "dtype": "array", "shape": list(shape)}
        if external:
            key["external"] = external
        configured = {"data": {}, "timestamps": {}, "data_keys": {}}
        if num_images:
            configured["data"]["cam_cam_num_images"] = num_images
        self.run = run
        self.stream = run.compose_descriptor(
            name="primary", data_keys={KEY: key}, configuration={"cam": configured}, validate=False
        )
        self.documents.receive("descriptor", self.stream.descriptor_doc)

    def events(self, values):
        found = []
        for value in values:
            doc = self.stream.compose_event(
                data={KEY: value}, timestamps={KEY: 0.0}, validate=False
            )
            found += self.documents.receive("event", doc)
        return found

    def streamed(self, uri, mimetype="application/x-hdf5", **parameters):
        resource = self.run.compose_stream_resource(
            mimetype=mimetype, uri=uri, data_key=KEY, parameters={"dataset": "d", **parameters}
        )
        self.documents.receive("stream_resource", resource.stream_resource_doc)
        found = []
        for start, stop in ((0, 2), (2, 6)):
            doc = resource.compose_stream_datum(
                {"start": start, "stop": stop}, descriptor=self.stream.descriptor_doc
            )
            found += self.documents.receive("stream_datum", doc)
        return found

    def assets(self):
        resource = self.run.compose_resource(
            spec="ANY", root="/", resource_path="a", resource_kwargs={}
        )
        self.documents.receive("resource", resource.resource_doc)
        datums = [resource.compose_datum(datum_kwargs={"point": n}) for n in range(6)]
        for datum in datums:
            self.documents.receive("datum", datum)
        return self.events([datum["datum_id"] for datum in datums])


def read(references, threshold, most_bytes=10**6, **options):
    options = {"roots": ANYWHERE, "timeout_s": 0.05, "threshold": threshold, **options}
    with contextlib.closing(FrameReader(**options)) as reader:
        blocks = [block for one in references for block in reader.read(one, most_bytes)]
    assert sum(one.n_frames for one in references) == sum(map(len, blocks))
    return np.concatenate(blocks)


@pytest.mark.parametrize("threshold", [1, 2])
@pytest.mark.parametrize("shape", [(2, 4, 5), (4, 5), (None, None)])
def test_of_frames_inside_events_the_chosen_threshold_is_taken(threshold, shape):
    found = Run(threshold, shape=shape).events(list(FRAMES))
    np.testing.assert_array_equal(read(found, threshold), FRAMES[:, threshold - 1])


def test_an_event_may_hold_several_frames_of_two_thresholds_each():
    found = Run(2, shape=(3, 2, 4, 5)).events([FRAMES[:3].tolist(), FRAMES[3:].tolist()])
    assert [one.n_frames for one in found] == [3, 3]
    np.testing.assert_array_equal(read(found, 2), FRAMES[:, 1])


@SHAPES
@BYTES
@pytest.mark.parametrize("swmr", [True, False])
def test_of_streamed_files_the_chosen_threshold_is_read(tmp_path, stored, most_bytes, swmr):
    with h5py.File(tmp_path / "a.h5", "w", libver="latest") as file:
        file.create_dataset("d", data=stored, chunks=(2, *stored.shape[1:]))
    run = Run(2, external="STREAM:")
    found = run.streamed(f"file://localhost{tmp_path}/a.h5", swmr=swmr)
    np.testing.assert_array_equal(read(found, 2, most_bytes), FRAMES[:, 1])


@SHAPES
@BYTES
def test_of_arrays_in_tiled_the_chosen_threshold_is_read(stored, most_bytes):
    client = {("raw", "image"): stored}

    def tiled(wanted, n_bytes):
        return read_tiled(client, wanted, n_bytes, timeout_s=0.0)

    run = Run(2, external="TILED:")
    found = run.streamed("tiled:raw/image", "application/x-tiled-array")
    np.testing.assert_array_equal(read(found, 2, most_bytes, tiled=tiled), FRAMES[:, 1])


@pytest.mark.parametrize("shape", [(2, 4, 5), (1, 2, 4, 5)])
def test_of_what_a_handler_gives_the_chosen_threshold_is_taken(shape):
    found = Run(2, external="FILESTORE:").assets()
    reader = AssetReader(
        timeout_s=0.0,
        roots=ANYWHERE,
        find_handler=lambda spec: lambda path: lambda point: FRAMES[point].reshape(shape),
        threshold=ThresholdChoice(2),
    )
    frames = np.concatenate([block for one in found for block in reader.read(one, 10**6)])
    np.testing.assert_array_equal(frames, FRAMES[:, 1])


def test_a_handlers_first_threshold_is_read_and_told_where_nobody_chose():
    found = Run(None, shape=(4, 5), external="FILESTORE:").assets()
    choice = ThresholdChoice()
    reader = AssetReader(
        timeout_s=0.0,
        roots=ANYWHERE,
        find_handler=lambda spec: lambda path: lambda point: FRAMES[point][np.newaxis],
        threshold=choice,
    )
    frames = np.concatenate([block for one in found for block in reader.read(one, 10**6)])
    np.testing.assert_array_equal(frames, FRAMES[:, 0])
    assert "The frames have 2 thresholds: the first is analysed. Set `threshold`" in choice.notes[0]


@pytest.mark.parametrize(
    ("threshold", "options"),
    [(None, {}), (1, {"num_images": 2}), (1, {"shape": (12, 4, 5)}), (None, {"shape": (4, 5)})],
)
def test_the_axis_is_one_of_frames_without_the_setting_or_where_documents_say_so(
    threshold, options
):
    values = FRAMES if options.get("shape", (0,))[0] != 12 else FRAMES.reshape(1, 12, 4, 5)
    found = Run(threshold, **options).events(list(values))
    np.testing.assert_array_equal(read(found, threshold), FRAMES.reshape(12, 4, 5))


def test_a_resource_that_tells_of_two_frames_an_index_has_no_thresholds(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["d"] = FRAMES.reshape(12, 4, 5)
    run = Run(1, external="STREAM:")
    found = run.streamed(f"file://localhost{tmp_path}/a.h5", swmr=False, multiplier=2)
    np.testing.assert_array_equal(read(found, 1), FRAMES.reshape(12, 4, 5))


def test_a_threshold_that_is_not_there_is_told_with_those_that_are():
    (found, *_) = Run(3).events(list(FRAMES))
    assert isinstance(found, MissingFrames)
    assert found.n_frames == 1
    assert "2 thresholds and threshold: 3; expected the setting `threshold`, 1 to 2" in found.reason
    found = Run(3, external="TILED:").streamed("tiled:raw/image", "application/x-tiled-array")
    with pytest.raises(UnreadableFramesError, match="threshold: 3; expected the setting"):
        read(found, 3, tiled=lambda wanted, n_bytes: iter(()))
