"""Live two-time XPCS with CNN denoising, from Bluesky documents to derived runs in Tiled."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xpcs_live_denoise.live.callback import LiveDenoise
    from xpcs_live_denoise.numerics.fits import fit_ages, fit_g2
    from xpcs_live_denoise.records.results import DenoisedTwoTime, GammaTable, Result
    from xpcs_live_denoise.sources.remote.publisher import document_publisher
    from xpcs_live_denoise.window.live_plot import LivePlot

    from .config import Settings
    from .denoising.ensemble import Ensemble, load_ensemble
    from .errors import (
        FrameShapeError,
        InvalidInputError,
        MissingDependencyError,
        ResultNotFoundError,
        UnreadableFramesError,
        XpcsError,
    )
    from .numerics.rois import RoiMap
    from .numerics.simulate import simulate_speckle
    from .numerics.two_time import TwoTimeAccumulator
    from .numerics.windows import denoise_two_time
    from .offline import analyse, analyse_c2
    from .readers.client import XPCSResult, results
    from .sources.roi_files import load_rois, save_rois

# Where each public name lives. Imported on first use: the package itself loads nothing heavy.
_HOME = {
    "DenoisedTwoTime": "records",
    "Ensemble": "denoising.ensemble",
    "FrameShapeError": "errors",
    "GammaTable": "records",
    "InvalidInputError": "errors",
    "LiveDenoise": "callback",
    "LivePlot": "sinks.plot",
    "MissingDependencyError": "errors",
    "Result": "records",
    "ResultNotFoundError": "errors",
    "RoiMap": "numerics.rois",
    "Settings": "config",
    "TwoTimeAccumulator": "numerics.two_time",
    "UnreadableFramesError": "errors",
    "XPCSResult": "readers.client",
    "XpcsError": "errors",
    "analyse": "offline",
    "analyse_c2": "offline",
    "denoise_two_time": "numerics.windows",
    "document_publisher": "sources.remote_publisher",
    "fit_ages": "numerics.kww",
    "fit_g2": "numerics.kww",
    "load_ensemble": "denoising.ensemble",
    "load_rois": "sources.roi_files",
    "results": "readers.client",
    "save_rois": "sources.roi_files",
    "simulate_speckle": "numerics.simulate",
}

__all__ = [  # noqa: PLE0604 - the names are strings  # pyright: ignore[reportUnsupportedDunderAll]
    *_HOME
]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
