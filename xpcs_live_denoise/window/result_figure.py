"""The figure of one result in Tiled: what the live window shows at the end of a run."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from xpcs_live_denoise import views
from xpcs_live_denoise.errors import MissingDependencyError, ResultNotFoundError
from xpcs_live_denoise.records.results import GammaTable
from xpcs_live_denoise.records.run import Status
from xpcs_live_denoise.records.types import Document, FloatArray

from .figure import RunFigure, RunView

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from xpcs_live_denoise.readers import XPCSResult

Frame: TypeAlias = Any  # a DataFrame: pandas has few types

SIZE_INCHES = (14.0, 8.4)
MOST_EDGE = 512  # pixels of a C2


def plot_result(result: XPCSResult, label: int) -> Figure:
    """Return the figure; see `XPCSResult.plot`.

    Raises
    ------
    MissingDependencyError
        Without matplotlib.
    """
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise MissingDependencyError(
            "XPCSResult.plot: matplotlib is not installed. It comes with the extra `plot`: "
            "pip install 'xpcs-live-denoise[plot]'."
        ) from error
    view = _view(result, label)
    figure = plt.figure(figsize=SIZE_INCHES)
    RunFigure(figure).update(view)
    return figure


def _view(result: XPCSResult, label: int) -> RunView:
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
    detector, counts = _detector(result, label)
    state = "" if stop is None else views.STATES.get(stop.get("exit_status", ""), "ended")
    reason = "" if stop is None else stop.get("reason") or ""
    window = xpcs.get("window", 0)
    return RunView(
        title=views.run_title(start, start["original_run_uid"], xpcs.get("detector", ""), state),
        roi=f"{views.roi_title(label, q[roi])} ({roi + 1} of {len(labels)})",
        message=views.message(reason, status.message),
        facts=views.facts(
            status,
            roi,
            n_frames=n_frames,
            n_expected=None if stop is not None else xpcs.get("n_expected"),
            frame_time_s=frame_time_s,
            counts=counts,
            live=stop is None,
        ),
        label=label,
        detector=detector,
        two_time=views.two_time_view(
            raw,
            result.c2(label).values if result.has("two_time", "c2_denoised") else None,
            entry_s=frame_time_s,
            most=MOST_EDGE,
            series_s=series_s,
            status=status,
            roi=roi,
            note=views.why_not_denoised(n_frames, window, final=stop is not None),
        ),
        g2=_g2(result, label, raw, gamma, final=stop is not None),
        gamma=views.gamma_view(gamma, label, end_s=series_s, window=window, final=stop is not None),
        power_law=views.power_law_view(gamma, labels, q),
    )


def _status(result: XPCSResult) -> Status:
    """Return the newest row of the status stream."""
    table: Frame = result.status_table()
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
        message=str(newest["message"]),
    )


def _detector(result: XPCSResult, label: int) -> tuple[views.DetectorView | None, float]:
    """Return the detector and the mean counts in the ROI; None and NaN where nobody looked."""
    try:
        mean, labels = result.image()
    except ResultNotFoundError:
        return None, math.nan
    made = views.detector_view(
        mean.values,
        labels.values,
        label,
        binning=mean.attrs["binning"],
        n_frames=mean.attrs["n_frames"],
    )
    return made, views.mean_counts(mean.values, labels.values, label)


def _g2(
    result: XPCSResult, label: int, c2: FloatArray, gamma: GammaTable, *, final: bool
) -> views.G2View:
    table: Frame = result.g2_table()
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
