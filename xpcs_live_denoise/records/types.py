"""Short names for the types of arrays and documents, and records of arrays with a common axis."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Array: TypeAlias = NDArray[Any]  # of any dtype: counts as a detector writes them, labels, numbers
FloatArray: TypeAlias = NDArray[np.floating[Any]]
IntArray: TypeAlias = NDArray[np.integer[Any]]
BoolArray: TypeAlias = NDArray[np.bool_]

# A document of bluesky, or a part of one: what it holds is checked where it is read.
Document: TypeAlias = dict[str, Any]
# The same where it is only read: metadata, configuration, keyword arguments.
Fields: TypeAlias = Mapping[str, Any]

Record = TypeVar("Record", bound="DataclassInstance")

# Metadata of a field whose rows lie along axis 1, and of one that belongs to all rows alike; rows
# lie along axis 0 of every other field.
AXIS_1 = {"rows": 1}
SHARED = {"rows": None}


@functools.cache
def _fields(record: type[DataclassInstance]) -> tuple[tuple[str, int | None], ...]:
    """Return the names of a class's fields, and the axis of each along which its rows lie."""
    return tuple((one.name, one.metadata.get("rows", 0)) for one in dataclasses.fields(record))


def select_rows(record: Record, rows: BoolArray | IntArray | slice) -> Record:
    """Return a record with the rows that a mask, an index array or a slice names.

    Fields that are records themselves are selected from in turn; None stays None.
    """
    values: dict[str, Any] = {}
    for name, axis in _fields(type(record)):
        value: Any = getattr(record, name)
        if axis is None or value is None:
            values[name] = value
        elif isinstance(value, np.ndarray):
            values[name] = value[:, rows] if axis else value[rows]
        else:
            values[name] = select_rows(value, rows)
    return type(record)(**values)


def concatenate_rows(records: Sequence[Record]) -> Record:
    """Return one record with the rows of all, in order; what they share is that of the first."""
    if len(records) == 1:
        return records[0]
    values: dict[str, Any] = {}
    for name, axis in _fields(type(records[0])):
        parts: list[Any] = [getattr(one, name) for one in records]
        if axis is None or parts[0] is None:
            values[name] = parts[0]
        elif isinstance(parts[0], np.ndarray):
            values[name] = np.concatenate(parts, axis=axis)
        else:
            values[name] = concatenate_rows(parts)
    return type(records[0])(**values)
