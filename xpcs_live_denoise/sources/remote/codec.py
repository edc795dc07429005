"""Documents as bytes and back: msgpack (or JSON) with numbers in arrays, never a pickle."""

from __future__ import annotations

import enum
import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePath
from typing import Any

import msgpack
import numpy as np

from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.records.types import Array, Document, Fields

# Our extension type of msgpack: an array as [dtype, shape, bytes].
ARRAY_TYPE = 78
ARRAY_KINDS = "buif"
# What a document may unfold to: a few bytes of msgpack can stand for many Python objects.
MAX_ITEMS = 2_000_000
MAX_DEPTH = 64
MAX_DIMENSIONS = 8
# Arrays from here on are not copied before the message is put together.
LARGE_ARRAY_BYTES = 2**16
_BIN32, _EXT32 = b"\xc6", b"\xc9"  # as msgpack marks them; four bytes of length follow
_PICKLE_MARK, _JSON_MARK = b"\x80", b"{"
_INT64, _UINT64 = -(2**63), 2**64


def pack_document(doc: Fields, refused: Callable[[str], None] = lambda _kind: None) -> bytes:
    """Return a document as msgpack; a serializer for `bluesky.callbacks.zmq.Publisher`, too.

    Parameters
    ----------
    doc
        Numbers, strings, lists, mappings and arrays of real numbers; names become strings.
    refused
        Called with the type of every value that cannot be sent, such as an array of objects. None
        stands in its place, so that the rest of the document arrives.

    Raises
    ------
    InvalidInputError
        When it is nested deeper than MAX_DEPTH.
    """
    return b"".join(packed_pieces(doc, refused))


def packed_pieces(
    doc: Fields, refused: Callable[[str], None] = lambda _kind: None
) -> list[bytes | memoryview]:
    """Return what `pack_document` joins; large arrays are views of the document's own.

    Whoever joins them together with what goes in front copies a frame once.
    """
    packer = msgpack.Packer(use_bin_type=True, autoreset=False)
    return [*_packed(doc, packer, refused), packer.bytes()]


def unpack_document(body: bytes) -> Document:
    """Return the document in the body of a message. Arrays are read-only.

    A pickle, which is not opened, and anything else that is no document, or too large, is an
    InvalidInputError.
    """
    if body[:1] == _PICKLE_MARK and len(body) > 1:
        raise InvalidInputError(
            "Got a pickle, which is never opened since it could run code; expected msgpack or "
            "JSON. bluesky's Publisher pickles by default: subscribe "
            "xpcs_live_denoise.document_publisher(address) instead, or give "
            "Publisher(..., serializer=pack_document)."
        )
    try:
        doc = _from_json(body) if body[:1] == _JSON_MARK else _from_msgpack(body)
    except InvalidInputError:
        raise
    except Exception as error:  # foreign bytes: whatever the decoder makes of them
        raise InvalidInputError(
            f"Not a document ({type(error).__name__}); expected msgpack or JSON."
        ) from error
    if not isinstance(doc, dict):
        raise InvalidInputError(f"Got a {type(doc).__name__}; expected a mapping as document.")
    _check_depth(doc)
    return doc


def _packed(
    value: object, packer: msgpack.Packer, refused: Callable[[str], None], depth: int = 0
) -> Iterator[bytes | memoryview]:
    """Pack a value; yield what is done where a large array lies. The rest stays in the packer."""
    if depth > MAX_DEPTH:
        raise InvalidInputError(
            f"Document: nested deeper than {MAX_DEPTH} levels; expected a flat one."
        )
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in "US":
        value = value.tolist()
    if isinstance(value, Mapping):
        items = {str(name): item for name, item in value.items()}
        packer.pack_map_header(len(items))
        for name, item in items.items():
            packer.pack(name)
            yield from _packed(item, packer, refused, depth + 1)
    elif isinstance(value, (list, tuple, set, frozenset)):
        packer.pack_array_header(len(value))
        for item in value:
            yield from _packed(item, packer, refused, depth + 1)
    elif isinstance(value, (np.ndarray, np.generic)):
        yield from _packed_array(np.asarray(value), packer, refused)
    else:
        packer.pack(_plain_scalar(value, refused))


def _packed_array(
    array: Array, packer: msgpack.Packer, refused: Callable[[str], None]
) -> Iterator[bytes | memoryview]:
    if array.dtype.kind not in ARRAY_KINDS or array.dtype.itemsize > 8:
        refused(f"array of {array.dtype}")
        packer.pack(None)
        return
    if array.ndim == 0:
        packer.pack(array.item())
        return
    values = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
    about = (array.dtype.str, array.shape)
    if array.nbytes < LARGE_ARRAY_BYTES:
        packer.pack_ext_type(ARRAY_TYPE, msgpack.packb((*about, values), use_bin_type=True))
        return
    # The same by hand: msgpack would copy the values four times.
    inner = msgpack.Packer(autoreset=False)
    inner.pack_array_header(3)
    for part in about:
        inner.pack(part)
    head = inner.bytes() + _BIN32 + values.nbytes.to_bytes(4, "big")
    n_bytes = len(head) + values.nbytes
    yield packer.bytes()
    packer.reset()
    yield _EXT32 + n_bytes.to_bytes(4, "big") + bytes([ARRAY_TYPE]) + head
    yield values


def _plain_scalar(value: object, refused: Callable[[str], None]) -> object:
    if isinstance(value, enum.Enum):
        value = value.value
    if isinstance(value, int) and not isinstance(value, bool):
        return value if _INT64 <= value < _UINT64 else str(value)
    if value is None or isinstance(value, (bool, float, str, bytes)):
        return value
    if isinstance(value, PurePath):
        return str(value)
    refused(type(value).__name__)
    return None


def _from_msgpack(body: bytes) -> Any:
    n_items = 0

    def count(container: Any) -> Any:
        nonlocal n_items
        n_items += 1 + len(container)
        if n_items > MAX_ITEMS:
            raise InvalidInputError(
                f"Document: more than {MAX_ITEMS} values; expected arrays for large data."
            )
        return container

    return msgpack.unpackb(
        body,
        raw=False,
        strict_map_key=True,
        ext_hook=_array,
        object_hook=count,
        list_hook=count,
        max_array_len=MAX_ITEMS,
        max_map_len=MAX_ITEMS,
    )


def _array(code: int, content: bytes) -> Array:
    """Return the array of an extension type; nothing else has one."""
    if code != ARRAY_TYPE:
        raise InvalidInputError(
            f"Document: has msgpack's extension type {code}; expected only {ARRAY_TYPE} (arrays)."
        )
    name, shape, values = msgpack.unpackb(content, max_array_len=MAX_DIMENSIONS)
    dtype = np.dtype(name) if isinstance(name, str) and len(name) <= 4 else np.dtype(object)
    fits = (
        dtype.kind in ARRAY_KINDS
        and isinstance(values, bytes)
        and all(type(n) is int and n >= 0 for n in shape)
        and math.prod(shape) * dtype.itemsize == len(values)
    )
    if not fits:
        raise InvalidInputError(
            "Document: an array whose dtype, shape and bytes do not fit each other; expected real "
            f"numbers (kinds {', '.join(ARRAY_KINDS)})."
        )
    return np.frombuffer(values, dtype).reshape(shape)


def _from_json(body: bytes) -> Any:
    # Every value but the first follows one of these; strings make the count an upper bound.
    if body.count(b",") + body.count(b"[") + body.count(b"{") > MAX_ITEMS:
        raise InvalidInputError(
            f"Document: more than {MAX_ITEMS} values in JSON; expected msgpack for large data."
        )
    return json.loads(body)


def _check_depth(doc: Document) -> None:
    """Refuse what would exhaust the stack of whoever walks through the document."""
    level: list[Any] = [doc]
    for _ in range(MAX_DEPTH + 2):
        level = [
            item
            for container in level
            for item in (container.values() if isinstance(container, dict) else container)
            if isinstance(item, (dict, list))
        ]
        if not level:
            return
    raise InvalidInputError(f"Document: nested deeper than {MAX_DEPTH} levels.")
