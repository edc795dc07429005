"""What a finished result holds, wherever it is kept: what every exported file is written from."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from xpcs_live_denoise import views
from xpcs_live_denoise.catalog import TABLES, arrow_schema, start_document
from xpcs_live_denoise.errors import InvalidInputError, ResultNotFoundError
from xpcs_live_denoise.records.results import GAMMA_COLUMNS
from xpcs_live_denoise.records.types import Array, Document, FloatArray

from .two_time import mirrored, raw_where_unwritten

if TYPE_CHECKING:
    import pandas as pd

    from xpcs_live_denoise.catalog import Node
    from xpcs_live_denoise.records.results import Result

JSON_COLUMNS = ("skipped", "contrast", "baseline", "contrast_estimates", "heterogeneity")
# What stands for a value of each kind that an earlier version did not store.
NOTHING = {"float": math.nan, "int": 0, "bool": False, "str": ""}
ROWS = "internal"  # the table of a stream


class StoredArray(Protocol):
    """An array that is read in parts: of numpy, of Tiled's client, of Tiled's server."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Length along each dim."""
        ...

    def __getitem__(self, box: Any, /) -> Any:
        """Return a part."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """A finished result.

    Attributes
    ----------
    start, stop
        Documents of the derived run, as `catalog.schema` makes them. Of a result that never was in
        Tiled `original_run_uid` is "", and there is no stop.
    n_frames, frames_per_bin, binning
        Frames of the series, in a bin of the map, and pixels along an edge of one of the image.
    band_start
        The frame that the first row of the band is of.
    arrays
        "stream/array" -> array.
    gamma
        The final rows.
    status
        The last row of the status, lists decoded.
    """

    start: Document
    stop: Document
    n_frames: int
    frames_per_bin: int
    binning: int
    arrays: Mapping[str, StoredArray]
    gamma: pd.DataFrame
    status: Document
    band_start: int = 0

    @property
    def xpcs(self) -> Document:
        """How the run was analysed."""
        return self.start["xpcs"]

    def read(self, name: str) -> Array:
        """Return a whole array; for those that are small."""
        return np.asarray(self.arrays[name][...])

    def c2(self, roi: int) -> FloatArray:
        """Return the map of the ROI with this index, (m, m)."""
        return mirrored(np.asarray(self.arrays["two_time/c2"][roi]))

    def denoised(self, roi: int) -> FloatArray:
        """Return the denoised C2 of the ROI with this index, (n, n): raw where no window was."""
        values = np.asarray(self.arrays["two_time/c2_denoised"][roi])
        return raw_where_unwritten(values, lambda: self.c2(roi))

    @classmethod
    def of_run(
        cls,
        metadata: Document,
        arrays: Mapping[str, StoredArray],
        tables: Mapping[str, Any],
        of_nodes: Mapping[str, Mapping[str, Any]],
    ) -> Contents:
        """Return those of a derived run in Tiled.

        `metadata` is the run's, `tables` what its streams have as rows, `of_nodes` the metadata of
        each array. Raises ResultNotFoundError when there is no final result; says why.
        """
        check_finished(metadata, has_c2="two_time/c2" in arrays)
        rows = {name: complete_table(name, tables.get(name)) for name in TABLES}
        status: Document = rows["status"].iloc[-1].to_dict() if len(rows["status"]) else {}
        status |= {name: json.loads(status[name]) for name in JSON_COLUMNS if name in status}
        return cls(
            start=metadata["start"],
            stop=metadata["stop"],
            n_frames=metadata["n_frames"],
            frames_per_bin=of_nodes["two_time/c2"].get("frames_per_bin", 1),
            binning=of_nodes.get("image/image", {}).get("binning", 1),
            arrays=arrays,
            gamma=rows_that_count(rows["gamma"]),
            status=status,
        )

    @classmethod
    def of_client(cls, run: Node, metadata: Document) -> Contents:
        """Return those of a derived run that a plain client of Tiled has."""
        arrays: dict[str, StoredArray] = {}
        of_nodes: dict[str, Mapping[str, Any]] = {}
        tables: dict[str, Any] = {}
        for stream in run:
            nodes = getattr(run[stream], "base", run[stream])
            for name in nodes:
                node = nodes[name]
                if name == ROWS:
                    tables[stream] = node.read()
                else:
                    arrays[f"{stream}/{name}"] = node
                    of_nodes[f"{stream}/{name}"] = node.metadata
        return cls.of_run(metadata, arrays, tables, of_nodes)

    @classmethod
    def of_result(cls, result: Result, band: Mapping[str, StoredArray] | None = None) -> Contents:
        """Return those of a result of `analyse`. Raises InvalidInputError for one without `info`.

        `band` is all of it where the result has its last rows alone: "c2", "denoised", "spread".
        """
        if (info := result.info) is None:
            raise InvalidInputError(
                "Result: got one that does not say how it was made (`info` is None); expected one "
                "that `analyse` or `analyse_c2` returned. Save that one."
            )
        values, frames_per_bin = result.map
        arrays: dict[str, StoredArray | None] = {"two_time/c2": values}  # None: not there
        if result.denoised is not None:
            arrays["two_time/c2_denoised"] = result.denoised.c2
            arrays["two_time/c2_spread"] = result.denoised.spread
        rows = band or {name: getattr(result.band, name) for name in ("c2", "denoised", "spread")}
        for name, suffix in (("c2", ""), ("denoised", "_denoised"), ("spread", "_spread")):
            arrays[f"two_time/c2_band{suffix}"] = rows.get(name)
        if len(result.g2.delay_s):
            arrays |= {f"g2/{name}": getattr(result.g2, name) for name in type(result.g2).__slots__}
        if (picture := result.picture) is not None:
            arrays |= {"image/image": picture.mean, "image/roi_labels": picture.labels}
        if (saxs := result.saxs) is not None:
            arrays |= {"saxs/radius": saxs.radius_px, "saxs/q": saxs.q_inv_angstrom}
            arrays |= {"saxs/saxs": saxs.mean, "saxs/n_pixels": saxs.n_pixels}
        if (counted := result.intensity) is not None:
            arrays |= {"intensity/total": counted.total, "intensity/roi_mean": counted.roi_mean}
        gamma = result.gamma
        return cls(
            start=start_document(info, uid="", time=math.nan, raw_path=None),
            stop={},
            n_frames=result.band.stop,
            frames_per_bin=frames_per_bin,
            binning=1 if picture is None else picture.binning,
            arrays={name: array for name, array in arrays.items() if array is not None},
            gamma=rows_that_count(gamma.to_pandas()),
            status={name: getattr(result.status, name) for name in type(result.status).__slots__},
            band_start=0 if band else result.band.start,
        )


def check_finished(metadata: Document, *, has_c2: bool) -> None:
    """Raise ResultNotFoundError for a run without a final result; says what to do."""
    uid, stop = metadata["start"]["uid"], metadata.get("stop")
    n_frames = metadata.get("n_frames", 0)
    if stop is None:
        raise ResultNotFoundError(
            f"Result {uid}: its run is still on, {n_frames} frames so far; only a finished one is "
            "exported. Wait for its end; until then .c2(), .gamma_table() and .plot() show what "
            "is there. If nobody measures any more, `xpcs-live-denoise deliver` or `replay` "
            "completes it."
        )
    ended = stop.get("analysis_exit_status", stop.get("exit_status"))
    if ended != "success" or not has_c2 or not n_frames:
        reason = stop.get("reason") or f"{n_frames} frames, exit status {ended!r}"
        raise ResultNotFoundError(
            f"Result {uid}: the analysis of its run failed, there is nothing to export: {reason} "
            "Remove the cause and compute the run again with `xpcs-live-denoise replay`; what "
            "there is can be read with .status_table() and .gamma_table()."
        )


def complete_table(stream: str, table: Any) -> Any:
    """Return the rows of a stream in order, with all columns; of the same types without rows.

    A table of an earlier version lacks the newest columns: nothing is known.
    """
    columns = TABLES[stream][0]
    names = ["seq_num", "time", *columns]
    empty: Any = arrow_schema(columns).empty_table().to_pandas()[names]
    if table is None:
        return empty
    for name in set(names) - set(table):
        table[name] = "[]" if name in JSON_COLUMNS else NOTHING[columns[name][0]]
    # A retried append may have doubled rows.
    table = table[names].astype(empty.dtypes).drop_duplicates("seq_num", keep="last")
    return table.sort_values("seq_num")


def rows_that_count(table: Any) -> Any:
    """Return the rows of Gamma(t) that no better one has replaced, sorted."""
    order = table["seq_num"].to_numpy(np.int64) if "seq_num" in table else None
    table = table.iloc[views.rows_that_count(views.table_from_columns(table), order)]
    table = table.sort_values(["roi", "source", "width", "age_frame"], kind="stable")
    return table[list(GAMMA_COLUMNS)]
