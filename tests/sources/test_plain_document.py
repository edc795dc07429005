"""plain_document: documents as JSON has them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from xpcs_live_denoise.sources.documents import MOST_DEPTH, MOST_VALUES, plain_document


def test_an_ordinary_document_stays_as_it_is():
    doc = {
        "uid": "a",
        "scan_id": 7,
        "exposure time": "0.01",
        "ok": True,
        "nothing": None,
        "hints": {"dimensions": [[["time"], "primary"]]},
        "x": 0.5,
    }
    assert plain_document(doc) == doc


def test_numpy_values_become_numbers_and_lists():
    doc = {"a": np.float32(0.5), "b": np.int64(3), "c": np.arange(4).reshape(2, 2), "d": (1, 2)}
    assert plain_document(doc) == {"a": 0.5, "b": 3, "c": [[0, 1], [2, 3]], "d": [1, 2]}


def nested(depth):
    value = 1
    for _ in range(depth):
        value = [value]
    return value


class Odd:
    def __repr__(self):
        raise RuntimeError("no repr")


def endless():
    value = {}
    value["self"] = value
    return value


@pytest.mark.parametrize(
    "value",
    [
        nested(100_000),
        endless(),
        Odd(),
        b"bytes",
        10**400,
        -(2**70),
        "x" * 10**7,
        "\ud800",
        np.zeros(10**6),
        np.array([Odd()], object),
        list(range(10 * MOST_VALUES)),
        {Odd(): 1, 5: 2, None: 3},
    ],
    ids=lambda value: type(value).__name__,
)
def test_everything_else_becomes_short_and_writable(value):
    plain = plain_document({"first": 1, "odd": value})
    assert plain["first"] == 1
    assert len(json.dumps(plain).encode()) < 12 * MOST_VALUES


def test_null_characters_are_left_out():
    assert plain_document({"sample\0": "gel\0\0"}) == {"sample": "gel"}


def test_depth_ends_with_a_text():
    plain = plain_document({"a": nested(MOST_DEPTH + 5)})["a"]
    while isinstance(plain, list):
        (plain,) = plain
    assert isinstance(plain, str)
