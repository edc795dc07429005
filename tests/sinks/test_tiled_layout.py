"""Chunks, capacities, messages and documents, as far as no server is needed."""

import json
import math

import numpy as np
import pytest
from event_model import DocumentNames, schema_validators
from hypothesis import given, settings
from hypothesis import strategies as st
from tiled.utils import safe_json_dump

from tests.support.hostile_documents import deep, endless
from xpcs_live_denoise.catalog import ARRAY_DIMS, schema
from xpcs_live_denoise.records.results import GAMMA_COLUMNS
from xpcs_live_denoise.records.run import RunEnd, Status
from xpcs_live_denoise.sinks.nodes import boxes, exact_chunks, largest_divisor, live_layout


@given(st.integers(1, 3000), st.integers(1, 300))
def test_largest_divisor_divides_and_no_larger_one_does(number, limit):
    divisor = largest_divisor(number, limit)
    assert number % divisor == 0
    assert divisor <= limit
    assert not any(number % d == 0 for d in range(divisor + 1, min(number, limit) + 1))


@given(st.sampled_from(["c2", "c2_band"]), st.integers(1, 150), st.integers(1, 20_000))
def test_a_live_array_has_room_for_what_comes_and_its_chunks_fit_a_message(name, n_roi, n_frames):
    dims, _ = ARRAY_DIMS[name]
    shape = (n_roi, n_frames, 50 if "lag_s" in dims else n_frames)
    capacity, chunks = live_layout(dims, shape, 4, 900_000)
    assert capacity[0] == n_roi
    assert n_frames <= capacity[1] < max(201, 2 * n_frames)
    assert all(n % edge == 0 for n, edge in zip(capacity, chunks, strict=True))
    assert math.prod(chunks) * 4 <= 900_000


@given(st.sampled_from(["total", "roi_mean"]), st.integers(1, 3000), st.integers(1, 20_000))
def test_so_has_one_with_a_few_numbers_a_frame_and_its_chunks_are_few(name, n_roi, n_frames):
    dims, _ = ARRAY_DIMS[name]
    shape = (n_frames, n_roi)[: len(dims)]
    capacity, chunks = live_layout(dims, shape, 8, 900_000)
    assert n_frames <= capacity[0] < max(3201, 2 * n_frames)
    assert all(n % edge == 0 for n, edge in zip(capacity, chunks, strict=True))
    assert math.prod(chunks) * 8 <= 900_000


@given(st.tuples(st.integers(1, 3000), st.integers(1, 400)), st.integers(2_000, 900_000))
@settings(deadline=None)
def test_exact_chunks_divide_the_shape_and_fit_a_message(shape, max_bytes):
    chunks = exact_chunks(shape, 4, max_bytes)
    assert all(n % c == 0 for n, c in zip(shape, chunks, strict=True))
    assert math.prod(chunks) * 4 <= max_bytes


@given(
    st.tuples(st.integers(1, 6), st.integers(1, 40), st.integers(1, 40)),
    st.tuples(st.integers(1, 6), st.integers(1, 40), st.integers(1, 40)),
    st.integers(4, 20_000),
)
def test_boxes_cover_every_entry_once_and_fit_a_message(shape, unit, max_bytes):
    covered = np.zeros(shape, dtype=int)
    one_unit = math.prod(min(u, n) for u, n in zip(unit, shape, strict=True)) * 4
    for box in boxes(shape, unit, 4, max_bytes):
        covered[box] += 1
        assert covered[box].size * 4 <= max(max_bytes, one_unit)
    assert (covered == 1).all()


def test_the_gamma_stream_has_the_columns_of_the_gamma_table_in_order():
    assert tuple(schema.GAMMA_SCHEMA) == GAMMA_COLUMNS


def test_the_status_stream_has_the_fields_of_a_status_in_order():
    assert tuple(schema.STATUS_SCHEMA) == tuple(Status.__slots__)


def test_json_safe_leaves_nothing_that_json_refuses():
    value = {
        "a.b/c": (1, np.float32("nan"), np.arange(2)),
        "path": schema,
        1: {math.inf, 2.5},
        "flag": np.bool_(True),
    }
    safe = schema.json_safe(value)
    assert json.loads(json.dumps(safe, allow_nan=False)) == safe
    assert safe["a_b_c"] == [1, None, [0, 1]]
    assert safe["flag"] is True
    assert set(safe["1"]) == {None, 2.5}


def test_start_and_stop_are_valid_documents_and_carry_what_is_searched_by(synthetic):
    info = synthetic(start={"plan_name": "count", "comment": "gel B", "my.own": {"a/b": 1}}).info
    start = schema.start_document(info, uid="derived", time=2.0, raw_path="chx/raw")
    schema_validators[DocumentNames.start].validate(start)
    assert start["original_run_uid"] == info.uid
    assert start["derived_from"] == [info.uid]
    assert (start["scan_id"], start["sample"], start["plan_name"]) == (7, "gel", "count")
    assert start["comment"] == "gel B"
    assert start["my_own"] == {"a_b": 1}
    assert start["xpcs"]["schema"] == 2
    assert start["xpcs"]["raw_time"] == 1.0
    assert start["xpcs"]["not_copied"] == []
    assert start["xpcs"]["analysed_by"] == "live"
    assert start["xpcs"]["q_inv_angstrom"] == [0.01, None]
    assert start["xpcs"]["raw_path"] == "chx/raw"
    end = RunEnd(
        raw_exit_status="success", analysis_exit_status="success", reason="", status=Status()
    )
    stop = schema.stop_document(end, start_uid="derived", time=3.0, num_events={"gamma": 4})
    schema_validators[DocumentNames.stop].validate(stop)
    assert stop["exit_status"] == "success"


def test_what_is_the_results_own_or_the_servers_is_not_copied_from_the_raw_run(synthetic):
    raw = {
        "hints": {"dimensions": []},
        "tiled_access_tags": ["secret"],
        "tiled.specs": ["X"],
        "original_run_uid": "older",
        "derived_from": ["older"],
        "xpcs": {"schema": 99},
        "sample": "gel",
    }
    start = schema.start_document(synthetic(start=raw).info, uid="derived", time=2.0, raw_path=None)
    assert not [key for key in start if key.startswith(("tiled", "hints"))]
    assert start["uid"] == "derived"
    assert start["original_run_uid"] != "older"
    assert start["xpcs"]["schema"] == 2
    assert start["sample"] == "gel"


HOSTILE = {
    "endless": endless(),
    "deep": deep(5000),
    "huge": 10**400,
    "surrogate": "\ud800",
    "table": np.zeros(2000),
    "text": "x" * 5000,
    "data_session": 5,
    "projections": [{"no": "projection"}],
    7: "x" * 5000,
}
KEPT = {
    "T_sample": np.float32(20.5),
    "transmission": np.float64("nan"),
    "filters": {"b"},
    "label": np.str_("gel"),
    "count": np.int16(3),
    "when": b"today",
    "epics": "gel\0\0",
    "nested": {"a.b": [np.bool_(True), (1, float("inf"))]},
}


def test_values_that_cannot_be_stored_are_named_and_lose_nothing_else(synthetic):
    info = synthetic(start={**HOSTILE, **KEPT}).info
    start = schema.start_document(info, uid="derived", time=2.0, raw_path=None)
    schema_validators[DocumentNames.start].validate(start)
    assert json.loads(safe_json_dump(start)) == start
    assert set(start["xpcs"]["not_copied"]) == set(map(str, HOSTILE))
    assert {key: start[key] for key in KEPT} == {
        "T_sample": 20.5,
        "transmission": None,
        "filters": ["b"],
        "label": "gel",
        "count": 3,
        "when": "b'today'",
        "epics": "gel",
        "nested": {"a_b": [True, [1, None]]},
    }
    assert start["scan_id"] == 7


def test_of_too_many_keys_the_largest_are_left_out(synthetic):
    raw = {f"large_{index:03d}": "x" * 4000 for index in range(200)} | {"comment": "small"}
    start = schema.start_document(synthetic(start=raw).info, uid="d", time=2.0, raw_path=None)
    assert len(safe_json_dump(start)) < 120_000
    assert start["comment"] == "small"
    assert "large_000" in start
    assert "large_100" in start["xpcs"]["not_copied"]


@pytest.mark.parametrize("time", ["yesterday", None, 10**400, float("nan")])
def test_a_raw_run_without_a_time_that_is_one_has_none_in_its_result(synthetic, time):
    info = synthetic(start={"time": time}).info
    assert schema.start_document(info, uid="d", time=2.0, raw_path=None)["xpcs"]["raw_time"] is None


@pytest.mark.parametrize(
    ("raw", "analysis", "expected"),
    [
        ("success", "success", "success"),
        ("success", "fail", "fail"),
        ("fail", "success", "fail"),
        ("abort", "success", "abort"),
        ("abort", "fail", "abort"),
    ],
)
def test_a_derived_run_is_a_success_only_if_run_and_analysis_were(raw, analysis, expected):
    end = RunEnd(raw_exit_status=raw, analysis_exit_status=analysis, reason="why", status=Status())
    stop = schema.stop_document(end, start_uid="derived", time=3.0, num_events={})
    assert stop["exit_status"] == expected
    assert (stop["raw_exit_status"], stop["analysis_exit_status"]) == (raw, analysis)
    assert stop["reason"] == "why"
