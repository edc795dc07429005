"""Documents as bytes: they survive the way, and foreign bytes are refused with a reason."""

import contextlib
import json

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.sources.remote import codec as remote_codec
from xpcs_live_denoise.sources.remote.codec import (
    ARRAY_TYPE,
    LARGE_ARRAY_BYTES,
    pack_document,
    packed_pieces,
    unpack_document,
)


@pytest.mark.parametrize(
    "value",
    [
        np.float32(0.5),
        np.int64(7),
        np.bool_(True),
        np.zeros((0, 4), np.uint8),
        np.array([[1.5, np.nan], [np.inf, 0]], ">f8"),
        np.asfortranarray(np.arange(6).reshape(2, 3)),
        np.arange(10)[::-2],
        float("nan"),
        -(2**63),
        2**64 - 1,
        "é",
    ],
)
def test_a_value_survives_the_way(value):
    doc = unpack_document(pack_document({"value": value}))
    np.testing.assert_equal(doc["value"], value)
    assert getattr(doc["value"], "dtype", None) == (
        value.dtype if isinstance(value, np.ndarray) else None
    )


@pytest.mark.parametrize("n_bytes", [LARGE_ARRAY_BYTES - 32, LARGE_ARRAY_BYTES, 10**6])
@pytest.mark.parametrize("dtype", ["u1", "<u2", ">f8"])
def test_arrays_of_every_size_have_the_same_form(n_bytes, dtype):
    values = np.arange(n_bytes // np.dtype(dtype).itemsize).astype(dtype).reshape(4, -1)
    content = msgpack.packb((values.dtype.str, values.shape, values.tobytes()))
    expected = msgpack.packb(
        {"a": [1, msgpack.ExtType(ARRAY_TYPE, content), {"b": msgpack.ExtType(78, content)}]}
    )
    assert pack_document({"a": [1, values, {"b": values}]}) == expected
    np.testing.assert_equal(
        unpack_document(expected), {"a": [1, values, {"b": values}]}, strict=True
    )


def test_the_values_of_a_frame_are_not_copied_before_the_message_is_put_together():
    frame = np.zeros((300, 400), np.uint16)
    views = [piece for piece in packed_pieces({"a": frame}) if isinstance(piece, memoryview)]
    assert len(views) == 1
    assert np.shares_memory(np.frombuffer(views[0], np.uint8), frame)


def test_a_large_array_of_another_order_in_memory_arrives_in_its_own():
    values = np.arange(60_000).reshape(200, 300)
    for there in (values.T, values[:, ::-1], values[::2]):
        np.testing.assert_array_equal(unpack_document(pack_document({"a": there}))["a"], there)


def test_what_json_would_change_is_changed_in_the_same_way():
    doc = {1: (1, 2), "set": {3}, "path": remote_codec.PurePath("/a"), "big": 2**70}
    assert unpack_document(pack_document(doc)) == {
        "1": [1, 2], "set": [3], "path": "/a", "big": str(2**70),
    }  # fmt: skip


@pytest.mark.parametrize(
    "value", [np.array([object()]), np.zeros(2, "M8[s]"), np.zeros(2, complex), object(), 1j]
)
def test_what_cannot_be_sent_leaves_none_and_is_told(value):
    refused = []
    assert unpack_document(pack_document({"a": value, "b": 1}, refused.append)) == {
        "a": None,
        "b": 1,
    }
    assert len(refused) == 1


def _nested(levels):
    doc = 0
    for _ in range(levels):
        doc = {"a": doc}
    return doc


def _array(*content):
    return msgpack.packb({"a": msgpack.ExtType(ARRAY_TYPE, msgpack.packb(content))})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        b"\x81",
        msgpack.packb([1, 2]),
        msgpack.packb({1: 2}),
        msgpack.packb({"a": msgpack.ExtType(5, b"")}),
        msgpack.packb(_nested(100)),
        b"\x91" * 100_000,
        b'{"a":' * 100_000,
        json.dumps(_nested(100)).encode(),
        msgpack.packb({"a": [[[]] * 1000] * 1500}),
        b'{"a": [' + b"1," * 2_100_000 + b"1]}",
        _array("<O", [1], bytes(8)),
        _array("<f8", [2], bytes(8)),
        _array("<f8", [-1, -1], bytes(8)),
        _array("<f8", [True], bytes(8)),
        _array("<f8", [2**62, 2**62], b""),
        _array("<f8", [1] * 20, bytes(8)),
        _array("<f8", [1.0], bytes(8)),
        _array("<f8", 1, bytes(8)),
        _array([("a", "O")], [1], bytes(8)),
        _array("O,O,O", [1], bytes(8)),
        _array("<f8", [1]),
    ],
)
def test_what_is_no_document_is_refused_with_a_reason(body):
    with pytest.raises(InvalidInputError, match=r"[Ee]xpected|than"):
        unpack_document(body)


def test_a_document_too_deep_to_send_is_not_sent():
    with pytest.raises(InvalidInputError, match="nested deeper than 64"):
        pack_document(_nested(100))


@settings(max_examples=100, deadline=None)
@given(st.one_of(st.binary(max_size=300), st.binary(max_size=100).map(lambda b: b"\x81\xa1a" + b)))
def test_arbitrary_bytes_are_a_document_or_refused(body):
    with contextlib.suppress(InvalidInputError):
        assert isinstance(unpack_document(body), dict)


@settings(max_examples=25, deadline=None)
@given(
    st.dictionaries(
        st.text(max_size=5),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.integers(-(2**63), 2**64 - 1) | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=20,
        ),
    )
)
def test_any_plain_document_survives_the_way(doc):
    np.testing.assert_equal(unpack_document(pack_document(doc)), doc)
