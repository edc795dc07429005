"""RunDocuments: the documents of one run become references to frames."""

from __future__ import annotations

from typing import Any

import event_model
import numpy as np
import pytest

from xpcs_live_denoise.errors import InvalidInputError, UnreadableFramesError
from xpcs_live_denoise.records import HDF5Frames, InlineFrames
from xpcs_live_denoise.sources.documents import RunDocuments
from xpcs_live_denoise.sources.frames import FrameReader
from xpcs_live_denoise.sources.stream_resources import UnreadableFrames

KEY = "eiger_image"


def image_key(shape: Any = (4, 6), **more: Any) -> dict[str, Any]:
    return {"source": "SIM", "dtype": "array", "shape": list(shape), **more}


class Run:
    """Composes the documents of a run and passes them through a RunRouter to a RunDocuments."""

    def __init__(self, **metadata: Any) -> None:
        self.bundle = event_model.compose_run(metadata=metadata)
        self.documents = RunDocuments(self.bundle.start_doc, detector="eiger", data_key=KEY)
        self.references: list[Any] = []
        self.router = event_model.RunRouter([lambda name, start: ([self._receive], [])])
        self.router("start", self.bundle.start_doc)

    def _receive(self, name: str, doc: Any) -> None:
        self.references.extend(self.documents.receive(name, doc))

    def describe(self, *, name: str = "primary", configuration: Any = None, **keys: Any) -> Any:
        stream = self.bundle.compose_descriptor(
            name=name, data_keys=keys, configuration=configuration or {}
        )
        self.router("descriptor", stream.descriptor_doc)
        return stream

    def event(self, stream: Any, value: Any, key: str = KEY) -> None:
        self.router("event", stream.compose_event(data={key: value}, timestamps={key: 0.0}))

    def resource(self, *, key: str = KEY, uri: str = "file://localhost/data/a.h5", **parameters):
        mimetype = parameters.pop("mimetype", "application/x-hdf5")
        bundle = self.bundle.compose_stream_resource(
            mimetype=mimetype,
            uri=uri,
            data_key=key,
            parameters={"dataset": "/entry/data/data", **parameters},
        )
        self.router("stream_resource", bundle.stream_resource_doc)
        return bundle

    def datum(self, resource: Any, stream: Any, start: int, stop: int) -> None:
        doc = resource.compose_stream_datum(
            indices={"start": start, "stop": stop},
            seq_nums={"start": start + 1, "stop": stop + 1},
            descriptor=stream.descriptor_doc,
        )
        self.router("stream_datum", doc)


# --- frames inline ----------------------------------------------------------------------------


@pytest.mark.parametrize("as_list", [False, True], ids=["array", "list"])
@pytest.mark.parametrize("shape", [(4, 6), (3, 4, 6)], ids=["one frame", "three frames"])
def test_an_event_gives_its_frames(shape, as_list):
    run = Run()
    stream = run.describe(**{KEY: image_key(shape)})
    value = np.arange(np.prod(shape)).reshape(shape)
    run.event(stream, value.tolist() if as_list else value)

    (reference,) = run.references
    np.testing.assert_array_equal(reference.frames, value.reshape(-1, 4, 6))
    assert run.documents.n_frames == len(reference.frames)
    assert run.documents.frame_shape == (4, 6)


def test_an_inline_array_is_shared_not_copied():
    documents = Run().documents
    documents.receive(
        "descriptor", {"uid": "d", "name": "primary", "data_keys": {KEY: image_key()}}
    )
    value = np.ones((4, 6))
    (reference,) = documents.receive("event", {"descriptor": "d", "data": {KEY: value}})
    assert np.shares_memory(reference.frames, value)


def test_the_events_of_a_page_come_in_order():
    run = Run()
    stream = run.describe(**{KEY: image_key()})
    events = [
        stream.compose_event(data={KEY: np.full((4, 6), i)}, timestamps={KEY: 0.0})
        for i in range(5)
    ]
    run.router("event_page", event_model.pack_event_page(*events))
    assert [reference.frames[0, 0, 0] for reference in run.references] == [0, 1, 2, 3, 4]


def test_the_first_frame_overrules_a_descriptor_with_another_shape():
    run = Run()
    stream = run.describe(**{KEY: image_key((6, 4))})
    assert run.documents.frame_shape == (6, 4)
    run.event(stream, np.ones((4, 6)))
    assert run.documents.frame_shape == (4, 6)


def test_other_data_keys_and_other_streams_give_no_frames():
    run = Run()
    primary = run.describe(**{KEY: image_key(), "other_image": image_key((2, 9, 9))})
    dark = run.describe(name="dark", **{KEY: image_key()})
    scalars = run.describe(name="baseline", temperature={**image_key(()), "dtype": "number"})
    run.event(dark, np.ones((4, 6)))
    run.event(scalars, 3.0, key="temperature")
    assert run.references == []

    data = {KEY: np.ones((4, 6)), "other_image": np.ones((2, 9, 9))}
    event = primary.compose_event(data=data, timestamps=dict.fromkeys(data, 0.0))
    run.router("event", event)
    assert [reference.frames.shape for reference in run.references] == [(1, 4, 6)]
    assert run.documents.image_like_keys == (KEY, "other_image")


def test_a_second_descriptor_of_the_same_stream_continues_the_series():
    run = Run()
    first = run.describe(**{KEY: image_key()})
    second = run.describe(**{KEY: image_key()})
    run.event(first, np.zeros((4, 6)))
    run.event(second, np.ones((4, 6)))
    assert len(run.references) == 2
    assert run.documents.image_descriptor == first.descriptor_doc


def test_a_run_without_the_data_key_has_no_images_but_names_what_looks_like_them():
    run = Run()
    run.describe(
        pilatus_image=image_key((1, 9, 9)), temperature=image_key(()), spectrum=image_key([7])
    )
    assert not run.documents.has_images
    assert run.documents.image_descriptor is None
    assert run.documents.frame_shape is None
    assert run.documents.configuration == {}
    assert run.documents.image_like_keys == ("pilatus_image",)


# --- frames in files --------------------------------------------------------------------------


def test_a_stream_gives_the_frames_of_its_file():
    run = Run()
    stream = run.describe(**{KEY: image_key(external="STREAM:")})
    resource = run.resource(uri="file://localhost/data/a%20b/c.h5", swmr=False, dataset="/d")
    run.datum(resource, stream, 0, 10)
    run.datum(resource, stream, 10, 25)
    common = {"path": "/data/a b/c.h5", "dataset": "/d", "swmr": False}
    assert run.references == [
        HDF5Frames(**common, start=0, stop=10),
        HDF5Frames(**common, start=10, stop=25),
    ]
    assert run.documents.n_frames == 25


def test_a_stream_resource_may_come_before_its_descriptor():
    run = Run()
    resource = run.resource()
    stream = run.describe(**{KEY: image_key(external="STREAM:")})
    run.datum(resource, stream, 0, 4)
    assert [(r.start, r.stop, r.swmr) for r in run.references] == [(0, 4, True)]


@pytest.mark.parametrize(
    ("shape", "parameters", "per_index"),
    [
        ((4, 6), {}, 1),
        ((1, 4, 6), {"join_method": "concat"}, 1),
        ((10, 4, 6), {"join_method": "concat"}, 10),
        ((10, 4, 6), {"join_method": "stack"}, 10),
        ((4, 6), {"multiplier": 5}, 5),
        ((5, 4, 6), {"multiplier": 5}, 5),
        ((None, 4, 6), {}, 1),
    ],
)
def test_an_index_counts_as_the_frames_of_the_data_key(shape, parameters, per_index):
    run = Run()
    stream = run.describe(**{KEY: image_key(shape, external="STREAM:")})
    run.datum(run.resource(**parameters), stream, 2, 5)
    (reference,) = run.references
    assert (reference.start, reference.stop) == (2 * per_index, 5 * per_index)
    assert run.documents.frame_shape == (4, 6)


def test_a_range_that_comes_twice_is_counted_once_and_an_overlap_is_cut():
    run = Run()
    stream = run.describe(**{KEY: image_key(external="STREAM:")})
    resource = run.resource()
    for start, stop in ((0, 5), (0, 5), (3, 8), (2, 4), (8, 8)):
        run.datum(resource, stream, start, stop)
    assert [(r.start, r.stop) for r in run.references] == [(0, 5), (5, 8)]


def test_frames_whose_datum_was_lost_come_with_the_next_one():
    run = Run()
    stream = run.describe(**{KEY: image_key(external="STREAM:")})
    resource = run.resource()
    run.datum(resource, stream, 100, 105)  # a file that earlier runs have begun
    run.datum(resource, stream, 110, 120)
    assert [(r.start, r.stop) for r in run.references] == [(100, 105), (105, 120)]


def test_each_file_of_a_run_has_its_own_indices():
    run = Run()
    stream = run.describe(**{KEY: image_key(external="STREAM:")})
    for name in ("a", "b"):
        run.datum(run.resource(uri=f"file://localhost/{name}.h5"), stream, 0, 5)
    assert [(r.path, r.start, r.stop) for r in run.references] == [
        ("/a.h5", 0, 5),
        ("/b.h5", 0, 5),
    ]


def test_resources_of_other_keys_and_datums_of_other_streams_are_ignored():
    run = Run()
    keys = {KEY: image_key(external="STREAM:"), "other": image_key(external="STREAM:")}
    stream = run.describe(**keys)
    dark = run.describe(name="dark", **keys)
    run.datum(run.resource(key="other"), stream, 0, 5)
    run.datum(run.resource(), dark, 0, 5)
    assert run.references == []


def test_an_event_page_beside_the_stream_is_no_malformed_document():
    run = Run()
    keys = {KEY: image_key(external="STREAM:"), "current": {**image_key(()), "dtype": "number"}}
    stream = run.describe(**keys)
    doc = {"descriptor": stream.descriptor_doc["uid"], "data": {"current": [1.0]}}
    assert run.documents.receive("event_page", doc) == ()


def test_documents_of_an_old_event_model_are_understood():
    run = Run()
    stream = run.describe(**{KEY: image_key(external="STREAM:")})
    old = {
        "uid": "r",
        "data_key": KEY,
        "spec": "AD_HDF5_SWMR_STREAM",
        "root": "/data",
        "resource_path": "a.h5",
        "resource_kwargs": {"path": "/entry/frames"},
        "path_semantics": "posix",
    }
    run.documents.receive("stream_resource", old)
    datum = {"stream_resource": "r", "descriptor": stream.descriptor_doc["uid"]}
    (reference,) = run.documents.receive(
        "stream_datum", {**datum, "indices": {"start": 0, "stop": 3}}
    )
    assert reference == HDF5Frames(path="/data/a.h5", dataset="/entry/frames", start=0, stop=3)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (
            {"mimetype": "image/tiff"},
            "got the mimetype 'image/tiff', expected 'application/x-hdf5'",
        ),
        ({"uri": "s3://bucket/a.h5"}, "s3://bucket/a.h5: not a local file"),
        ({"uri": "file://xf11id-srv1/a.h5"}, "file://xf11id-srv1/a.h5: not a local file"),
        ({"template": "{:05d}.h5"}, "has the parameter 'template'"),
        ({"slice": "::2"}, "has the parameter 'slice'"),
    ],
)
def test_frames_that_cannot_be_read_keep_their_place_and_tell_why(how, message):
    run = Run()
    stream = run.describe(**{KEY: image_key(external="STREAM:")})
    run.datum(run.resource(**how), stream, 0, 7)
    (reference,) = run.references
    assert reference.n_frames == 7
    assert run.documents.n_frames == 7
    with pytest.raises(UnreadableFramesError, match=message.replace("(", r"\(")):
        list(FrameReader().read(reference, 1000))


def test_a_legacy_asset_keeps_the_place_of_its_frames():
    run = Run()
    stream = run.describe(**{KEY: image_key((20, 4, 6), external="FILESTORE:")})
    event = stream.compose_event(
        data={KEY: "res/0"}, timestamps={KEY: 0.0}, filled={KEY: False}, validate=False
    )
    (reference,) = run.documents.receive("event", event)
    assert isinstance(reference, UnreadableFrames)
    assert reference.n_frames == 20
    assert "'res/0' of a legacy asset" in reference.reason


# --- malformed documents ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        np.ones(3),
        np.ones((2, 2, 2, 2)),
        np.ones((0, 4, 6)),
        np.ones((4, 6), complex),
        [["a"]],
        None,
    ],
    ids=["1-d", "4-d", "empty", "complex", "text", "nothing"],
)
def test_what_is_no_frame_is_refused(value):
    documents = Run().documents
    documents.receive("descriptor", {"uid": "d", "data_keys": {KEY: image_key()}})
    with pytest.raises(InvalidInputError, match=r"expected real numbers of shape \(rows, cols\)"):
        documents.receive("event", {"descriptor": "d", "data": {KEY: value}})
    assert documents.n_frames == 0


@pytest.mark.parametrize(
    ("name", "doc", "message"),
    [
        ("descriptor", {"uid": "e"}, "malformed descriptor document .*'data_keys'"),
        ("descriptor", {"uid": "e", "data_keys": {KEY: {}}}, "malformed descriptor .*'shape'"),
        ("descriptor", {"uid": "e", "data_keys": {KEY: image_key("ab")}}, "malformed descriptor"),
        ("event", {"descriptor": "d", "data": {}}, "malformed event document .*'eiger_image'"),
        ("event", {"descriptor": "d", "data": {KEY: [[1, 2], [3]]}}, "malformed event document"),
        ("event", {"descriptor": "x", "data": {}}, "descriptor 'x', which has not come"),
        ("event_page", {"descriptor": "d", "data": {KEY: 5}}, "malformed event_page"),
        ("stream_resource", {"uid": "r", "data_key": KEY}, "malformed stream_resource .*'spec'"),
        ("stream_datum", {"stream_resource": "r"}, "malformed stream_datum document .*'indices'"),
        (
            "stream_datum",
            {"stream_resource": "r", "descriptor": "d", "indices": {"start": 5, "stop": 2}},
            r"the indices \[5, 2\)",
        ),
        (
            "stream_datum",
            {"stream_resource": "r", "descriptor": "d", "indices": {"start": 0, "stop": 2}},
            "stream_resource 'r', which has not come",
        ),
    ],
)
def test_a_malformed_document_is_refused_and_changes_nothing(name, doc, message):
    run = Run()
    documents = run.documents
    documents.receive(
        "descriptor", {"uid": "d", "name": "primary", "data_keys": {KEY: image_key()}}
    )
    with pytest.raises(InvalidInputError, match=message):
        documents.receive(name, doc)
    assert documents.n_frames == 0
    assert documents.image_descriptor["uid"] == "d"
    (good,) = documents.receive("event", {"descriptor": "d", "data": {KEY: np.ones((4, 6))}})
    assert isinstance(good, InlineFrames)


def test_documents_of_no_interest_give_nothing():
    documents = Run().documents
    assert documents.receive("datum_page", {}) == ()
    assert documents.receive("resource", {}) == ()


def test_the_stop_document_is_kept():
    run = Run()
    assert run.documents.stop is None
    stop = run.bundle.compose_stop()
    run.router("stop", stop)
    assert run.documents.stop == stop


# --- the expected number of frames ------------------------------------------------------------


@pytest.mark.parametrize(
    ("metadata", "shape", "configuration", "expected"),
    [
        ({}, (4, 6), {}, None),
        ({"num_points": 300}, (4, 6), {}, 300),
        ({"num_points": 3}, (10, 4, 6), {}, 30),
        ({"num_points": 1}, (500, 4, 6), {}, 500),
        ({"num_points": 1}, (4, 6), {"eiger_cam_num_images": 500}, 500),
        ({"num_points": 1}, (4, 6), {}, None),
        ({"number of images": "250", "num_points": 1}, (4, 6), {}, 250),
        ({"number of images": "many"}, (4, 6), {"eiger_cam_num_images": "80"}, 80),
        ({"num_points": -2}, (4, 6), {"eiger_cam_num_images": 2.5}, None),
    ],
)
def test_the_expected_number_of_frames(metadata, shape, configuration, expected):
    run = Run(**metadata)
    config = {"eiger": {"data": configuration, "timestamps": {}, "data_keys": {}}}
    run.describe(configuration=config, **{KEY: image_key(shape)})
    assert run.documents.n_expected == expected
    assert run.documents.configuration["eiger"]["data"] == configuration


def test_a_number_that_the_run_has_passed_is_not_expected_any_more():
    run = Run(num_points=2)
    stream = run.describe(**{KEY: image_key(external="STREAM:")})
    assert run.documents.n_expected == 2
    run.datum(run.resource(), stream, 0, 3)
    assert run.documents.n_expected is None
