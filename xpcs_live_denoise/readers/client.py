"""How results are read again: XPCSResult, the client of one derived run, and `results`."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from bluesky_tiled_plugins.clients.bluesky_run import BlueskyRunV3
from tiled.client.constructors import from_context
from tiled.queries import Eq

from xpcs_live_denoise import views
from xpcs_live_denoise.errors import InvalidInputError, ResultNotFoundError
from xpcs_live_denoise.numerics.estimator.model_image import c2_model, c2_residual
from xpcs_live_denoise.records.results import GAMMA_COLUMNS, GammaTable, Picture
from xpcs_live_denoise.records.run import RoiHeterogeneity, Status
from xpcs_live_denoise.records.types import Array, Document, FloatArray

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.figure import Figure

    from xpcs_live_denoise.catalog import Node
    from xpcs_live_denoise.window import RunView

RUN_CATALOG = "CatalogOfBlueskyRuns"
RESULT_SPEC = "XPCSResult"
JSON_COLUMNS = ("skipped", "contrast", "baseline", "contrast_estimates", "heterogeneity")
G2_COLUMNS = ("g2", "g2_error", "g2_denoised", "heterogeneity", "heterogeneity_error")


class XPCSResult(BlueskyRunV3):
    """One analysis of one run: a BlueskyRun with the questions of XPCS.

    Tiled hands it out for every node of the spec `XPCSResult`. The streams are there as in any
    run, `result["gamma"].read()`, which needs nothing of this class. A result whose run is still
    being taken is read as it stands at each call.
    """

    @property
    def start(self) -> Document:
        """The start document."""
        metadata: Any = self.metadata
        return metadata["start"]

    @property
    def xpcs(self) -> Document:
        """How the run was analysed: the entry `xpcs` of the start document."""
        return self.start["xpcs"]

    @property
    def n_frames(self) -> int:
        """Frames in C2 so far."""
        if "stop" not in self.metadata:
            self.refresh()
        metadata: Any = self.metadata
        return metadata.get("n_frames", 0)

    def c2(self, roi: int | None = None, denoised: bool = True) -> xr.DataArray:
        """Return the two-time correlation.

        Parameters
        ----------
        roi
            Label of one ROI; default: all.
        denoised
            The denoised C2, which holds raw values where no window reached, or the raw one.

        Returns
        -------
        xarray.DataArray
            Dims (roi, t1, t2), or (t1, t2) for one ROI; coordinates `t1_s`, `t2_s` (time of the
            frame, s), `roi` and `q_inv_angstrom`. NaN where nothing was measured.

        Raises
        ------
        InvalidInputError
            For a label that the result does not have.
        ResultNotFoundError
            When there is no (denoised) C2; says why.
        """
        n_frames = self.n_frames
        which = self._index(roi)
        window = (which, slice(0, n_frames), slice(0, n_frames))
        raw = mirrored(np.asarray(self._array("two_time", "c2", n_frames)[window]))
        if not denoised:
            return self._labelled(raw, roi, "c2")
        values = np.asarray(self._array("two_time", "c2_denoised", n_frames)[window])
        # Tiled reads 0 where nothing was written, and a denoised C2 is never exactly 0.
        return self._labelled(np.where(values == 0, raw, values), roi, "c2_denoised")

    def c2_model(self, roi: int | None = None) -> xr.Dataset:
        """Return C2 as the path of Gamma explains it, and what that leaves of the measured one.

        Both are made from the rows of source "path"; while the run is on from those so far.

        Parameters
        ----------
        roi
            Label of one ROI; default: all.

        Returns
        -------
        xarray.Dataset
            `model` (see `xpcs_live_denoise.c2_model`) and `residual`, raw less model in units of
            the noise of an entry (`c2_residual`); dims and coordinates as of `c2`. NaN on the
            diagonal, and for a ROI without a path.

        Raises
        ------
        InvalidInputError
            For a label that the result does not have.
        ResultNotFoundError
            When there is no C2, or no ROI has a path; says why.
        """
        import xarray as xr

        raw = self.c2(roi, denoised=False)
        labels, table = self.xpcs["roi"] if roi is None else [roi], self.gamma_table("path")
        measured = raw.values.astype(np.float64).reshape(len(labels), self.n_frames, -1)
        model, residual = np.full((2, *measured.shape), np.nan)
        failures: list[InvalidInputError] = []
        for index, label in enumerate(labels):
            try:
                model[index] = c2_model(
                    table,
                    label,
                    frame_time_s=self.xpcs["frame_time_s"],
                    n_frames=measured.shape[-1],
                )
            except InvalidInputError as error:
                failures.append(error)
                continue
            residual[index] = c2_residual(measured[index], model[index])
        if len(failures) == len(labels):
            raise ResultNotFoundError(f"Result {self.start['uid']}: {failures[0]}")
        return xr.Dataset(
            {
                name: raw.copy(data=values.reshape(raw.shape))
                for name, values in (("model", model), ("residual", residual))
            }
        )

    def gamma_table(
        self, source: str | Sequence[str] | None = None, final: bool = True
    ) -> pd.DataFrame:
        """Return Gamma(t), one fit a row, with the columns of GammaTable.

        Parameters
        ----------
        source
            One or several of "raw", "denoised", "series_raw", ...; default: all.
        final
            One row per ROI, age, source and width: the final one, else the newest; a final row
            also replaces provisional ones of another width.
            False: every row that was ever published, with `seq_num` and `time` (s since 1970), in
            that order.

        Returns
        -------
        pandas.DataFrame
            Sorted by ROI, source, width and age; empty where nothing was fitted yet.
        """
        table: Any = self._table("gamma", ["seq_num", "time", *GAMMA_COLUMNS])
        if source is not None:
            wanted = [source] if isinstance(source, str) else list(source)
            table = table.loc[table["source"].isin(wanted)]
        if not final:
            return table.reset_index(drop=True)
        order = table["seq_num"].to_numpy(np.int64)
        table = table.iloc[views.rows_that_count(views.table_from_columns(table), order)]
        table = table.sort_values(["roi", "source", "width", "age_frame"], kind="stable")
        return table[list(GAMMA_COLUMNS)].reset_index(drop=True)

    def g2_table(self) -> pd.DataFrame:
        """Return g2 of the whole series, one (ROI, lag) a row.

        Returns
        -------
        pandas.DataFrame
            Columns `roi`, `q_inv_angstrom`, `delay_s`, `g2`, `g2_error`, `g2_denoised` (NaN where
            nothing was denoised), `heterogeneity` and `heterogeneity_error`: the variance of C2
            along its diagonal within 65 ages and beyond its noise, in units of beta^2, one value
            for all lags of a bin, NaN where nobody looked. Empty before the run has ended.
        """
        import pandas as pd

        if "g2" not in self.base:
            return pd.DataFrame(columns=["roi", "q_inv_angstrom", "delay_s", *G2_COLUMNS])
        stream = self.base["g2"].base
        delay_s, labels = stream["delay_s"].read(), self.xpcs["roi"]
        values: Document = {
            "roi": np.repeat(labels, len(delay_s)),
            "q_inv_angstrom": np.repeat(self._q(), len(delay_s)),
            "delay_s": np.tile(delay_s, len(labels)),
        }
        nothing = np.full(len(values["roi"]), np.nan)
        for name in G2_COLUMNS:
            values[name] = stream[name].read().ravel() if name in stream else nothing
        return pd.DataFrame(values)

    def image(self) -> tuple[xr.DataArray, xr.DataArray]:
        """Return the detector as it looked, and its ROIs.

        Returns
        -------
        tuple of xarray.DataArray
            The mean over the frames looked at (float32) and the ROI under each pixel (int32, 0 for
            none), dims (row, col); coordinates in pixels of the detector, `binning` and `n_frames`
            as attributes.

        Raises
        ------
        ResultNotFoundError
            When there is no picture.
        """
        import xarray as xr

        run = self.base
        stream = getattr(run["image"], "base", run["image"]) if "image" in run else {}
        if "image" not in stream or "roi_labels" not in stream:
            raise ResultNotFoundError(
                f"Result {self.start['uid']}: no picture of the detector; expected the stream "
                "`image`, which a live run has after its first frames and an offline one never."
            )
        node = stream["image"]
        binning = node.metadata.get("binning", 1)
        mean, labels = node.read(), stream["roi_labels"].read()
        # The centre of each binned pixel, in pixels of the frames that the ROIs are drawn on.
        coords: Document = {
            name: (name, (np.arange(n) + 0.5) * binning - 0.5, {"units": "pixels"})
            for name, n in zip(("row", "col"), mean.shape, strict=True)
        }
        attrs = {"binning": binning, "n_frames": node.metadata.get("n_frames", 0)}
        return (
            xr.DataArray(mean, dims=("row", "col"), coords=coords, name="image", attrs=attrs),
            xr.DataArray(
                labels, dims=("row", "col"), coords=coords, name="roi_labels", attrs=attrs
            ),
        )

    def status_table(self) -> pd.DataFrame:
        """Return the status rows, one a publication; `time` in s since 1970, lists decoded."""
        columns = ["seq_num", "time", *Status.__slots__]
        table: Any = self._table("status", columns)
        return table[columns[1:]].assign(
            **{name: [json.loads(text) for text in table[name]] for name in JSON_COLUMNS}
        )

    def raw(self) -> Node:
        """Return the raw run that this result was derived from.

        Raises
        ------
        ResultNotFoundError
            When it is not where the result says, nor in a catalog of runs beside it.
        """
        uid = self.start["original_run_uid"]
        root = from_context(self.context)
        stored = self.xpcs.get("raw_path")
        here = tuple(self.path_parts[:-2])
        if stored:
            places = [tuple(part for part in stored.split("/") if part)]
        else:
            beside = root[here] if here else root
            places = [(*here, key) for key in _catalogs_of_runs(beside)]
        for place in places:
            try:
                return root[(*place, uid)]
            except KeyError:
                continue
        raise ResultNotFoundError(
            f"Raw run {uid}: not found in {_names(places)}. Set settings.tiled.raw_path to the "
            "container that holds the raw runs."
        )

    def plot(self, roi: int | None = None, *, model: bool = False) -> Figure:
        """Return a matplotlib figure: detector, C2 raw and denoised, g2, Gamma(t), Gamma(q).

        Parameters
        ----------
        roi
            Label of the ROI that is shown; default: the middle one.
        model
            Show the path's image of C2 (see `c2_model`) in the place of the denoised one.

        Raises
        ------
        ResultNotFoundError
            With `model`, when the ROI has no path.
        MissingDependencyError
            Without matplotlib.
        """
        from xpcs_live_denoise.window import plot_view

        labels = self.xpcs["roi"]
        label = labels[views.default_roi(labels)] if roi is None else roi
        return plot_view(result_view(self, label, model=model))

    def has(self, stream: str, array: str) -> bool:
        """Whether an array was computed, for example ("two_time", "c2_denoised")."""
        return stream in self.base and array in self.base[stream].base

    def _index(self, roi: int | None) -> slice | int:
        """Return the index of a ROI label on the first axis; of all of them for None."""
        labels = self.xpcs["roi"]
        if roi is None:
            return slice(None)
        if roi not in labels:
            raise InvalidInputError(
                f"ROI {roi!r}: not in this result; expected one of the labels {list(labels)}."
            )
        return labels.index(roi)

    def _q(self) -> FloatArray:
        """Return q of every ROI, inverse Angstrom; NaN where unknown."""
        return np.array(self.xpcs["q_inv_angstrom"], dtype=float)

    def _labelled(self, values: Array, roi: int | None, name: str) -> xr.DataArray:
        """Return C2 of all ROIs, (n_roi, n, n), or of one, (n, n), with dims and coordinates."""
        import xarray as xr

        times = np.arange(values.shape[-1]) * self.xpcs["frame_time_s"]
        which = self._index(roi)
        labels, q = np.array(self.xpcs["roi"])[which], self._q()[which]
        coords: Document = {
            "t1_s": ("t1", times),
            "t2_s": ("t2", times),
            "roi": labels,
            "q_inv_angstrom": q if roi is not None else ("roi", q),
        }
        dims = ("t1", "t2") if roi is not None else ("roi", "t1", "t2")
        array = xr.DataArray(values, dims=dims, coords=coords, name=name)
        for coord in ("t1_s", "t2_s"):
            array[coord].attrs["units"] = "s"
        array["q_inv_angstrom"].attrs["units"] = "1/angstrom"
        return array

    def _array(self, stream: str, name: str, n_frames: int) -> Node:
        if n_frames and self.has(stream, name):
            return self.base[stream].base[name]
        status = self.status_table()
        message = status["message"].iloc[-1] if len(status) else "the analysis has just begun"
        hint = "; the raw one is c2(denoised=False)" if name != "c2" else ""
        raise ResultNotFoundError(
            f"Result {self.start['uid']}: no {stream}/{name} after {n_frames} frames"
            f"{hint}. Last status: {message or 'no message'}"
        )

    def _table(self, stream: str, columns: list[str]) -> pd.DataFrame:
        import pandas as pd

        if not self.has(stream, "internal"):
            return pd.DataFrame(columns=columns)
        node = self.base[stream].base["internal"]
        # A table of an earlier version lacks the newest columns: nothing is known.
        table = node.read([name for name in columns if name in node.columns])
        table = table.reindex(columns=columns)
        for name, nothing in (("caution", ""), ("heterogeneity", "[]")):
            if name in columns and name not in node.columns:
                table[name] = nothing
        # A retried append may have doubled rows.
        return table.drop_duplicates("seq_num", keep="last").sort_values("seq_num")


def results(catalog: Node, raw_uid: str, *, path: str = "processed") -> XPCSResult:
    """Return the newest result that was derived from a run, a finished one before all others.

    Parameters
    ----------
    catalog
        Any Tiled client of the server: of the root, of the container with the derived runs, or of
        the container with the raw runs. databroker 2's clients are Tiled clients and serve as well.
    raw_uid
        Uid of the raw run.
    path
        Container of the derived runs, looked for from `catalog` upwards to the root.

    Raises
    ------
    ResultNotFoundError
        When nothing was derived from the run; says where it was looked for.
    """
    searched: list[tuple[str, ...]] = []
    for container in _candidates(catalog, path):
        searched.append(tuple(container.path_parts))
        derived = container.search(Eq("start.original_run_uid", raw_uid)).values()
        # Other tools name a run's origin in the same way: only our own spec is a result.
        found = [run for run in derived if any(spec.name == RESULT_SPEC for spec in run.specs)]
        if found:
            best = max(found, key=lambda r: ("stop" in r.metadata, r.metadata["start"]["time"]))
            return _as_result(best)
    raise ResultNotFoundError(
        f"Run {raw_uid}: no result in {_names(searched)}. Expected a run that was taken while "
        "LiveDenoise was subscribed; give path=... if results lie elsewhere."
    )


def _candidates(catalog: Node, path: str) -> Iterator[Node]:
    yield catalog
    below = tuple(part for part in path.split("/") if part)
    root = from_context(catalog.context)
    here = tuple(catalog.path_parts)
    for depth in range(len(here), -1, -1):
        place = (*here[:depth], *below)
        try:
            yield root[place]
        except KeyError:
            continue


def _as_result(client: Node) -> XPCSResult:
    if isinstance(client, XPCSResult):
        return client
    # A client that was made before this package was installed knows no special class.
    result: Any = XPCSResult(
        client.context, item=client.item, structure_clients=client.structure_clients
    )
    return result


def _catalogs_of_runs(container: Node) -> list[str]:
    return [
        key
        for key, child in container.items()
        if any(spec.name == RUN_CATALOG for spec in child.specs)
    ]


def _names(places: Sequence[Sequence[str]]) -> str:
    return ", ".join(f"/{'/'.join(place)}" for place in dict.fromkeys(map(tuple, places))) or "/"


def mirrored(lower: Array) -> Array:
    """Return the symmetric array of a lower triangle; what is above the diagonal is ignored."""
    below = np.tril(lower, -1)
    return np.tril(lower) + np.swapaxes(below, -1, -2)


def result_view(result: XPCSResult, label: int, *, model: bool = False) -> RunView:
    """Return all that a figure shows of the ROI with this label; `model`: the path's C2, too."""
    from xpcs_live_denoise.window import MOST_EDGE, RunView

    xpcs, start = result.xpcs, result.start
    labels, n_frames = list(xpcs["roi"]), result.n_frames
    roi, frame_time_s = labels.index(label), xpcs["frame_time_s"]
    raw = result.c2(label, denoised=False).values
    metadata: Document = dict(result.metadata)
    stop: Document | None = metadata.get("stop")
    status, rows = _status(result), result.gamma_table()
    series_s = n_frames * frame_time_s
    gamma = views.table_from_columns({name: rows[name] for name in rows})
    q = np.array(xpcs["q_inv_angstrom"], np.float64)
    picture = _picture(result)
    state = "" if stop is None else views.STATES.get(stop.get("exit_status", ""), "ended")
    reason = "" if stop is None else stop.get("reason") or ""
    window = xpcs.get("window", 0)
    second, title = None, views.PANELS["c2_denoised"][0]
    if model:
        second, title = result.c2_model(label)["model"].values, views.MODEL_TITLE
    elif result.has("two_time", "c2_denoised"):
        second = result.c2(label).values
    shown = views.gamma_view(gamma, label, end_s=series_s, window=window, final=stop is not None)
    return RunView(
        title=views.run_title(start, start["original_run_uid"], xpcs.get("detector", ""), state),
        roi=f"{views.roi_title(label, q[roi])} ({roi + 1} of {len(labels)})",
        message=views.message(reason, status.message, shown.caution),
        facts=views.facts(
            status,
            roi,
            n_frames=n_frames,
            n_expected=None if stop is not None else xpcs.get("n_expected"),
            frame_time_s=frame_time_s,
            time_unit=xpcs.get("time_unit", "s"),
            counts=views.mean_counts(picture, label),
            live=stop is None,
        ),
        label=label,
        detector=views.detector_view(picture, label),
        two_time=views.two_time_view(
            raw,
            second,
            entry_s=frame_time_s,
            most=MOST_EDGE,
            series_s=series_s,
            status=status,
            roi=roi,
            note=views.why_not_denoised(n_frames, window, final=stop is not None),
            final=stop is not None,
            title=title,
        ),
        g2=_g2(result, label, raw, gamma, final=stop is not None),
        heterogeneity=views.heterogeneity_view(status, roi, frame_time_s, final=stop is not None),
        gamma=shown,
        power_law=views.power_law_view(gamma, labels, q),
        n_roi=len(labels),
        time_unit=xpcs.get("time_unit", "s"),
    )


def _status(result: XPCSResult) -> Status:
    """Return the newest row of the status stream."""
    table: Any = result.status_table()
    if not len(table):
        return Status()
    newest = table.iloc[-1].to_dict()
    contrast, baseline = (
        tuple(math.nan if value is None else float(value) for value in newest[name])
        for name in ("contrast", "baseline")
    )
    return Status(
        n_seen=int(newest["n_seen"]),
        n_processed=int(newest["n_processed"]),
        n_skipped=int(newest["n_skipped"]),
        lag_s=float(newest["lag_s"]),
        contrast=contrast,
        baseline=baseline,
        heterogeneity=tuple(map(RoiHeterogeneity.from_fields, newest["heterogeneity"])),
        message=str(newest["message"]),
    )


def _picture(result: XPCSResult) -> Picture | None:
    """Return the picture of the detector; None where nobody looked."""
    try:
        mean, labels = result.image()
    except ResultNotFoundError:
        return None
    return Picture(mean=mean.values, labels=labels.values, **mean.attrs)


def _g2(
    result: XPCSResult, label: int, c2: FloatArray, gamma: GammaTable, *, final: bool
) -> views.G2View:
    table: Any = result.g2_table()
    table = table[table["roi"] == label]
    frame_time_s = result.xpcs["frame_time_s"]
    if len(table):
        delay_s, raw, error, denoised = (
            table[name].to_numpy(np.float64)
            for name in ("delay_s", "g2", "g2_error", "g2_denoised")
        )
    else:
        (raw, error), denoised = views.g2_so_far(c2), None
        delay_s = np.arange(1, len(c2)) * frame_time_s
    return views.g2_view(
        delay_s,
        raw,
        denoised,
        raw_error=error,
        table=gamma,
        label=label,
        series_s=len(c2) * frame_time_s,
        final=final,
        n_frames=len(c2),
    )
