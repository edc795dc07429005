"""What a figure shows of one ROI of a result in Tiled."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from xpcs_live_denoise import views
from xpcs_live_denoise.errors import ResultNotFoundError
from xpcs_live_denoise.records.results import GammaTable, Picture, Saxs
from xpcs_live_denoise.records.run import RoiHeterogeneity, Status
from xpcs_live_denoise.records.types import Document, FloatArray

from .detector import azimuths

if TYPE_CHECKING:
    from xpcs_live_denoise.window import RunView

    from .client import XPCSResult


def result_view(result: XPCSResult, label: int, *, model: bool = False) -> RunView:
    """Return all that a figure shows of the ROI with this label; `model`: the path's C2, too."""
    from xpcs_live_denoise.window import RunView

    xpcs, start = result.xpcs, result.start
    labels, n_frames = list(xpcs["roi"]), result.n_frames
    roi, frame_time_s = labels.index(label), xpcs["frame_time_s"]
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
    measured = Measured.read(result, label)
    shown = views.gamma_view(gamma, label, end_s=series_s, window=window, final=stop is not None)
    return RunView(
        title=views.run_title(start, start["original_run_uid"], xpcs.get("detector", ""), state),
        roi=f"{views.roi_title(label, q[roi], azimuths(xpcs)[roi])} ({roi + 1} of {len(labels)})",
        message=views.message(reason, status.message, shown.caution),
        facts=views.facts(
            status,
            roi,
            n_frames=n_frames,
            n_expected=None if stop is not None else xpcs.get("n_expected"),
            frame_time_s=frame_time_s,
            time_unit=result.time_unit,
            counts=views.mean_counts(picture, label),
            live=stop is None,
        ),
        label=label,
        detector=views.detector_view(picture, label),
        two_time=_two_time(result, label, measured, status, final=stop is not None, model=model),
        g2=_g2(result, label, measured, gamma, final=stop is not None),
        heterogeneity=views.heterogeneity_view(status, roi, frame_time_s, final=stop is not None),
        gamma=shown,
        power_law=views.power_law_view(gamma, labels, q),
        intensity=_intensity(result, roi, n_frames),
        saxs=views.saxs_view(_saxs(result), roi, q),
        n_roi=len(labels),
        time_unit=result.time_unit,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """C2 of one ROI: the map, and where that averages several frames the band beside it."""

    c2: FloatArray  # (m, m)
    frames_per_bin: int
    n_frames: int
    band: views.C2Band | None

    @classmethod
    def read(cls, result: XPCSResult, label: int) -> Measured:
        """Read what a figure shows of the ROI with this label."""
        c2 = result.c2(label, denoised=False)
        frames_per_bin, n_frames = c2.attrs.get("frames_per_bin", 1), result.n_frames
        band = None
        if frames_per_bin > 1:
            band = views.C2Band(1, int(result.xpcs["window"]))
            denoised = result.has("two_time", "c2_band_denoised")
            # Only a live g2 needs both: what no window reached is raw in the denoised one.
            raw = not denoised or "stop" not in result.metadata
            index = list(result.xpcs["roi"]).index(label)
            for part in band.to_read(n_frames):
                rows: list[FloatArray | None] = [None, None]
                for kind, name in enumerate(("c2_band", "c2_band_denoised")):
                    if (raw, denoised)[kind]:
                        values = result.nodes("two_time")[name][index, part]
                        rows[kind] = views.written(np.asarray(values))[np.newaxis]
                band.add(part.start, *rows, step=part.step)
        return cls(c2=c2.values, frames_per_bin=frames_per_bin, n_frames=n_frames, band=band)


def _two_time(
    result: XPCSResult, label: int, measured: Measured, status: Status, *, final: bool, model: bool
) -> views.TwoTimeView:
    from xpcs_live_denoise.window import MOST_EDGE

    xpcs, n_frames = result.xpcs, measured.n_frames
    frame_time_s, window = xpcs["frame_time_s"], xpcs.get("window", 0)
    shared: Document = {
        "most": MOST_EDGE,
        "series_s": n_frames * frame_time_s,
        "status": status,
        "roi": list(xpcs["roi"]).index(label),
        "note": views.why_not_denoised(
            n_frames, window, final=final, has_denoiser=views.has_denoiser(xpcs)
        ),
        "final": final,
    }
    if measured.band is not None and not model:
        c2_map = views.C2Map(len(measured.c2), frames_per_bin=measured.frames_per_bin)
        c2_map.patch(measured.c2, (0, 0), zero_is_gap=False)
        return views.measured_view(
            c2_map,
            measured.band,
            roi_of_band=0,
            n_frames=n_frames,
            frame_time_s=frame_time_s,
            **shared,
        )
    second, title = None, views.PANELS["c2_denoised"][0]
    if model:
        second, title = result.c2_model(label)["model"].values, views.MODEL_TITLE
    elif result.has("two_time", "c2_denoised") or result.has("two_time", "c2_band_denoised"):
        second = result.c2(label).values
    return views.two_time_view(
        measured.c2,
        second,
        entry_s=measured.frames_per_bin * frame_time_s,
        frames_per_bin=measured.frames_per_bin,
        title=title,
        **shared,
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
    picture = Picture(mean=mean.values, labels=labels.values, **mean.attrs)
    return views.for_screen(picture)


def _intensity(result: XPCSResult, roi: int, n_frames: int) -> views.IntensityView | None:
    """Return I(t) with the ROI with an index foremost; None where the result has none."""
    if not result.has("intensity", "roi_mean"):
        return None
    n_pixels = result.xpcs["n_pixels"]
    trace, stored = views.IntensityTrace(len(n_pixels)), result.nodes("intensity")["roi_mean"]
    frames = trace.to_read(n_frames)
    if n_frames:
        trace.add(0, np.asarray(stored[frames]), step=frames.step)
    return views.intensity_view(
        trace,
        roi,
        n_pixels=n_pixels,
        n_frames=n_frames,
        frame_time_s=result.xpcs["frame_time_s"],
    )


def _saxs(result: XPCSResult) -> Saxs | None:
    """Return I(q); None where the result has none."""
    rings = result.nodes("saxs")
    if "saxs" not in rings:
        return None
    return Saxs(
        radius_px=rings["radius"].read(),
        q_inv_angstrom=rings["q"].read(),
        mean=rings["saxs"].read(),
        n_pixels=rings["n_pixels"].read(),
    )


def _g2(
    result: XPCSResult, label: int, measured: Measured, gamma: GammaTable, *, final: bool
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
        near, denoised = (None, None) if measured.band is None else measured.band.g2(0)
        lags, raw = views.g2_so_far(measured.c2, measured.frames_per_bin, near)
        delay_s, error = lags * frame_time_s, None
    return views.g2_view(
        delay_s,
        raw,
        denoised,
        raw_error=error,
        table=gamma,
        label=label,
        n_frames=measured.n_frames,
        frame_time_s=frame_time_s,
        series_s=measured.n_frames * frame_time_s,
        whole=len(table) > 0,
        final=final,
    )
