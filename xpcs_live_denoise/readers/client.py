"""XPCSResult: the client of one derived run, and what it can be asked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from tiled.client.constructors import from_context

from xpcs_live_denoise import views
from xpcs_live_denoise.catalog import (
    TABLES,
    bin_centres,
    catalogs_of_runs,
    pixel_centres,
    plain,
    time_units,
)
from xpcs_live_denoise.errors import InvalidInputError, ResultNotFoundError
from xpcs_live_denoise.numerics.estimator.model_image import c2_model, c2_residual
from xpcs_live_denoise.records.types import Array, Document, FloatArray

from .contents import (
    JSON_COLUMNS,
    ROWS,
    Contents,
    check_finished,
    complete_table,
    rows_that_count,
)
from .detector import azimuths
from .export import export_file, format_of
from .two_time import (
    BINNED,
    LONG_NAMES,
    SQUARES,
    raw_where_unwritten,
    read_band,
    read_map,
    with_band,
)
from .validation import ValidatedRun

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.figure import Figure

    from xpcs_live_denoise.catalog import Node

G2_COLUMNS = ("g2", "g2_error", "g2_denoised", "heterogeneity", "heterogeneity_error")


class XPCSResult(ValidatedRun):
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
    def time_unit(self) -> str:
        """Unit of all times: "s", or "frame" where nobody knew the frame period."""
        return self.xpcs.get("time_unit") or "s"

    @property
    def n_frames(self) -> int:
        """Frames in C2 so far."""
        if "stop" not in self.metadata:
            self.refresh()
        metadata: Any = self.metadata
        return metadata.get("n_frames", 0)

    def c2(self, roi: int | None = None, denoised: bool = True) -> xr.DataArray:
        """Return the two-time correlation over the whole series.

        A series with more frames than the map has bins is averaged over blocks of
        `.attrs["frames_per_bin"]` x `frames_per_bin` frames, always raw; `band` has the short lags
        of every frame, also denoised.

        Parameters
        ----------
        roi
            Label of one ROI; default: all.
        denoised
            The denoised C2, which holds raw values where no window reached, or the raw one.

        Returns
        -------
        xarray.DataArray
            Dims (roi, t1_s, t2_s), or (t1_s, t2_s) for one ROI, each with its coordinate: label of
            the ROI, times of the frames, or of the middle of their bins, in `time_unit`;
            `q_inv_angstrom` beside `roi`. So `.sel(t1_s=2.5, method="nearest")` is the row of that
            time. NaN where nothing was measured.

        Raises
        ------
        InvalidInputError
            For a label that the result does not have.
        ResultNotFoundError
            When there is no (denoised) C2; says why.
        """
        n_frames, which = self.n_frames, self._index(roi)
        stream = self._two_time(n_frames, "c2")
        raw, frames_per_bin = read_map(stream, which, n_frames)
        if not denoised or frames_per_bin > 1:
            return self._map(raw, roi, "c2", frames_per_bin, n_frames)
        stream = self._two_time(n_frames, "c2_denoised", "c2_band_denoised")
        if "c2_denoised" in stream:
            whole = slice(0, n_frames)
            values = np.asarray(stream["c2_denoised"][which, whole, whole])
            values = raw_where_unwritten(values, lambda: raw)
        else:  # the run is on
            values = with_band(raw, self.band(roi, stop=n_frames).values)
        return self._map(values, roi, "c2_denoised", 1, n_frames)

    def band(
        self,
        roi: int | None = None,
        denoised: bool = True,
        *,
        spread: bool = False,
        start: int = 0,
        stop: int | None = None,
    ) -> xr.DataArray:
        """Return C2 at the short lags of every frame, the frames [start, stop) alone.

        Only these rows are read: of a long series ask for some thousands of frames at a time.

        Parameters
        ----------
        roi
            Label of one ROI; default: all.
        denoised
            The denoised C2, which holds raw values where no window reached, or the raw one.
        spread
            In its place the standard deviation over the ensemble's members, NaN where no window
            reached.
        start, stop
            Frames, as of a slice: -100 is 100 frames before the end. Default: all.

        Returns
        -------
        xarray.DataArray
            Dims (roi, t_s, lag_s), or (t_s, lag_s) for one ROI, with coordinates in `time_unit`:
            the time t of a frame, and the lag of the frame at t - lag. NaN before the series.

        Raises
        ------
        InvalidInputError
            For a label that the result does not have.
        ResultNotFoundError
            When there is no (denoised) C2; says why.
        """
        n_frames, which = self.n_frames, self._index(roi)
        name = "c2_band_spread" if spread else "c2_band_denoised" if denoised else "c2_band"
        stream = self._two_time(n_frames, name, SQUARES[name])
        first, last, _ = slice(start, stop).indices(n_frames)
        frames, window = range(first, max(first, last)), int(self.xpcs["window"])
        values = read_band(stream, name, which, frames, window)
        if name == "c2_band_denoised":
            values = raw_where_unwritten(
                values, lambda: read_band(stream, "c2_band", which, frames, window)
            )
        frame_time_s = self.xpcs["frame_time_s"]
        dims = {
            "t_s": np.array(frames, np.float64) * frame_time_s,
            "lag_s": np.arange(values.shape[-1]) * frame_time_s,
        }
        return self._labelled(values, roi, name, dims)

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
        frames_per_bin = raw.attrs.get("frames_per_bin", 1)
        labels, table = self.xpcs["roi"] if roi is None else [roi], self.gamma_table("path")
        measured = raw.values.astype(np.float64).reshape(len(labels), *raw.shape[-2:])
        model, residual = np.full((2, *measured.shape), np.nan)
        failures: list[InvalidInputError] = []
        for index, label in enumerate(labels):
            try:
                model[index] = c2_model(
                    table,
                    label,
                    frame_time_s=self.xpcs["frame_time_s"],
                    n_frames=self.n_frames,
                    frames_per_bin=frames_per_bin,
                )
            except InvalidInputError as error:
                failures.append(error)
                continue
            residual[index] = c2_residual(measured[index], model[index])
        if len(failures) == len(labels):
            raise ResultNotFoundError(f"Result {self.start['uid']}: {failures[0]}")
        found = {"model": (model, "model of C2"), "residual": (residual, "residual of C2 / noise")}
        return xr.Dataset(
            {
                name: raw.copy(data=values.reshape(raw.shape)).assign_attrs(long_name=long_name)
                for name, (values, long_name) in found.items()
            }
        )

    def gamma_table(
        self,
        source: str | Sequence[str] | None = None,
        final: bool = True,
        recommended: bool = False,
    ) -> pd.DataFrame:
        """Return Gamma(t), one fit a row, with the columns of GammaTable in their order.

        Parameters
        ----------
        source
            One or several of "raw", "denoised", "series_raw", ...; default: all.
        final
            One row per ROI, age, source and width: the final one, else the newest; a final row
            also replaces provisional ones of another width.
            False: every row that was ever published, with `seq_num` and `time` (s since 1970), in
            that order.
        recommended
            Only the rows to trust, at most one a ROI and age.

        Returns
        -------
        pandas.DataFrame
            Sorted by ROI, source, width and age; without rows, but with columns of the same types,
            where nothing was fitted. `.attrs["units"]` has the units of rates and ages, which are
            per frame and frames where `time_unit` is "frame".
        """
        table: Any = self._table("gamma")
        if source is not None:
            wanted = [source] if isinstance(source, str) else list(source)
            table = table.loc[table["source"].isin(wanted)]
        if final:
            table = rows_that_count(table)
        if recommended:
            table = table.loc[table["recommended"]]
        table = table.reset_index(drop=True)
        units = time_units(self.time_unit)["gamma"]
        table.attrs["units"] = {name: key["units"] for name, key in units.items()}
        return table

    def g2_table(self) -> pd.DataFrame:
        """Return g2 of the whole series, one (ROI, lag) a row.

        Returns
        -------
        pandas.DataFrame
            Columns `roi`, `q_inv_angstrom`, `phi_deg`, `delay_s`, `g2`, `g2_error`, `g2_denoised`
            (NaN where nothing was denoised), `heterogeneity`, `heterogeneity_error`: the variance
            of C2 along its diagonal within 65 ages and beyond its noise, in units of beta^2, one
            value for all lags of a bin, NaN where nobody looked. Empty before the run
            has ended.
        """
        import pandas as pd

        stream = self.nodes("g2")
        delay_s = stream["delay_s"].read() if "delay_s" in stream else np.empty(0)
        labels = np.array(self.xpcs["roi"], np.int64)
        values: Document = {
            "roi": np.repeat(labels, len(delay_s)),
            "q_inv_angstrom": np.repeat(self._q(), len(delay_s)),
            "phi_deg": np.repeat(azimuths(self.xpcs), len(delay_s)),
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
            The mean over all frames that were read whole (float32, NaN where no number was good)
            and the ROI under each pixel (int32, 0 for none), dims (row, col); coordinates in pixels
            of the detector, `binning` (1 of a run that has ended) and `n_frames` as attributes.

        Raises
        ------
        ResultNotFoundError
            When there is no picture.
        """
        import xarray as xr

        stream = self.nodes("image")
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
            name: (name, pixel_centres(n, binning), {"units": "pixels"})
            for name, n in zip(("row", "col"), mean.shape, strict=True)
        }
        attrs = {"binning": binning, "n_frames": node.metadata.get("n_frames", 0)}
        return (
            xr.DataArray(mean, dims=("row", "col"), coords=coords, name="image", attrs=attrs),
            xr.DataArray(
                labels, dims=("row", "col"), coords=coords, name="roi_labels", attrs=attrs
            ),
        )

    def intensity(self) -> xr.Dataset:
        """Return I(t) of all frames so far, and I(q).

        Returns
        -------
        xarray.Dataset
            `total` (t_s), the counts of the pixels of all ROIs together, and `roi_mean` (t_s, roi),
            the mean counts of a pixel; also of frames that were left out of C2, NaN where frames
            are missing. Where the beam center is known, `saxs` and `n_pixels`: the mean of the
            image over rings around it, and their good pixels, along `q` (1/angstrom), or along
            `radius` (pixels) where the geometry does not tell q.

        Raises
        ------
        ResultNotFoundError
            When there is no I(t).
        """
        import xarray as xr

        n_frames, stream = self.n_frames, self.nodes("intensity")
        if not n_frames or "roi_mean" not in stream:
            raise ResultNotFoundError(
                f"Result {self.start['uid']}: no I(t); expected the stream `intensity`, which a "
                "run has after its first frames, and results of earlier versions never. Compute "
                "the run again with `xpcs-live-denoise replay`."
            )
        labels = np.array(self.xpcs["roi"], np.int64)
        t_s = np.arange(n_frames) * self.xpcs["frame_time_s"]
        coords: Document = {
            "t_s": ("t_s", t_s, {"long_name": "t", "units": self.time_unit}),
            "roi": ("roi", labels, {"long_name": "ROI"}),
            "q_inv_angstrom": ("roi", self._q(), {"long_name": "q", "units": "1/angstrom"}),
        }
        if np.isfinite(phi_deg := azimuths(self.xpcs)).any():
            coords["phi_deg"] = ("roi", phi_deg, {"long_name": "φ", "units": "deg"})
        found: Document = {
            name: (dims, stream[name][:n_frames], {"units": "counts"})
            for name, dims in (("total", "t_s"), ("roi_mean", ("t_s", "roi")))
        }
        rings = self.nodes("saxs")
        if "saxs" in rings:
            q, radius = rings["q"].read(), rings["radius"].read()
            along = "q" if np.isfinite(q).all() else "radius"
            coords |= {"q": (along, q, {"units": "1/angstrom"})}
            coords |= {"radius": (along, radius, {"units": "pixels"})}
            found["saxs"] = (along, rings["saxs"].read(), {"long_name": "I(q)", "units": "counts"})
            found["n_pixels"] = (along, rings["n_pixels"].read())
        return xr.Dataset(found, coords=coords)

    def status_table(self) -> pd.DataFrame:
        """Return the status rows, one a publication; `time` in s since 1970, lists decoded."""
        table: Any = self._table("status").drop(columns="seq_num")
        return table.assign(
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
            places = [(*here, key) for key in catalogs_of_runs(beside)]
        for place in places:
            try:
                return root[(*place, uid)]
            except KeyError:
                continue
        names = ", ".join(f"/{'/'.join(place)}" for place in places) or "/"
        raise ResultNotFoundError(
            f"Raw run {uid}: not found in {names}. Set settings.tiled.raw_path to the container "
            "that holds the raw runs."
        )

    def plot(self, roi: int | None = None, *, model: bool = False) -> Figure:
        """Return a matplotlib figure: detector, C2 raw and denoised, g2, Gamma(t), Gamma(q).

        A notebook shows what the last line of a cell returns; with `%matplotlib qt` a window opens.
        It is none of pyplot's figures, so that the next plot gets its own. A script saves it, or
        (matplotlib 3.11) gives it to pyplot: `plt.figure(result.plot())`, then `plt.show()`.

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

        from .view import result_view

        labels = self.xpcs["roi"]
        label = labels[views.default_roi(labels)] if roi is None else roi
        return plot_view(result_view(self, label, model=model))

    def export(
        self,
        filepath: Any,
        fields: Sequence[str] | None = None,
        *,
        format: str | None = None,  # noqa: A002 - as Tiled calls it
        overwrite: bool = False,
    ) -> None:
        """Write the result to a file.

        - HDF5 (.h5, .hdf5, .hdf, .nxs): everything, as NXxpcs, which pyXpcsViewer opens, too. C2
          stands in it as its upper triangle, the denoised one whole.
        - CSV (.csv): the recommended rows of Gamma(t).
        - PNG (.png): the figure of `plot`.

        What else Tiled's server offers, as "application/json-seq", goes on as of any run.

        Parameters
        ----------
        filepath
            Path, or an object that is written to. A path is there when the file is complete.
        fields
            HDF5: some of "two_time", "g2", "gamma" and "intensity", a smaller file that
            viewers may not open; CSV: columns. Default: all.
        format
            "h5", "csv", "png" or a media type; default: the ending of the file's name.
        overwrite
            Replace a file that is there.

        Raises
        ------
        ResultNotFoundError
            When the run is still on, or its analysis failed.
        InvalidInputError
            For a file that is there already, a folder that is not, and unknown `fields`.
        UnwritableFileError
            When the file cannot be written, on a full disk for example.
        """
        kind = format_of(filepath, format)
        if kind is None:
            super().export(filepath, fields, format=format)
            return
        self.refresh()
        metadata: Document = dict(self.metadata)
        check_finished(metadata, has_c2=self.has("two_time", "c2"))
        export_file(
            filepath,
            lambda: Contents.of_client(self.base, metadata),
            self.plot,
            kind=kind,
            fields=fields,
            overwrite=overwrite,
        )

    def has(self, stream: str, array: str) -> bool:
        """Whether an array was computed, for example ("two_time", "c2_denoised")."""
        return array in self.nodes(stream)

    def nodes(self, stream: str) -> Mapping[str, Node]:
        """Return the clients of the arrays and the table of a stream by name; none without it.

        Of a run that has ended they are asked for once: nothing of it changes any more.
        """
        known: dict[str, Mapping[str, Node]] = self.__dict__.setdefault("_nodes_of", {})
        if stream not in known:
            found = plain(self.base[stream]) if stream in self.base else {}
            if "stop" not in self.metadata:
                return found
            known[stream] = dict(found.items())
        return known[stream]

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

    def _map(
        self, values: Array, roi: int | None, name: str, frames_per_bin: int, n_frames: int
    ) -> xr.DataArray:
        """Return a map of all ROIs, (n_roi, m, m), or of one, (m, m), with its coordinates."""
        centres = bin_centres(values.shape[-1], frames_per_bin, n_frames)
        times = centres * self.xpcs["frame_time_s"]
        c2 = self._labelled(values, roi, name, {"t1_s": times, "t2_s": times})
        if frames_per_bin > 1:
            c2.attrs |= {"frames_per_bin": frames_per_bin, "note": BINNED}
        return c2

    def _labelled(
        self, values: Array, roi: int | None, name: str, times: dict[str, FloatArray]
    ) -> xr.DataArray:
        """Return an array of all ROIs, or of one, with its dims behind that of the ROIs."""
        import xarray as xr

        which = self._index(roi)
        labels, q = np.array(self.xpcs["roi"], np.int64)[which], self._q()[which]
        along_roi = () if roi is not None else ("roi",)
        coords: Document = {
            dim: (dim, values, {"long_name": dim.removesuffix("_s"), "units": self.time_unit})
            for dim, values in times.items()
        }
        coords |= {
            "roi": (along_roi, labels, {"long_name": "ROI"}),
            "q_inv_angstrom": (along_roi, q, {"long_name": "q", "units": "1/angstrom"}),
        }
        if np.isfinite(phi_deg := azimuths(self.xpcs)).any():
            coords["phi_deg"] = (along_roi, phi_deg[which], {"long_name": "φ", "units": "deg"})
        attrs = {"long_name": LONG_NAMES[name], "units": "1"}
        return xr.DataArray(
            values, dims=(*along_roi, *times), coords=coords, name=name, attrs=attrs
        )

    def _two_time(self, n_frames: int, *names: str) -> Mapping[str, Node]:
        """Return the arrays of C2, of which one of these is there."""
        stream = self.nodes("two_time")
        if n_frames and any(name in stream for name in names):
            return stream
        status = self.status_table()
        message = status["message"].iloc[-1] if len(status) else "the analysis has just begun"
        ask = "band" if "band" in names[0] else "c2"
        hint = "" if names[-1] == "c2" else f"; the raw one is {ask}(denoised=False)"
        raise ResultNotFoundError(
            f"Result {self.start['uid']}: no two_time/{names[0]} after {n_frames} frames"
            f"{hint}. Last status: {message or 'no message'}"
        )

    def _table(self, stream: str) -> pd.DataFrame:
        """Return the rows of a stream in order; of the same types where there are none."""
        nodes = self.nodes(stream)
        if ROWS not in nodes:
            return complete_table(stream, None)
        node = nodes[ROWS]
        wanted = {"seq_num", "time", *TABLES[stream][0]}
        return complete_table(stream, node.read([n for n in node.columns if n in wanted]))
