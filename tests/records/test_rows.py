"""Records of arrays: some of their rows, and several of them joined."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from xpcs_live_denoise.records.types import AXIS_1, SHARED, concatenate_rows, select_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    value: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    a: np.ndarray
    inner: Inner
    across: np.ndarray = field(metadata=AXIS_1)
    unit: str = field(metadata=SHARED)
    maybe: np.ndarray | None = None


def record(start, n, unit="s"):
    a = np.arange(start, start + n)
    return Record(a=a, inner=Inner(value=a * 10), across=np.stack([a, -a]), unit=unit)


@pytest.mark.parametrize(
    "rows", [np.array([2, 0]), np.array([True, False, True]), slice(None, None, 2)]
)
def test_rows_are_taken_along_the_axis_of_each_field(rows):
    some = select_rows(record(0, 3), rows)
    np.testing.assert_array_equal(some.a, np.arange(3)[rows])
    np.testing.assert_array_equal(some.inner.value, some.a * 10)
    np.testing.assert_array_equal(some.across, [some.a, -some.a])
    assert (some.unit, some.maybe) == ("s", None)


def test_records_are_joined_in_order_and_share_what_the_first_has():
    joined = concatenate_rows([record(0, 2, "s"), record(5, 3, "min")])
    np.testing.assert_array_equal(joined.a, [0, 1, 5, 6, 7])
    np.testing.assert_array_equal(joined.inner.value, joined.a * 10)
    np.testing.assert_array_equal(joined.across, [joined.a, -joined.a])
    assert (joined.unit, joined.maybe) == ("s", None)
