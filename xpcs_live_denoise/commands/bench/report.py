"""What was measured, for people and as JSON, with what a reader needs to know of the machine."""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
import itertools
import math
import os
import platform
from collections.abc import Sequence
from pathlib import Path

from threadpoolctl import threadpool_info

from xpcs_live_denoise.records.types import Document

from .case import Case
from .contest import Row

LIBRARIES = (
    *("xpcs-live-denoise", "numpy", "scipy", "numba", "torch", "h5py", "hdf5plugin"),
    *("bluesky", "tiled", "scikit-beam", "xpcs-correlator"),
)
EXPLANATION = (
    "Medians of repetitions in turns, (least - most). x: how many times as fast, or as small, the "
    "first line of the section is."
)


def machine() -> Document:
    """Return what this machine is and how busy it was."""
    cores = (
        os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    )
    return {
        "system": platform.platform(),
        "processor": _processor(),
        "cores": len(cores),
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "blas": sorted({f"{one['internal_api']} {one['version']}" for one in threadpool_info()}),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def versions() -> dict[str, str | None]:
    """Return the versions of what takes part; None where it is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


def document(case: Case, rows: Sequence[Row], machine: Document, *, complete: bool) -> Document:
    """Return everything as JSON takes it; what was not measured is null."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "complete": complete,
        "machine": machine,
        "versions": versions(),
        "case": dataclasses.asdict(case),
        "rows": [
            {**dataclasses.asdict(row), "median": row.median if row.values else None}
            for row in rows
        ],
    }


def table(rows: Sequence[Row], machine: Document) -> str:
    """Return what people read, a line for each number."""
    load = machine["load_average"]
    busy = f", load {load[0]:.1f}" if load else ""
    lines = [f"{machine['processor']}, {machine['cores']} cores{busy}", EXPLANATION]
    for title, of_section in itertools.groupby(rows, key=lambda row: row.section):
        lines += ["", title]
        last = ""
        for row in of_section:
            lines.append(_line(row, row.contestant if row.contestant != last else ""))
            last = row.contestant
    return "\n".join(line.rstrip() for line in lines)


def _line(row: Row, name: str) -> str:
    if not row.values:
        return f"  {name:<33} {row.note}"
    value = f"{number(row.median)} {row.unit}"
    spread = ""
    if len(row.values) > 1:
        spread = f"({number(min(row.values))} - {number(max(row.values))})"
    ratio = "" if row.ratio is None else f"{number(row.ratio)} x"
    about = row.note if name else ""
    return f"  {name:<33} {row.quantity:<27} {value:>16} {spread:<16} {ratio:>8}  {about}"


def number(value: float) -> str:
    """Return a number with three digits that count, or all before the point."""
    return f"{value:,.0f}" if 100 <= abs(value) < math.inf else f"{value:.3g}"
