"""What a derived run looks like in Tiled: documents, columns and data keys of schema version 2."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import jsonschema
import numpy as np
import pyarrow as pa
from event_model import DocumentNames, schema_validators
from tiled.utils import safe_json_dump

from xpcs_live_denoise.errors import one_line, short_repr
from xpcs_live_denoise.records.run import RESULT_SPEC, RunEnd, RunInfo, Status
from xpcs_live_denoise.records.types import Document, Fields, FloatArray

SCHEMA_VERSION = 2  # 1 had no cautions, no heterogeneity; the first of 2 no coordinates
RUN_SPECS = ((RESULT_SPEC, None), ("BlueskyRun", "3.0"))
STREAM_SPECS = (("BlueskyEventStream", "3.0"), ("composite", None))
CATALOG_SPEC = ("CatalogOfBlueskyRuns", "3.0")
OBJECT_NAME = "xpcs"

# Of the raw run's start document, what a result has its own of, or what is the server's business.
NOT_COPIED = ("uid", "time", "hints", "xpcs", "original_run_uid", "derived_from")
# A larger entry is no thing to search by, and all of them travel in one message of below 1 MB.
MOST_KEY_BYTES, MOST_COPIED_BYTES = 4096, 100_000
MOST_NAMED = 100
MOST_SCAN_ID = 80  # letters of one that is no number

# Fields of RunInfo that a derived run's start document has under `xpcs`.
INFO_FIELDS = (
    "detector", "image_key", "frame_shape", "frame_time_s", "time_unit", "n_expected", "roi",
    "q_inv_angstrom", "phi_deg", "n_pixels", "window", "step", "mode", "engine", "model",
    "settings", "versions", "analysed_by", "settings_hash", "supersedes",
)  # fmt: skip

_KINDS: dict[str, tuple[pa.DataType, str, str]] = {
    # kind -> type in the table, JSON type and numpy type in the data key
    "float": (pa.float64(), "number", "<f8"),
    "int": (pa.int64(), "integer", "<i8"),
    "bool": (pa.bool_(), "boolean", "|b1"),
    "str": (pa.string(), "string", "<U0"),
}

# column -> (kind, unit); the order is GAMMA_COLUMNS'
GAMMA_SCHEMA: dict[str, tuple[str, str]] = {
    "roi": ("int", ""),
    "q_inv_angstrom": ("float", "1/angstrom"),
    "age_s": ("float", "s"),
    "relaxation_rate": ("float", "1/s"),
    "relaxation_rate_error": ("float", "1/s"),
    "alpha": ("float", ""),
    "recommended": ("bool", ""),
    "source": ("str", ""),
    "age_frame": ("float", "frames"),
    "phi_deg": ("float", "deg"),
    "width": ("int", "frames"),
    "error_kind": ("str", ""),
    "alpha_error": ("float", ""),
    "baseline": ("float", ""),
    "baseline_error": ("float", ""),
    "beta": ("float", ""),
    "beta_error": ("float", ""),
    "reduced_chi_square": ("float", ""),
    "n_lags": ("int", ""),
    "n_effective": ("float", ""),
    "converged": ("bool", ""),
    "in_range": ("bool", ""),
    "reason": ("str", ""),
    "caution": ("str", ""),
    "final": ("bool", ""),
}
# One publication of a (ROI, age, estimator): how a repeat of it after a failed write is known.
GAMMA_KEY = ("roi", "age_frame", "source", "width", "final")

STATUS_SCHEMA: dict[str, tuple[str, str]] = {
    "n_seen": ("int", "frames"),
    "n_processed": ("int", "frames"),
    "n_skipped": ("int", "frames"),
    "n_masked": ("int", "frames"),
    "skipped": ("str", ""),
    "lag_s": ("float", "s"),
    "queue_depth": ("int", ""),
    "contrast": ("str", ""),
    "baseline": ("str", ""),
    "contrast_estimates": ("str", ""),
    "heterogeneity": ("str", ""),
    "message": ("str", ""),
}

# stream -> its columns, and those by which a row that is offered again is recognised
TABLES: dict[str, tuple[dict[str, tuple[str, str]], tuple[str, ...]]] = {
    "gamma": (GAMMA_SCHEMA, GAMMA_KEY),
    "status": (STATUS_SCHEMA, tuple(STATUS_SCHEMA)),
}

# array -> (dims, unit). An array of the name of a dim is a coordinate for every client, and arrays
# of a stream that share a dim must have one length: otherwise the stream cannot be read.
ARRAY_DIMS: dict[str, tuple[tuple[str, ...], str]] = {
    "c2": (("roi", "t1_s", "t2_s"), ""),
    "c2_denoised": (("roi", "t1_s", "t2_s"), ""),
    "c2_spread": (("roi", "t1_s", "t2_s"), ""),
    "c2_band": (("roi", "t_s", "lag_s"), ""),
    "c2_band_denoised": (("roi", "t_s", "lag_s"), ""),
    "c2_band_spread": (("roi", "t_s", "lag_s"), ""),
    "g2": (("roi", "delay_s"), ""),
    "g2_error": (("roi", "delay_s"), ""),
    "g2_denoised": (("roi", "delay_s"), ""),
    "heterogeneity": (("roi", "delay_s"), ""),
    "heterogeneity_error": (("roi", "delay_s"), ""),
    "delay_s": (("delay_s",), "s"),
    "total": (("t_s",), ""),
    "roi_mean": (("t_s", "roi"), ""),
    "saxs": (("radius",), ""),
    "n_pixels": (("radius",), ""),
    "q": (("radius",), "1/angstrom"),
    "image": (("row", "col"), ""),
    "roi_labels": (("row", "col"), ""),
    "roi": (("roi",), ""),
    "q_inv_angstrom": (("roi",), "1/angstrom"),
    "phi_deg": (("roi",), "deg"),
    "t1_s": (("t1_s",), "s"),
    "t2_s": (("t2_s",), "s"),
    "t_s": (("t_s",), "s"),
    "lag_s": (("lag_s",), "s"),
    "row": (("row",), "pixels"),
    "col": (("col",), "pixels"),
    "radius": (("radius",), "pixels"),
}
# array -> type of its entries; all others are float64
ARRAY_DTYPES = {
    **dict.fromkeys(("c2", "c2_denoised", "c2_spread", "image"), "<f4"),
    **dict.fromkeys(("c2_band", "c2_band_denoised", "c2_band_spread"), "<f4"),
    "roi_mean": "<f4",
    "roi_labels": "<i4",
    "roi": "<i8",
    "n_pixels": "<i8",
}


def json_safe(value: Any) -> Any:
    """Return `value` with nothing in it that JSON has no word for.

    Arrays, tuples and sets become lists, numbers that are not finite null, what is unknown text.
    """
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return value.replace("\0", "")  # PostgreSQL takes none
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        # Document schemas allow neither of the two characters in a key.
        return {
            str(k).replace(".", "_").replace("/", "_"): json_safe(v)
            for k, v in cast(Fields, value).items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [json_safe(item) for item in cast("Iterable[object]", value)]
    return str(value)


def start_document(info: RunInfo, *, uid: str, time: float, raw_path: str | None) -> Document:
    """Return the derived run's start document; `raw_path` is the raw run's container, if known."""
    start, scan_id = with_scan_number(info.start)
    copied, left_behind = copied_keys(start)
    began = info.start.get("time")
    xpcs = {
        "schema": SCHEMA_VERSION,
        "n_roi": len(info.roi),
        **{name: getattr(info, name) for name in INFO_FIELDS},
        "geometry": dataclasses.asdict(info.geometry),
        "raw_path": raw_path,
        "raw_time": began if isinstance(began, int | float) and abs(began) < 2**53 else None,
        "scan_id": scan_id,
        "not_copied": left_behind,
    }
    return {
        **copied,
        "uid": uid,
        "time": time,
        "original_run_uid": info.uid,
        "derived_from": [info.uid],
        "xpcs": json_safe(xpcs),
    }


def with_scan_number(start: Fields) -> tuple[Fields, str | None]:
    """Return a start document whose scan_id is a whole number, also where that was written as text.

    The schema of start documents knows no other one: of a scan_id that is no number the document
    lacks it, and its text is returned beside it.
    """
    given: Any = start.get("scan_id")
    if isinstance(given, np.generic):
        given = given.item()
    if given is None or type(given) is int:
        return start, None
    try:
        number = float(given) if not isinstance(given, bool) else math.nan
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if number.is_integer() and abs(number) < 2**53:
        return {**start, "scan_id": int(number)}, None
    without = {key: value for key, value in start.items() if key != "scan_id"}
    return without, one_line(str(given).replace("\0", ""), MOST_SCAN_ID)


def copied_keys(start: Fields) -> tuple[Document, list[str]]:
    """Return what a result copies of its raw run's start document, and the names of the rest.

    That is every key, so that a search finds results as it finds runs, less what is the result's
    own. Named are keys above MOST_KEY_BYTES, the largest of what is together above
    MOST_COPIED_BYTES, and what JSON or the schema of a start document does not take.
    """
    safe: dict[str, tuple[Any, int]] = {}
    left_behind: list[str] = []
    for key, given in start.items():
        name = key.replace(".", "_").replace("/", "_") if isinstance(key, str) else short_repr(key)
        if name in NOT_COPIED or name.startswith("tiled_"):
            continue
        try:
            value = json_safe(given)
            n_bytes = len(safe_json_dump({name: value}))
            schema_validators[DocumentNames.start].validate({"uid": "", "time": 0.0, name: value})
        except Exception:  # values of anybody's: a result must not be lost for one of them
            left_behind.append(name)
        else:
            safe[name] = value, n_bytes
    n_total = 0
    for name, (_, n_bytes) in sorted(safe.items(), key=lambda item: item[1][1]):
        n_total += n_bytes
        if n_bytes > MOST_KEY_BYTES or n_total > MOST_COPIED_BYTES:
            left_behind.append(name)
    copied = {name: value for name, (value, _) in safe.items() if name not in left_behind}
    return copied, [one_line(name, 80) for name in left_behind[:MOST_NAMED]]


def stop_document(
    end: RunEnd,
    *,
    start_uid: str,
    time: float,
    num_events: Mapping[str, int],
    summary: Fields | None = None,
) -> Document:
    """Return the stop document: a success only if the raw run and its analysis both were.

    `summary` is what is known of each ROI, for tables of many runs.
    """
    statuses = (end.raw_exit_status, end.analysis_exit_status)
    if all(status == "success" for status in statuses):
        exit_status = "success"
    else:
        exit_status = "abort" if "abort" in statuses else "fail"
    return {
        "uid": str(uuid.uuid4()),
        "time": time,
        "run_start": start_uid,
        "exit_status": exit_status,
        "reason": end.reason,
        "raw_exit_status": end.raw_exit_status,
        "analysis_exit_status": end.analysis_exit_status,
        "num_events": dict(num_events),
        "xpcs": json_safe({"schema": SCHEMA_VERSION, **(summary or {})}),
    }


def departures(name: str, document: Fields) -> list[str]:
    """Return where the document "start" or "stop" departs from the JSON schema of results."""
    validator = _validators()[name]
    return [
        one_line(f"{error.json_path}: {error.message}", 300)
        for error in validator.iter_errors(document)
    ]


@functools.cache
def _validators() -> dict[str, Any]:
    schema = json.loads((Path(__file__).parent / "result.schema.json").read_text("utf-8"))
    return {
        name: jsonschema.Draft202012Validator({**schema, "$ref": f"#/$defs/{name}"})
        for name in ("start", "stop")
    }


def descriptor_metadata(time: float, data_keys: Fields) -> Document:
    """Return what a stream's node keeps of its descriptor; name and run follow from its place."""
    return {
        "uid": str(uuid.uuid4()),
        "time": time,
        "data_keys": dict(data_keys),
        "configuration": {},
        "hints": {},
    }


def table_data_keys(schema: Mapping[str, tuple[str, str]]) -> Document:
    """Return the data keys of a table's columns."""
    keys: Document = {}
    for name, (kind, unit) in schema.items():
        _, dtype, dtype_numpy = _KINDS[kind]
        keys[name] = {
            "source": "xpcs_live_denoise",
            "object_name": OBJECT_NAME,
            "dtype": dtype,
            "dtype_numpy": dtype_numpy,
            "shape": [],
        }
        if unit:
            keys[name]["units"] = unit
    return keys


def time_units(time_unit: str) -> dict[str, Document]:
    """Return what data keys of each stream say of times and rates: in "s", or per "frame"."""
    of_streams = {
        "gamma": {name: unit for name, (_, unit) in GAMMA_SCHEMA.items()},
        "g2": {"delay_s": ARRAY_DIMS["delay_s"][1]},
    }
    units = {"s": time_unit, "1/s": f"1/{time_unit}"}
    return {
        stream: {name: {"units": units[unit]} for name, unit in keys.items() if unit in units}
        for stream, keys in of_streams.items()
    }


def array_data_key(name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Document:
    """Return the data key of an array that Tiled itself stores."""
    dims, unit = ARRAY_DIMS[name]
    key: Document = {
        "source": "xpcs_live_denoise",
        "object_name": OBJECT_NAME,
        "dtype": "array",
        "dtype_numpy": dtype.str,
        "shape": list(shape),
        "dims": list(dims),
        # Without this mark documents() would take the array for one entry per event.
        "external": "TILED:",
    }
    if unit:
        key["units"] = unit
    return key


def pixel_centres(length: int, binning: int) -> FloatArray:
    """Return where the pixels of a binned edge lie, in pixels of the frames ROIs are drawn on."""
    return (np.arange(length) + 0.5) * binning - 0.5


def bin_centres(n_bins: int, frames_per_bin: int, n_frames: int) -> FloatArray:
    """Return where the bins of a map lie, in frames; the last may hold fewer than the others."""
    first = np.arange(n_bins) * float(frames_per_bin)
    last = np.minimum(first + frames_per_bin, np.maximum(n_frames, first + 1)) - 1
    return (first + last) / 2


def arrow_schema(schema: Mapping[str, tuple[str, str]]) -> Any:
    """Return the table's columns, with `seq_num`, `time` and the timestamps of every column."""
    fields = [("seq_num", pa.int64()), ("time", pa.float64())]
    fields += [(name, _KINDS[kind][0]) for name, (kind, _) in schema.items()]
    fields += [(f"ts_{name}", pa.float64()) for name in schema]
    return pa.schema(fields)


def status_columns(status: Status) -> dict[str, list[Any]]:
    """Return a status as one row of the `status` stream; lists become JSON text."""
    row = {name: getattr(status, name) for name in STATUS_SCHEMA}
    row["heterogeneity"] = [dataclasses.asdict(roi) for roi in status.heterogeneity]
    for name in ("skipped", "contrast", "baseline", "contrast_estimates", "heterogeneity"):
        row[name] = json.dumps(json_safe(row[name]))
    return {name: [value] for name, value in row.items()}
