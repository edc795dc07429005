"""RunDocuments: frames inside events, and what the documents say about the series."""

from __future__ import annotations

from typing import Any

import event_model
import numpy as np
import pytest

from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.records.frames import InlineFrames, MissingFrames

KEY = "eiger_image"


def image_key(shape: Any = (4, 6), **more: Any) -> dict[str, Any]:
    return {"source": "SIM", "dtype": "array", "shape": list(shape), **more}


# --- frames inline ----------------------------------------------------------------------------


@pytest.mark.parametrize("as_list", [False, True], ids=["array", "list"])
@pytest.mark.parametrize("shape", [(4, 6), (3, 4, 6)], ids=["one frame", "three frames"])
def test_an_event_gives_its_frames(Run, shape, as_list):
    run = Run()
    stream = run.describe(**{KEY: image_key(shape)})
    value = np.arange(np.prod(shape)).reshape(shape)
    run.event(stream, value.tolist() if as_list else value)

    (reference,) = run.references
    np.testing.assert_array_equal(reference.frames, value.reshape(-1, 4, 6))
    assert run.documents.n_frames == len(reference.frames)
    assert run.documents.frame_shape == (4, 6)


def test_an_inline_array_is_shared_not_copied(Run):
    documents = Run().documents
    documents.receive(
        "descriptor", {"uid": "d", "name": "primary", "data_keys": {KEY: image_key()}}
    )
    value = np.ones((4, 6))
    (reference,) = documents.receive("event", {"descriptor": "d", "data": {KEY: value}})
    assert np.shares_memory(reference.frames, value)


def test_the_events_of_a_page_come_in_order(Run):
    run = Run()
    stream = run.describe(**{KEY: image_key()})
    events = [
        stream.compose_event(data={KEY: np.full((4, 6), i)}, timestamps={KEY: 0.0})
        for i in range(5)
    ]
    run.router("event_page", event_model.pack_event_page(*events))
    assert [reference.frames[0, 0, 0] for reference in run.references] == [0, 1, 2, 3, 4]


def test_the_first_frame_overrules_a_descriptor_with_another_shape(Run):
    run = Run()
    stream = run.describe(**{KEY: image_key((6, 4))})
    assert run.documents.frame_shape == (6, 4)
    run.event(stream, np.ones((4, 6)))
    assert run.documents.frame_shape == (4, 6)


def test_other_data_keys_and_other_streams_give_no_frames(Run):
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


def test_a_second_descriptor_of_the_same_stream_continues_the_series(Run):
    run = Run()
    first = run.describe(**{KEY: image_key()})
    second = run.describe(**{KEY: image_key()})
    run.event(first, np.zeros((4, 6)))
    run.event(second, np.ones((4, 6)))
    assert len(run.references) == 2
    assert run.documents.image_descriptor == first.descriptor_doc


def test_a_run_without_the_data_key_has_no_images_but_names_what_looks_like_them(Run):
    run = Run()
    run.describe(
        pilatus_image=image_key((1, 9, 9)), temperature=image_key(()), spectrum=image_key([7])
    )
    assert run.documents.image_descriptor is None
    assert run.documents.image_descriptor is None
    assert run.documents.frame_shape is None
    assert run.documents.configuration == {}
    assert run.documents.image_like_keys == ("pilatus_image",)


# --- malformed documents ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        np.ones(3),
        np.ones((2, 2, 2, 2)),
        np.ones((0, 4, 6)),
        np.ones((4, 6), complex),
        [["a"]],
        [[1, 2], [3]],
    ],
    ids=["1-d", "4-d", "empty", "complex", "text", "ragged"],
)
def test_what_is_no_frame_keeps_its_place(Run, value):
    documents = Run().documents
    documents.receive("descriptor", {"uid": "d", "data_keys": {KEY: image_key()}})
    (reference,) = documents.receive("event", {"descriptor": "d", "data": {KEY: value}})
    assert isinstance(reference, MissingFrames)
    assert "expected real numbers of shape (rows, cols)" in reference.reason
    assert documents.n_frames == 1


def test_an_event_without_its_frame_keeps_its_place(Run):
    documents = Run().documents
    documents.receive("descriptor", {"uid": "d", "data_keys": {KEY: image_key()}})
    (reference,) = documents.receive("event", {"descriptor": "d", "data": {}})
    assert "missing in events" in reference.reason
    page = {"descriptor": "d", "data": {}, "seq_num": [2, 3, 4]}
    assert len(documents.receive("event_page", page)) == 3
    assert documents.n_frames == 4


@pytest.mark.parametrize(
    ("name", "doc", "message"),
    [
        ("descriptor", {"uid": "e"}, "malformed descriptor document .*'data_keys'"),
        ("descriptor", {"uid": "e", "data_keys": {KEY: {}}}, "malformed descriptor .*'shape'"),
        ("descriptor", {"uid": "e", "data_keys": {KEY: image_key("ab")}}, "malformed descriptor"),
        ("event", {"descriptor": "d"}, "malformed event document .*'data'"),
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
def test_a_malformed_document_is_refused_and_changes_nothing(Run, name, doc, message):
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


def test_documents_of_no_interest_give_nothing(Run):
    documents = Run().documents
    assert documents.receive("start", {}) == ()
    assert documents.receive("bulk_events", {}) == ()


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
def test_the_expected_number_of_frames(Run, metadata, shape, configuration, expected):
    run = Run(**metadata)
    config = {"eiger": {"data": configuration, "timestamps": {}, "data_keys": {}}}
    run.describe(configuration=config, **{KEY: image_key(shape)})
    assert run.documents.n_expected == expected
    assert run.documents.configuration["eiger"]["data"] == configuration


def test_a_number_that_the_run_has_passed_is_not_expected_any_more(Run):
    run = Run(num_points=2)
    stream = run.describe(**{KEY: image_key(external="STREAM:")})
    assert run.documents.n_expected == 2
    run.datum(run.resource(), stream, 0, 3)
    assert run.documents.n_expected is None
