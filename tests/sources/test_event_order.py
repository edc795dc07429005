"""Events that come twice and events that do not come, by their numbers."""

from __future__ import annotations

import numpy as np
import pytest

from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.records.frames import InlineFrames, MissingFrames
from xpcs_live_denoise.sources.events import MOST_LOST_FRAMES, new_events

KEY = "eiger_image"


def key(*shape):
    return {"source": "SIM", "dtype": "array", "shape": list(shape)}


def sent(documents, *numbers, descriptor="d", shape=(4, 6)):
    """Send events; return the value of each frame, None for a gap."""
    got = []
    for number in numbers:
        doc = {"descriptor": descriptor, "seq_num": number, "data": {KEY: np.full(shape, number)}}
        for reference in documents.receive("event", doc):
            if isinstance(reference, InlineFrames):
                got.extend(reference.frames[:, 0, 0].tolist())
            else:
                got.extend([None] * reference.n_frames)
    return got


@pytest.fixture
def documents(Run):
    documents = Run().documents
    documents.receive("descriptor", {"uid": "d", "name": "primary", "data_keys": {KEY: key(4, 6)}})
    return documents


def test_an_event_that_was_rewound_counts_once_and_the_first_one_wins(documents):
    assert sent(documents, 1, 2, 3, 2, 3, 4) == [1, 2, 3, 4]
    again = {"descriptor": "d", "seq_num": 4, "data": {KEY: np.full((4, 6), 99)}}
    assert documents.receive("event", again) == ()
    assert documents.n_frames == 4


def test_events_that_were_lost_are_gaps_in_their_places(documents):
    assert sent(documents, 3, 4, 7) == [None, None, 3, 4, None, None, 7]


def test_lost_events_of_many_frames_are_as_many_gaps(Run):
    documents = Run().documents
    documents.receive("descriptor", {"uid": "d", "data_keys": {KEY: key(5, 4, 6)}})
    assert sent(documents, 1, 3, shape=(5, 4, 6)) == [1] * 5 + [None] * 5 + [3] * 5


def test_numbers_go_on_across_descriptors_of_the_same_stream(documents):
    second = {"uid": "e", "name": "primary", "data_keys": {KEY: key(4, 6)}}
    assert sent(documents, 1, 2) == [1, 2]
    documents.receive("descriptor", second)
    assert sent(documents, 2, 3, 4, descriptor="e") == [3, 4]


@pytest.mark.parametrize("number", [0, -3, 10**15, MOST_LOST_FRAMES + 4])
def test_an_absurd_number_is_a_mistake_and_changes_nothing(documents, number):
    assert sent(documents, 1, 2) == [1, 2]
    with pytest.raises(InvalidInputError, match="has the seq_num"):
        sent(documents, number)
    assert sent(documents, 3) == [3]


@pytest.mark.parametrize("number", [1.5, "3", float("nan"), [1]])
def test_what_is_no_number_is_malformed(documents, number):
    with pytest.raises(InvalidInputError, match="malformed event document"):
        sent(documents, number)
    assert sent(documents, 1) == [1]


def test_a_malformed_event_becomes_a_gap_when_the_next_one_comes(documents):
    assert sent(documents, 1) == [1]
    with pytest.raises(InvalidInputError, match="malformed"):
        documents.receive("event", {"descriptor": "d", "seq_num": 2})
    assert sent(documents, 3) == [None, 3]


def test_a_page_may_begin_with_events_that_came_before(documents):
    assert sent(documents, 1, 2) == [1, 2]
    page = {
        "descriptor": "d",
        "seq_num": [2, 3, 5],
        "data": {KEY: [np.full((4, 6), n) for n in (2, 3, 5)]},
    }
    first, gap, last = documents.receive("event_page", page)
    assert first.frames[0, 0, 0] == 3
    assert isinstance(gap, MissingFrames)
    assert "left out" in gap.reason
    assert last.frames[0, 0, 0] == 5


def test_a_page_whose_numbers_and_values_differ_is_malformed(documents):
    page = {"descriptor": "d", "seq_num": [1, 2, 3], "data": {KEY: [np.ones((4, 6))]}}
    with pytest.raises(InvalidInputError, match="3 events hold 1 values"):
        documents.receive("event_page", page)
    assert sent(documents, 1) == [1]


def test_without_a_number_the_next_one_is_meant():
    assert new_events(4, [None, None, 7, None]) == ([0, 0, 0, 0], 8)
    assert new_events(0, []) == ([], 0)
