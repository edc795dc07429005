"""Documents as nobody should send them: a proper run, and what hypothesis makes of it."""

from __future__ import annotations

import copy
import uuid
from typing import Any

import numpy as np
from hypothesis import strategies as st

SHAPE = (30, 40)
KEY = "cam_image"
HUGE = 10**15

PATHS = (
    "../../../../etc/passwd",
    "/etc/passwd",
    "/dev/zero",
    "/proc/self/mem",
    "/proc/self/environ",
    "~root/.ssh/id_rsa",
    "file://localhost/dev/zero",
    "file://localhost/../../etc/passwd",
    "file:///%2e%2e/%2e%2e/etc/passwd",
    "file://other.host/share/a.h5",
    "http://127.0.0.1:1/a.h5",
    "tiled:../../secret",
    "a\0b",
    "%s%s%9999999999d",
    "a/" * 3000,
    "",
)
NAMES = (
    "start",
    "descriptor",
    "event",
    "event_page",
    "resource",
    "datum",
    "datum_page",
    "stream_resource",
    "stream_datum",
    "stop",
)


class Odd:
    """A value that cannot be shown, compared or counted."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no comparison")

    def __len__(self) -> int:
        raise RuntimeError("no length")

    __hash__ = None  # type: ignore[assignment]


def deep(depth: int) -> Any:
    value: Any = 1
    for level in range(depth):
        value = [value] if level % 2 else {"data": value}
    return value


def endless() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from((0, -1, 1, 2, HUGE, -HUGE, 2**63, 10**400, float("nan"), float("inf"), 1e308)),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(PATHS),
    st.binary(max_size=8),
)
oddities = st.one_of(
    st.builds(Odd),
    st.builds(deep, st.sampled_from((40, 200, 5000))),
    st.builds(endless),
    st.sampled_from(("x" * 1_000_000, ("tuple",), frozenset({1}))),
    st.builds(
        np.zeros,
        st.sampled_from(((), (0,), (3,), (0, 4), (2, 30, 40), (1, 1, 1, 1), (2000, 2000))),
        st.sampled_from(("f8", "c16", "S3", "O", "M8[s]", "bool", [("a", "i4")])),
    ),
    st.builds(lambda: np.full(SHAPE, np.nan)),
    st.builds(lambda: np.broadcast_to(np.uint16(1), (HUGE, *SHAPE))),
    st.builds(lambda: np.broadcast_to(np.uint8(1), (10**7, 10**7))),
)
shapes = st.lists(st.sampled_from((0, -1, 1, 30, 40, HUGE, 10**30, None, "30")), max_size=5)
values = st.recursive(
    st.one_of(scalars, oddities, shapes),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.sampled_from((KEY, "data", "uid", "shape", "start", "stop", "a")), inner, max_size=4
        ),
    ),
    max_leaves=8,
)


def proper_run(form: str, n_frames: int = 6) -> list[tuple[str, dict[str, Any]]]:
    """Return the documents of a run whose frames come inline, as assets or as a stream."""
    run, stream, resource = (str(uuid.uuid4()) for _ in range(3))
    external = {
        "inline": {},
        "asset": {"external": "FILESTORE:"},
        "stream": {"external": "STREAM:"},
    }
    key = {"source": "test", "dtype": "array", "shape": list(SHAPE), **external[form]}
    configuration = {
        "data": {"cam_cam_num_images": 6, "cam_beam_center_x": 3.0, "cam_cam_acquire_period": 0.01},
        "timestamps": {},
        "data_keys": {},
    }
    documents: list[tuple[str, dict[str, Any]]] = [
        ("start", {"uid": run, "time": 0.0, "scan_id": 1, "num_points": 6, "detectors": ["cam"]}),
        (
            "descriptor",
            {
                "uid": stream,
                "run_start": run,
                "time": 0.0,
                "name": "primary",
                "data_keys": {KEY: key},
                "configuration": {"cam": configuration},
                "hints": {},
                "object_keys": {"cam": [KEY]},
            },
        ),
    ]
    frames = np.random.default_rng(1).poisson(3.0, (n_frames, *SHAPE)).astype("u2")
    if form == "asset":
        documents.append(("resource", _resource(run, resource)))
    if form == "stream":
        documents.append(("stream_resource", _stream_resource(run, resource)))
        datum = {
            "uid": f"{resource}/0",
            "stream_resource": resource,
            "descriptor": stream,
            "indices": {"start": 0, "stop": 6},
            "seq_nums": {"start": 1, "stop": 7},
        }
        documents.append(("stream_datum", datum))
    for i in range(n_frames if form != "stream" else 0):
        value: Any = frames[i]
        if form == "asset":
            value = f"{resource}/{i}"
            datum = {"datum_id": value, "resource": resource, "datum_kwargs": {"point_number": i}}
            documents.append(("datum", datum))
        event = {
            "uid": str(uuid.uuid4()),
            "descriptor": stream,
            "seq_num": i + 1,
            "time": 0.0,
            "data": {KEY: value},
            "timestamps": {KEY: 0.0},
            "filled": {KEY: False} if form == "asset" else {},
        }
        documents.append(("event", event))
    stop = {"uid": str(uuid.uuid4()), "run_start": run, "time": 1.0, "exit_status": "success"}
    documents.append(("stop", {**stop, "reason": "", "num_events": {"primary": n_frames}}))
    return documents


def _resource(run: str, uid: str) -> dict[str, Any]:
    return {
        "uid": uid,
        "run_start": run,
        "spec": "AD_HDF5",
        "root": "/",
        "resource_path": "nowhere/a.h5",
        "resource_kwargs": {"frame_per_point": 1},
        "path_semantics": "posix",
    }


def _stream_resource(run: str, uid: str) -> dict[str, Any]:
    return {
        "uid": uid,
        "run_start": run,
        "data_key": KEY,
        "mimetype": "application/x-hdf5",
        "uri": "file://localhost/nowhere/a.h5",
        "parameters": {"dataset": "/entry/data/data", "swmr": False},
    }


def _places(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [here] if here else []
    if len(here) < 5 and isinstance(value, dict):
        for key, inner in value.items():
            found += _places(inner, (*here, key))
    elif len(here) < 5 and isinstance(value, list):
        for index, inner in enumerate(value[:5]):
            found += _places(inner, (*here, index))
    return found


def _changed(doc: Any, place: tuple[Any, ...], how: str, value: Any) -> Any:
    """Return a copy that differs in one place."""
    first, *rest = place
    changed = copy.copy(doc)
    if rest:
        changed[first] = _changed(doc[first], tuple(rest), how, value)
    elif how == "replace":
        changed[first] = value
    elif how == "remove":
        del changed[first]
    elif isinstance(changed, dict):
        changed["extra"] = value
    return changed


@st.composite
def spoiled_runs(draw: st.DrawFn) -> list[tuple[Any, Any]]:
    """A run of which one to three documents are changed, left out, repeated or moved."""
    documents: list[tuple[Any, Any]] = list(
        proper_run(draw(st.sampled_from(("inline", "asset", "stream"))))
    )
    for _ in range(draw(st.integers(1, 3))):
        index = draw(st.integers(0, len(documents) - 1))
        name, doc = documents[index]
        what = draw(
            st.sampled_from(("change", "change", "change", "drop", "twice", "later", "odd"))
        )
        if what == "change" and isinstance(doc, dict) and (places := _places(doc)):
            place = draw(st.sampled_from(places))
            how = draw(st.sampled_from(("replace", "replace", "remove", "extend")))
            documents[index] = name, _changed(doc, place, how, draw(values))
        elif what == "drop" and len(documents) > 1:
            del documents[index]
        elif what == "twice":
            documents.insert(index, (name, doc))
        elif what == "later":
            documents.insert(draw(st.integers(0, len(documents) - 1)), documents.pop(index))
        else:
            odd_name = st.one_of(st.sampled_from((*NAMES, "emit", "__init__", "__class__")), values)
            documents[index] = draw(odd_name), draw(values)
    return documents
