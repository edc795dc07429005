"""A result as one HDF5 file: NXxpcs below /entry, and /xpcs as APS' viewer pyXpcsViewer reads it.

What both need is there once. Links, and virtual datasets where shapes differ, show it in the other
place.
"""

from __future__ import annotations

import datetime
import functools
import hashlib
import importlib.metadata
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xpcs_live_denoise.catalog import GAMMA_SCHEMA, bin_centres, json_safe, time_units
from xpcs_live_denoise.records.types import Document, FloatArray

from .contents import Contents
from .detector import RoiImage, azimuths, exposure_s
from .run_names import scan_id_of
from .two_time import raw_where_unwritten

KEV_ANGSTROM = 12.398419843
BAND_ROWS = 8192  # frames of the band that are copied at a time
SEGMENTS = 10  # parts of a series whose g2 and I(q) are also told by themselves
CHUNK_EDGE = 256
# Nearly as small as the best, and every HDF5 can read it.
PACKED: Document = {"compression": "gzip", "compression_opts": 1, "shuffle": True}
MOST_UNPACKED = 4096  # bytes of a column
# What may be left out of a file, and the streams of the run that it comes from.
PARTS = ("two_time", "g2", "gamma", "intensity")

Group = Any  # h5py has no types


def write_nexus(target: Any, contents: Contents, parts: Sequence[str] = PARTS) -> None:
    """Write a result into an HDF5 file: a path, or an object that can be written and read."""
    import h5py

    with h5py.File(target, "w") as file:
        NexusFile(file, contents).write(parts)


class NexusFile:
    """Writes one result into an open HDF5 file; its state is that file."""

    def __init__(self, file: Group, contents: Contents) -> None:
        self._file = file
        self._contents = contents
        self._rois = RoiImage.of(contents)
        xpcs = contents.xpcs
        self._n_roi = len(xpcs["roi"])
        self._q = np.array(xpcs["q_inv_angstrom"], np.float64)
        self._frame_time_s = float(xpcs["frame_time_s"])
        self._time_unit = xpcs.get("time_unit") or "s"

    def write(self, parts: Sequence[str]) -> None:
        """Write what `parts` names of a result, and what is told of it."""
        file = self._file
        made_by = f"xpcs-live-denoise {importlib.metadata.version('xpcs-live-denoise')}"
        file.attrs.update({"default": "entry", "creator": made_by, "NX_class": "NXroot"})
        entry = _group(file, "entry", "NXentry", default="data")
        self._tell_run(entry)
        self._tell_instrument(entry)
        self._tell_analysis(entry, made_by)
        self._write_maps_of_rois()
        if "g2" in parts:
            self._write_g2(entry)
        else:
            _group(entry, "data", "NXdata")
        if "two_time" in parts:
            self._write_two_time(entry)
            self._write_denoised(entry)
            self._write_bands(entry)
        if "gamma" in parts:
            self._write_gamma(entry)
        self._write_image(entry)
        self._write_intensity(entry if "intensity" in parts else None)

    # --- what is told ----------------------------------------------------------------------

    def _tell_run(self, entry: Group) -> None:
        start, stop, xpcs = self._contents.start, self._contents.stop, self._contents.xpcs
        scan_id, raw_uid = scan_id_of(start), start.get("original_run_uid", "")
        is_number = isinstance(scan_id, int) and abs(scan_id) < 2**63
        sample = start.get("sample") or start.get("sample_name") or ""
        name = sample.get("name", "") if isinstance(sample, Mapping) else sample
        _fields(
            entry,
            definition="NXxpcs",
            title=" ".join(str(one) for one in (name, scan_id, xpcs["detector"]) if one),
            entry_identifier=str(scan_id) if scan_id is not None else raw_uid or "none",
            scan_number=np.int64(scan_id or 0 if is_number else 0),
        )
        if raw_uid:
            _fields(entry, entry_identifier_uuid=raw_uid)
        began, analysed = xpcs.get("raw_time"), start["time"]
        _fields(entry, start_time=_iso(began or (analysed if stop else _now())))
        if not began:
            instead = "of the analysis" if stop else "when the file was written"
            entry["start_time"].attrs["note"] = f"{instead}: nobody told the start of the series"
        if stop:
            _fields(entry, end_time=_iso(stop["time"]))
            entry["end_time"].attrs["note"] = "the end of the analysis"
        of_sample = _group(entry, "sample", "NXsample")
        if name:
            _fields(of_sample, name=str(name))
        if isinstance(temperature := start.get("T_sample"), int | float):
            _field(of_sample, "temperature", float(temperature), "", note="as the start tells it")
        own = ("xpcs", "uid", "original_run_uid", "derived_from")
        copied = {key: value for key, value in start.items() if key not in own}
        _note(entry, "start_document", json.dumps(json_safe(copied)), "application/json")

    def _tell_instrument(self, entry: Group) -> None:
        contents, rois = self._contents, self._rois
        geometry = contents.xpcs.get("geometry") or {}
        instrument = _group(entry, "instrument", "NXinstrument")
        beam = _group(instrument, "incident_beam", "NXbeam")
        wavelength = geometry.get("wavelength_angstrom") or math.nan
        _field(beam, "incident_energy", KEV_ANGSTROM / wavelength, "keV")
        _field(beam, "incident_wavelength", wavelength, "angstrom")
        detector = _group(instrument, "detector_1", "NXdetector")
        _fields(detector, description=str(contents.xpcs["detector"]))
        _field(detector, "frame_time", self._frame_time_s, self._time_unit)
        _field(detector, "count_time", exposure_s(contents.start), "s")
        row, col = rois.beam_center
        _field(detector, "beam_center_y", row, "pixel")
        _field(detector, "beam_center_x", col, "pixel")
        _field(detector, "x_pixel_size", rois.pixel_size_m, "m")
        _field(detector, "y_pixel_size", rois.pixel_size_m, "m")
        _field(detector, "distance", rois.distance_m, "m")
        masks = _group(instrument, "masks", "NXnote")
        masks.create_dataset("dynamic_roi_map", data=rois.bins, **PACKED)
        masks["dynamic_roi_map"].attrs.update({"units": "", "long_name": "bin of each pixel"})
        _field(masks, "dynamic_q_list", self._q, "1/angstrom")
        if np.isfinite(phi := azimuths(contents.xpcs)).any():
            _field(masks, "dynamic_phi_list", phi, "deg")
        _field(masks, "roi", np.array(contents.xpcs["roi"], np.int64), "")

    def _tell_analysis(self, entry: Group, made_by: str) -> None:
        contents, xpcs = self._contents, self._contents.xpcs
        stop, date = contents.stop, contents.stop.get("time") or _now()
        versions = xpcs.get("versions") or {}
        process = _group(entry, "analysis", "NXprocess")
        version = versions.get("xpcs-live-denoise", made_by.rpartition(" ")[2])
        _fields(process, program="xpcs-live-denoise", version=version, date=_iso(date))
        _fields(process, sequence_index=np.int64(1))
        _note(process, "settings", json.dumps(xpcs.get("settings") or {}), "application/json")
        _note(process, "versions", json.dumps(versions), "application/json")
        made = {key: value for key, value in xpcs.items() if key not in ("settings", "versions")}
        _note(process, "parameters", json.dumps(json_safe(made)), "application/json")
        ended = {key: stop[key] for key in stop if key.endswith("exit_status") or key == "reason"}
        told = {**contents.status, **ended, "uid": contents.start.get("uid")}
        _note(process, "status", json.dumps(json_safe(told)), "application/json")
        _note(process, "message", contents.status.get("message") or "", "text/plain")
        if xpcs.get("model"):
            process = _group(entry, "denoising", "NXprocess")
            _fields(process, program="xpcs-live-denoise", version=version, date=_iso(date))
            _fields(process, sequence_index=np.int64(2))
            _note(process, "model_card", json.dumps(json_safe(xpcs["model"])), "application/json")

    # --- ROIs and intensity ------------------------------------------------------------------

    def _write_maps_of_rois(self) -> None:
        """Write /xpcs/qmap: which pixel is of which bin, and what a bin is."""
        rois, grid, instrument = self._rois, self._rois.grid, self._file["entry/instrument"]
        detector = instrument["detector_1"]
        qmap = self._file.create_group("xpcs/qmap")
        qmap.create_dataset("mask", data=rois.mask, **PACKED)
        for kind in ("dynamic", "static"):
            qmap[f"{kind}_roi_map"] = instrument["masks/dynamic_roi_map"]
            qmap[f"{kind}_v_list_dim0"], qmap[f"{kind}_v_list_dim1"] = grid.values
            qmap[f"{kind}_index_mapping"] = grid.index_mapping
            qmap[f"{kind}_num_pts"] = np.array([len(values) for values in grid.values], np.int64)
        for name in ("beam_center_x", "beam_center_y"):
            qmap[name] = detector[name]
        qmap["pixel_size"], qmap["detector_distance"] = (
            detector["x_pixel_size"],
            detector["distance"],
        )
        qmap["map_names"] = np.array([name.encode() for name in grid.names])
        qmap["map_units"] = np.array([unit.encode() for unit in grid.units])
        digest = hashlib.sha256(rois.bins.tobytes() + rois.mask.tobytes())
        for values in (*grid.values, grid.index_mapping, rois.beam_center, rois.distance_m):
            digest.update(np.asarray(values, np.float64).tobytes())
        qmap.attrs["hash"] = digest.hexdigest()

    def _write_intensity(self, entry: Group | None) -> None:
        """Write the mean counts of each ROI over all frames, and of each frame where it is known.

        `entry`: where they go as NXdata, too.
        """
        contents, n = self._contents, self._contents.n_frames
        of_frames = np.full((n, self._n_roi), np.nan)
        if known := "intensity/roi_mean" in contents.arrays:
            of_frames[:] = contents.read("intensity/roi_mean")[:n]
        n_pixels = np.array(contents.xpcs["n_pixels"], np.float64)
        total = np.stack([np.arange(n, dtype=np.float64), of_frames @ n_pixels / n_pixels.sum()])
        self._file["xpcs/spatial_mean/intensity_vs_time"] = total
        if not known:
            note = "NaN: the result does not hold the counts of each frame"
            self._file["xpcs/spatial_mean/intensity_vs_time"].attrs["note"] = note
        mean = _mean(of_frames, 0) if known else self._rois.mean_counts(self._n_roi)
        parts = np.array_split(of_frames, min(SEGMENTS, n)) if known else [mean[np.newaxis]]
        temporal = self._file["xpcs/temporal_mean"]
        temporal["scattering_1d"] = mean[np.newaxis]
        temporal["scattering_1d_segments"] = np.stack([_mean(part, 0) for part in parts])
        if entry is not None and known:
            data = _data(entry, "intensity", "roi_mean", ("t_s", "roi"))
            _field(data, "roi_mean", of_frames, "counts", long_name="mean counts of a pixel")
            of_all = contents.read("intensity/total")[:n]
            _field(data, "total", of_all, "counts", long_name="counts of all ROIs together")
            self._axes(data, t_s=np.arange(n) * self._frame_time_s)
        if entry is not None and "saxs/saxs" in contents.arrays:
            self._write_saxs(entry)

    def _write_saxs(self, entry: Group) -> None:
        """Write I(q), against the radius where q is not known."""
        contents, q = self._contents, self._contents.read("saxs/q")
        axis = "q" if np.isfinite(q).all() else "radius"
        data = _data(entry, "saxs", "saxs", (axis,))
        _field(data, "saxs", contents.read("saxs/saxs"), "counts", long_name="I(q), mean of a ring")
        _field(data, "n_pixels", contents.read("saxs/n_pixels"), "")
        _field(data, "q", q, "1/angstrom")
        _field(data, "radius", contents.read("saxs/radius"), "pixel")

    def _write_image(self, entry: Group) -> None:
        data = _data(entry, "detector_image", "mean", ("row", "col"))
        image = data.create_dataset("mean", data=self._rois.image, **PACKED)
        image.attrs.update({"units": "counts", "long_name": "mean of the frames read whole"})
        data["roi"] = self._file["entry/instrument/masks/dynamic_roi_map"]
        for name, length in zip(("row", "col"), image.shape, strict=True):
            _field(data, name, np.arange(length), "pixel")
        _stack(self._file.create_group("xpcs/temporal_mean"), "scattering_2d", [image])

    # --- correlations --------------------------------------------------------------------------

    def _write_g2(self, entry: Group) -> None:
        contents = self._contents
        data = _data(entry, "data", "g2", ("delay", "roi"))
        if "g2/delay_s" not in contents.arrays:
            return
        delay_s = contents.read("g2/delay_s")
        known = np.isfinite(contents.read("g2/g2")).any(axis=0)  # a viewer fits what is there
        if not known.any():
            return
        multitau = self._file.create_group("xpcs/multitau")
        lags = np.rint(delay_s[known] / self._frame_time_s).astype(np.int64)
        names = {
            "g2": ("g2/g2", "g2"),
            "g2_derr": ("g2/g2_error", "standard error of g2"),
            "g2_denoised": ("g2/g2_denoised", "g2 of the denoised C2"),
            "heterogeneity": ("g2/heterogeneity", "variance of C2 along its diagonal / beta^2"),
            "heterogeneity_errors": ("g2/heterogeneity_error", "its standard error"),
        }
        for name, (stored, meaning) in names.items():
            if stored in contents.arrays:
                values = contents.read(stored).T[known]
                _field(data, name, values, "", long_name=meaning, storage_mode="one_array")
        data["g2_errors"] = data["g2_derr"]
        _field(data, "delay_difference", lags, "frames", storage_mode="one_array")
        self._axes(data, delay=delay_s[known])
        multitau["normalized_g2"], multitau["normalized_g2_err"] = data["g2"], data["g2_derr"]
        multitau["delay_list"] = data["delay_difference"]
        _fields(multitau.create_group("config"), stride_frame=np.int64(1), avg_frame=np.int64(1))

    def _write_two_time(self, entry: Group) -> None:
        """Write the upper triangle of the map of each ROI, and means along its diagonals."""
        contents, each = self._contents, self._contents.frames_per_bin
        xpcs = self._file.create_group("xpcs/twotime")
        maps = xpcs.create_group("correlation_map")
        g2: list[FloatArray] = []
        g2_of_parts: list[FloatArray] = []
        for roi in range(self._n_roi):
            c2 = contents.c2(roi)
            edge = min(CHUNK_EDGE, len(c2))
            upper = np.triu(c2).astype(np.float32)
            maps.create_dataset(f"c2_{roi + 1:05d}", data=upper, chunks=(edge, edge), **PACKED)
            k = min(SEGMENTS, len(c2) // 2) or 1
            g2.append(means_along_diagonals(c2))
            size = len(c2) // k
            of_parts = [c2[p * size : (p + 1) * size, p * size : (p + 1) * size] for p in range(k)]
            g2_of_parts.append(np.stack([means_along_diagonals(part) for part in of_parts]))
        xpcs["normalized_g2"] = np.stack(g2, axis=1)  # (lag, q)
        xpcs["normalized_g2_segments"] = np.stack(g2_of_parts).transpose(2, 1, 0)  # (lag, k, q)
        xpcs["processed_bins"] = np.arange(1, self._n_roi + 1)
        config = xpcs.create_group("config")
        _fields(config, stride_frame=np.int64(1), avg_frame=np.int64(each))

        data = _data(entry, "twotime", "two_time_corr_func", ("roi", "t1", "t2"))
        _stack(data, "two_time_corr_func", [maps[name] for name in sorted(maps)])
        along: Document = {"baseline_reference": np.int64(1), "units": ""}
        data["two_time_corr_func"].attrs.update(
            {
                **along,
                "storage_mode": "one_array_q_first",
                "time_origin_location": "upper_left",
                "populated_elements": "upper_half",
                "frames_per_bin": np.int64(each),
                "long_name": "C2" if each == 1 else f"C2, the mean over {each} x {each} frames",
            }
        )
        data["g2_from_two_time_corr_func"] = xpcs["normalized_g2"]
        data["g2_from_two_time_corr_func"].attrs.update(
            {**along, "storage_mode": "one_array_q_last", "first_point_for_fit": np.int64(0)}
        )
        partials = "g2_from_two_time_corr_func_partials"
        data[partials] = xpcs["normalized_g2_segments"]
        data[partials].attrs.update({**along, "storage_mode": "one_array"})
        n_bins = maps["c2_00001"].shape[0]
        times = bin_centres(n_bins, each, contents.n_frames) * self._frame_time_s
        self._axes(data, t1=times, t2=times)

    def _write_denoised(self, entry: Group) -> None:
        """Write the whole denoised C2 and its spread, of a series whose map has a bin a frame."""
        contents, name = self._contents, "two_time/c2_denoised"
        if name not in contents.arrays or contents.frames_per_bin > 1:
            return
        n = contents.n_frames
        edge = min(CHUNK_EDGE, n)
        data = _data(entry, "twotime_denoised", "c2", ("roi", "t1", "t2"))
        layout: Document = {"dtype": "f4", "chunks": (1, edge, edge), **PACKED}
        spread = contents.arrays.get("two_time/c2_spread")
        for stored in ("c2",) if spread is None else ("c2", "c2_errors"):
            data.create_dataset(stored, (self._n_roi, n, n), fillvalue=np.nan, **layout)
        for roi in range(self._n_roi):
            data["c2"][roi] = contents.denoised(roi)
            if spread is not None:
                data["c2_errors"][roi] = spread[roi]
        data["c2"].attrs.update({"units": "", "long_name": "denoised C2"})
        if spread is not None:
            data["c2_errors"].attrs.update({"units": "", "long_name": SPREAD})
        times = np.arange(n) * self._frame_time_s
        self._axes(data, t1=times, t2=times)

    def _write_bands(self, entry: Group) -> None:
        """Write C2 at the short lags of every frame, raw and denoised."""
        stored = self._contents.arrays
        bands = {
            "band": {"c2": "two_time/c2_band"},
            "band_denoised": {
                "c2": "two_time/c2_band_denoised",
                "c2_errors": "two_time/c2_band_spread",
            },
        }
        for group, names in bands.items():
            if names["c2"] not in stored:
                continue
            data = _data(entry, group, "c2", ("roi", "t", "lag"))
            for name, source in names.items():
                if source in stored:
                    self._copy_band(data, name, source)
            meaning = "C2(t, t - lag)" if group == "band" else "denoised C2(t - lag, t)"
            data["c2"].attrs.update({"units": "", "long_name": meaning})
            if "c2_errors" in data:
                data["c2_errors"].attrs.update({"units": "", "long_name": SPREAD})
            _, n, window = data["c2"].shape
            first = self._contents.band_start
            if first:
                data.attrs["note"] = f"the last rows: those before frame {first} were not kept"
            frames = {"t": first + np.arange(n), "lag": np.arange(window)}
            self._axes(data, **{name: at * self._frame_time_s for name, at in frames.items()})

    def _copy_band(self, data: Group, name: str, source: str) -> None:
        stored = self._contents.arrays[source]
        n = self._contents.n_frames - self._contents.band_start
        n_roi, _, window = stored.shape
        chunks = (1, min(CHUNK_EDGE * 4, n), window)
        dataset = data.create_dataset(name, (n_roi, n, window), "f4", chunks=chunks, **PACKED)
        for start in range(0, n, BAND_ROWS):
            rows = slice(start, min(n, start + BAND_ROWS))
            values = np.asarray(stored[:, rows])
            if name == "c2" and source.endswith("denoised"):
                raw = self._contents.arrays["two_time/c2_band"]
                read_raw = functools.partial(raw.__getitem__, (slice(None), rows))
                values = raw_where_unwritten(values, read_raw)
            dataset[:, rows] = values

    # --- Gamma(t) ------------------------------------------------------------------------------

    def _write_gamma(self, entry: Group) -> None:
        """Write the recommended rows as NXdata, and all final ones as columns."""
        table = self._contents.gamma
        units = time_units(self._time_unit)["gamma"]
        recommended = table[table["recommended"]]
        if len(recommended):
            data = _data(entry, "gamma", "relaxation_rate", ("age_s",))
            self._columns(data, recommended, units)
            data["relaxation_rate_errors"] = data["relaxation_rate_error"]
        self._columns(_group(entry, "gamma_all_rows", "NXcollection"), table, units)

    def _columns(self, group: Group, table: Any, units: Mapping[str, Document]) -> None:
        for name, (kind, unit) in GAMMA_SCHEMA.items():
            values = table[name].to_numpy()
            if kind == "str":  # of one length, so that they are packed
                values = np.char.encode(values.astype(np.str_), "utf-8")
                values = values.astype(f"S{max(1, values.dtype.itemsize)}")
            packed = PACKED if values.nbytes > MOST_UNPACKED else {}
            column = group.create_dataset(name, data=values, **packed)
            if kind != "str":
                column.attrs["units"] = units.get(name, {}).get("units", unit)

    def _axes(self, data: Group, **values: FloatArray) -> None:
        """Write the axes of an NXdata: times in `time_unit`, and the label of each ROI."""
        for name, along in values.items():
            _field(data, name, along, self._time_unit)
        if "roi" in data.attrs["axes"]:
            data["roi"] = self._file["entry/instrument/masks/roi"]


SPREAD = "standard deviation over the members of the ensemble, NaN where no window was"


def means_along_diagonals(c2: FloatArray) -> FloatArray:
    """Return the mean of C2 (n, n) along each diagonal; NaN at lag 0, which tells nothing."""
    n = len(c2)
    sheared = np.full((n, n), np.nan)
    for row in range(n):
        sheared[row, : n - row] = c2[row, row:]
    sheared[:, 0] = np.nan
    return _mean(sheared, 0)


def _mean(values: FloatArray, axis: int) -> FloatArray:
    """Return the mean of what is a number; NaN where nothing is."""
    good = np.isfinite(values)
    count, total = good.sum(axis), np.where(good, values, 0.0).sum(axis)
    return np.divide(total, count, out=np.full(np.shape(total), np.nan), where=count > 0)


# --- HDF5 ---------------------------------------------------------------------------------------


def _group(parent: Group, name: str, nx_class: str, **attributes: Any) -> Group:
    group = parent.create_group(name)
    group.attrs.update({"NX_class": nx_class, **attributes})
    return group


def _data(parent: Group, name: str, signal: str, axes: tuple[str, ...]) -> Group:
    return _group(parent, name, "NXdata", signal=signal, axes=list(axes))


def _field(group: Group, name: str, value: Any, units: str, **attributes: Any) -> None:
    group[name] = value
    group[name].attrs.update({"units": units, **attributes})


def _fields(group: Group, **values: Any) -> None:
    for name, value in values.items():
        group[name] = value


def _note(parent: Group, name: str, text: str, kind: str) -> None:
    _fields(_group(parent, name, "NXnote"), type=kind, data=text)


def _stack(group: Group, name: str, datasets: Sequence[Group]) -> None:
    """Show datasets of one shape as one array, the first axis along them; nothing is copied."""
    import h5py

    shape = datasets[0].shape
    layout = h5py.VirtualLayout((len(datasets), *shape), datasets[0].dtype)
    for index, dataset in enumerate(datasets):
        layout[index] = h5py.VirtualSource(".", dataset.name, shape)
    group.create_virtual_dataset(name, layout)


def _now() -> float:
    return datetime.datetime.now(datetime.UTC).timestamp()


def _iso(seconds: float) -> str:
    """Return a time since 1970 as ISO 8601."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat()
