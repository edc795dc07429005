"""RunDocuments: frames that documents announce in files."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.file_roots import ANYWHERE
from xpcs_live_denoise.errors import InvalidInputError, UnreadableFramesError
from xpcs_live_denoise.records.frames import HDF5Frames, MissingFrames, TiledFrames
from xpcs_live_denoise.sources.frames import FrameReader

KEY = "eiger_image"


def image_key(shape: Any = (4, 6), **more: Any) -> dict[str, Any]:
    return {"source": "SIM", "dtype": "array", "shape": list(shape), **more}


# --- frames in files --------------------------------------------------------------------------


def test_a_stream_gives_the_frames_of_its_file(Run):
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


def test_a_stream_resource_may_come_before_its_descriptor(Run):
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
def test_an_index_counts_as_the_frames_of_the_data_key(Run, shape, parameters, per_index):
    run = Run()
    stream = run.describe(**{KEY: image_key(shape, external="STREAM:")})
    run.datum(run.resource(**parameters), stream, 2, 5, seq_num=1)
    (reference,) = run.references
    assert (reference.start, reference.stop) == (2 * per_index, 5 * per_index)
    assert run.documents.frame_shape == (4, 6)


def test_a_range_that_comes_twice_is_counted_once_and_an_overlap_is_cut(Run):
    run = Run()
    stream = run.describe(**{KEY: image_key(external="STREAM:")})
    resource = run.resource()
    for start, stop in ((0, 5), (0, 5), (3, 8), (2, 4), (8, 8)):
        run.datum(resource, stream, start, stop)
    assert [(r.start, r.stop) for r in run.references] == [(0, 5), (5, 8)]


def test_frames_whose_datum_was_lost_come_with_the_next_one(Run):
    run = Run()
    stream = run.describe(**{KEY: image_key(external="STREAM:")})
    resource = run.resource()
    run.datum(resource, stream, 100, 105, seq_num=1)  # a file that earlier runs have begun
    run.datum(resource, stream, 110, 120, seq_num=11)
    assert [(r.start, r.stop) for r in run.references] == [(100, 105), (105, 120)]


@pytest.mark.parametrize(("first", "start"), [(0, 0), (100, 100)])
def test_frames_whose_datum_was_the_first_and_lost_come_too(Run, first, start):
    run = Run()
    stream = run.describe(**{KEY: image_key(external="STREAM:")})
    run.datum(run.resource(), stream, first + 50, first + 60, seq_num=51)
    assert [(r.start, r.stop) for r in run.references] == [(start, first + 60)]


@pytest.mark.parametrize("seq_nums", [None, {}, {"start": 0, "stop": 0}, {"start": "x"}, 5])
def test_a_datum_without_numbers_counts_from_its_first_index(Run, seq_nums):
    run = Run()
    stream = run.describe(**{KEY: image_key(external="STREAM:")})
    doc = run.resource().compose_stream_datum(
        indices={"start": 5, "stop": 8}, descriptor=stream.descriptor_doc
    )
    run.router("stream_datum", {**doc, "seq_nums": seq_nums})
    assert [(r.start, r.stop) for r in run.references] == [(5, 8)]


def test_each_file_of_a_run_has_its_own_indices(Run):
    run = Run()
    stream = run.describe(**{KEY: image_key(external="STREAM:")})
    for name in ("a", "b"):
        run.datum(run.resource(uri=f"file://localhost/{name}.h5"), stream, 0, 5)
    assert [(r.path, r.start, r.stop) for r in run.references] == [
        ("/a.h5", 0, 5),
        ("/b.h5", 0, 5),
    ]


def test_resources_of_other_keys_and_datums_of_other_streams_are_ignored(Run):
    run = Run()
    keys = {KEY: image_key(external="STREAM:"), "other": image_key(external="STREAM:")}
    stream = run.describe(**keys)
    dark = run.describe(name="dark", **keys)
    run.datum(run.resource(key="other"), stream, 0, 5)
    run.datum(run.resource(), dark, 0, 5)
    assert run.references == []


def test_an_event_page_beside_the_stream_is_no_malformed_document(Run):
    run = Run()
    keys = {KEY: image_key(external="STREAM:"), "current": {**image_key(()), "dtype": "number"}}
    stream = run.describe(**keys)
    doc = {"descriptor": stream.descriptor_doc["uid"], "data": {"current": [1.0]}}
    assert run.documents.receive("event_page", doc) == ()


def test_documents_of_an_old_event_model_are_understood(Run):
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
def test_frames_that_cannot_be_read_keep_their_place_and_tell_why(Run, how, message):
    run = Run()
    stream = run.describe(**{KEY: image_key(external="STREAM:")})
    run.datum(run.resource(**how), stream, 0, 7)
    (reference,) = run.references
    assert reference.n_frames == 7
    assert run.documents.n_frames == 7
    with pytest.raises(UnreadableFramesError, match=message.replace("(", r"\(")):
        list(FrameReader(roots=ANYWHERE).read(reference, 1000))


def test_an_array_in_tiled_is_named_by_its_path(Run):
    run = Run()
    stream = run.describe(**{KEY: image_key((10, 4, 6), external="STREAM:")})
    mimetype = "application/x-tiled-array"
    resource = run.resource(mimetype=mimetype, uri="tiled:raw/abc%20d/primary/eiger_image")
    run.datum(resource, stream, 0, 3)
    assert run.references == [TiledFrames(path="raw/abc d/primary/eiger_image", start=0, stop=30)]


@pytest.mark.parametrize("uri", ["http://server/api/v1/array/full/raw", "tiled:", "raw/abc"])
def test_an_array_in_tiled_has_an_uri_of_its_own(Run, uri):
    run = Run()
    stream = run.describe(**{KEY: image_key(external="STREAM:")})
    run.datum(run.resource(mimetype="application/x-tiled-array", uri=uri), stream, 0, 3)
    (reference,) = run.references
    assert isinstance(reference, MissingFrames)
    assert "expected tiled:<path" in reference.reason
    assert reference.n_frames == 3


def test_more_frames_than_any_series_has_are_refused(Run):
    run = Run()
    stream = run.describe(**{KEY: image_key(external="STREAM:")})
    resource = run.resource()
    with pytest.raises(InvalidInputError, match="1000000000000000 frames at once"):
        run.datum(resource, stream, 0, 10**15)
    run.datum(resource, stream, 0, 5)
    assert run.documents.n_frames == 5
