"""What is known of one run, from stored state and live updates, and what is shown of it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

import numpy as np

from xpcs_live_denoise import views
from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.numerics.estimator.model_image import c2_model
from xpcs_live_denoise.records.results import GammaTable, Picture
from xpcs_live_denoise.records.run import RoiHeterogeneity, Status
from xpcs_live_denoise.records.types import Array, Document, Fields, FloatArray, IntArray

T = TypeVar("T")
# Delays (s), raw g2, its error, and denoised g2 of one ROI, each of shape (n_lag,).
G2Arrays: TypeAlias = tuple[FloatArray, FloatArray | None, FloatArray | None, FloatArray | None]

# A live run is silent when nothing new came for this long, s, and for this many frames.
SILENT_S, SILENT_FRAMES = 60.0, 10
SCREEN_EDGE = 320  # pixels of C2: more would be sent than a panel of the page shows
# The arrays of the band in the stream `two_time`, and what they are called here.
BAND_FIELDS = {"c2_band": "raw", "c2_band_denoised": "denoised"}
LEAST_FRAMES = 5  # below it g2 has no shape


class RunData:
    """The numbers of one run, as far as they have been read.

    Attributes
    ----------
    maps, bands
        Index of the ROI -> C2Map, and C2Band of this ROI alone; only of ROIs that someone looks at.
    frames_per_bin
        Of the maps.
    squares
        Index of the ROI -> the whole denoised C2, where the band has not all that is denoised, or a
        result of earlier versions has no band.
    gamma
        The rows that count, None before the first.
    status
        The newest, None before the first; `lag_s` is NaN where it is not known.
    picture
        "image" and "roi_labels" -> array, where the run has them.
    picture_facts
        `binning` and `n_frames` of the image.
    g2
        "g2", "g2_error", "g2_denoised", "delay_s" -> array, after the end of the run.
    """

    def __init__(self) -> None:
        self.maps: dict[int, views.C2Map] = {}
        self.bands: dict[int, views.C2Band] = {}
        self.squares: dict[int, views.C2Map] = {}
        self.frames_per_bin = 1
        self.gamma: GammaTable | None = None
        self.status: Status | None = None
        self.picture: dict[str, Array] = {}
        self.picture_facts: Fields = {}
        self.g2: dict[str, FloatArray] = {}
        self._gamma_order: IntArray = np.empty(0, np.int64)
        self._status_order = -1

    def make_room(self, n_frames: int) -> None:
        """Thin all maps to the one stride at which so many frames fit: they are compared."""
        for c2 in (*self.maps.values(), *self.squares.values()):
            c2.make_room(-(-n_frames // c2.frames_per_bin))

    def set_bins(self, frames_per_bin: int) -> bool:
        """Take how many frames a bin of the maps holds; return whether all must be read anew."""
        if frames_per_bin == self.frames_per_bin:
            return False
        self.frames_per_bin = frames_per_bin
        self.maps.clear()
        return True

    def patch_c2(self, values: FloatArray, offset: tuple[int, int, int]) -> None:
        """Take a block of the map, shape (n_roi, k, m), for the ROIs someone looks at."""
        for index, c2_map in self.maps.items():
            if 0 <= (at := index - offset[0]) < len(values):
                c2_map.patch(values[at], offset[1:])

    def patch_band(self, name: str, values: FloatArray, offset: tuple[int, int, int]) -> None:
        """Take rows of the band, "c2_band" or "c2_band_denoised", for the ROIs someone looks at."""
        for index, band in self.bands.items():
            at = index - offset[0]
            # Where the array only grew there are no rows.
            if 0 <= at < len(values) and values.shape[2] == band.window:
                rows = views.written(values[at : at + 1])
                raw, denoised = (rows, None) if BAND_FIELDS[name] == "raw" else (None, rows)
                band.add(offset[1], raw, denoised)

    def patch_picture(self, name: str, values: Array, offset: tuple[int, ...]) -> None:
        """Take a part of the image or of the labels."""
        whole = np.array(self.picture[name])
        box = tuple(slice(o, o + n) for o, n in zip(offset, values.shape, strict=True))
        whole[box] = values
        self.picture[name] = whole

    def add_gamma(self, rows: Any, *, afresh: bool) -> None:
        """Take rows (a DataFrame): all that there are, or new ones, some of which may be known."""
        table, order = views.table_from_columns(rows), np.asarray(rows["seq_num"])
        if self.gamma is not None and not afresh:
            table = GammaTable.concatenate([self.gamma, table])
            order = np.concatenate([self._gamma_order, order])
        kept = views.rows_that_count(table, order)
        self.gamma, self._gamma_order = table.select(kept), order[kept]

    def add_status(self, rows: Any, *, afresh: bool) -> float:
        """Take rows (a DataFrame) of the status; return the time of the newest, 0 for none."""
        if not len(rows):
            return 0.0
        newest = rows.loc[rows["seq_num"].idxmax()].to_dict()
        if not afresh and newest["seq_num"] < self._status_order:
            return 0.0
        self._status_order = newest["seq_num"]
        self.status = Status(
            n_processed=int(number(newest.get("n_processed"), 0)),
            n_skipped=int(number(newest.get("n_skipped"), 0)),
            lag_s=number(newest.get("lag_s")),
            contrast=_numbers(newest.get("contrast")),
            baseline=_numbers(newest.get("baseline")),
            heterogeneity=_heterogeneity(newest.get("heterogeneity")),
            message=str(newest.get("message") or ""),
        )
        return number(newest.get("time"), 0)


def number(value: object, otherwise: float = math.nan) -> float:
    """Return a value that should be a finite number; another one in place of anything else."""
    if isinstance(value, int | float | np.integer | np.floating) and math.isfinite(value):
        return float(value)
    return otherwise


def _numbers(text: Any) -> tuple[float, ...]:
    try:
        values = json.loads(text)
    except (TypeError, ValueError):
        return ()
    return tuple(map(number, values)) if isinstance(values, list) else ()


def _heterogeneity(text: Any) -> tuple[RoiHeterogeneity, ...]:
    try:
        return tuple(map(RoiHeterogeneity.from_fields, json.loads(text)))
    except (TypeError, ValueError):  # an earlier version told none
        return ()


class RunState:
    """The newest state of one derived run.

    Attributes
    ----------
    version
        Grows with every change.
    metadata
        `start`, `stop` when the run has ended, `n_frames`.
    data
        Its numbers; whoever changes them calls `touch`.
    loaded, complete
        Whether the stored state has been read, and whether after the end of the run: then nothing
        is missing and nothing will change.
    gone
        Why the run can no longer be read, a sentence or two; empty if it can.
    wanted
        Indices of the ROIs whose C2 somebody looks at.
    heard
        When the analysis last gave a sign of life, s since 1970.
    """

    def __init__(self, uid: str) -> None:
        self.uid = uid
        self.version = 0
        self.metadata: Document = {}
        self.data = RunData()
        self.loaded = False
        self.complete = False
        self.gone = ""
        self.wanted: set[int] = set()
        self.heard = 0.0
        self._shown: dict[Any, Any] = {}

    @property
    def start(self) -> Fields:
        """The start document."""
        return self.metadata.get("start") or {}

    @property
    def xpcs(self) -> Fields:
        """How the run was analysed."""
        return self.start.get("xpcs") or {}

    @property
    def labels(self) -> list[int]:
        """Labels of the ROIs."""
        return list(self.xpcs.get("roi") or ())

    @property
    def q_inv_angstrom(self) -> FloatArray:
        """Wave vector of every ROI, shape (n_roi,), 1/Angstrom; NaN where unknown."""
        return self._of_rois("q_inv_angstrom")

    @property
    def roi_titles(self) -> list[str]:
        """What the ROIs are called."""
        phi_deg = self._of_rois("phi_deg")
        return list(map(views.roi_title, self.labels, self.q_inv_angstrom, phi_deg))

    def _of_rois(self, name: str) -> FloatArray:
        known = self.xpcs.get(name) or ()
        values = np.full(len(self.labels), np.nan)
        for index, value in enumerate(known[: len(values)]):
            values[index] = np.nan if value is None else value
        return values

    @property
    def n_frames(self) -> int:
        """Frames in C2."""
        return int(self.metadata.get("n_frames") or 0)

    @property
    def n_expected(self) -> int | None:
        """Frames of the whole series, None where unknown."""
        return self.xpcs.get("n_expected")

    @property
    def frame_time_s(self) -> float:
        """Frame period, s."""
        return float(self.xpcs.get("frame_time_s") or 1.0)

    @property
    def time_unit(self) -> str:
        """Unit of all times: "s", or "frame" where nobody knows the frame period."""
        return str(self.xpcs.get("time_unit") or "s")

    @property
    def window(self) -> int:
        """Edge of the denoiser's windows, frames."""
        return int(self.xpcs.get("window") or 50)

    @property
    def any_size(self) -> bool:
        """Whether all of C2 is denoised in the end, not its short lags alone."""
        return (self.xpcs.get("settings") or {}).get("denoiser") == "any_size"

    @property
    def live(self) -> bool:
        """Whether the run has not ended, as far as can be read."""
        return "stop" not in self.metadata and not self.gone

    def silent_since(self, now: float) -> float | None:
        """Return since when a live run has given no sign of life; None if that is not long."""
        known = self.live and self.loaded
        silent = known and is_silent(now - self.heard, self.frame_time_s)
        return self.heard if silent else None

    # --- what comes ------------------------------------------------------------------------

    def touch(self) -> None:
        """Make known that something has changed."""
        self.version += 1
        self._shown.clear()

    def set_metadata(self, metadata: Fields) -> None:
        """Take the run's metadata. An older one that comes late takes nothing back."""
        if "stop" in self.metadata and "stop" not in metadata:
            return
        if (metadata.get("n_frames") or 0) < self.n_frames and "stop" not in metadata:
            metadata = {**metadata, "n_frames": self.n_frames}
        self.metadata, self.gone = dict(metadata), ""
        self.data.make_room(self.n_frames)
        self.hear(self.start.get("time") or 0.0)
        self.touch()

    def hear(self, at: float) -> None:
        """Take note of a sign of life, s since 1970."""
        self.heard = max(self.heard, float(at))

    def lose(self, why: str) -> None:
        """Take note that the run can no longer be read."""
        self.gone = why
        self.touch()

    def map_of(self, index: int) -> views.C2Map:
        """Return the map of a ROI, made if there is none."""
        bins = self.data.frames_per_bin
        if index not in self.data.maps:
            self.data.maps[index] = views.C2Map(-(-self.n_frames // bins), frames_per_bin=bins)
        return self.data.maps[index]

    def band_of(self, index: int, window: int) -> views.C2Band:
        """Return the band of a ROI, made if there is none of so many lags."""
        band = self.data.bands.get(index)
        if band is None or band.window != window:
            band = self.data.bands[index] = views.C2Band(1, window)
        return band

    def square_of(self, index: int) -> views.C2Map:
        """Return the whole denoised C2 of a ROI, made if there is none."""
        return self.data.squares.setdefault(index, views.C2Map(self.n_frames))

    def append(self, stream: str, rows: Any, *, afresh: bool = False) -> None:
        """Take rows of a table, a DataFrame; `afresh`: all that there are."""
        if stream == "gamma":
            self.data.add_gamma(rows, afresh=afresh)
        else:
            self.hear(self.data.add_status(rows, afresh=afresh))
        self.touch()

    @property
    def empty(self) -> bool:
        """Whether the run has ended and left nothing to draw."""
        data = self.data
        drawn = (data.maps and self.n_frames) or data.picture or data.gamma is not None or data.g2
        return not self.live and not drawn

    # --- what is shown; made once for all pages ---------------------------------------------

    def _once(self, key: object, make: Callable[[], T]) -> T:
        if key not in self._shown:
            self._shown[key] = make()
        return self._shown[key]

    def two_time(self, index: int, *, model: bool = False) -> views.TwoTimeView:
        """Return the C2 of a ROI (its index); `model`: that of the path instead of the denoised."""
        return self._once(("two_time", index, model), lambda: self._two_time(index, model))

    def _two_time(self, index: int, model: bool) -> views.TwoTimeView:
        c2_map, band = self.data.maps.get(index), self.data.bands.get(index)
        second = None
        if model:
            second, title, note = self._model(index, c2_map), views.MODEL_TITLE, "no path"
        else:
            if index in self.data.squares:
                second = self.data.squares[index].full(self.n_frames)
            title = views.PANELS["c2_denoised"][0]
            note = views.why_not_denoised(
                self.n_frames,
                self.window,
                final=not self.live,
                has_denoiser=views.has_denoiser(self.xpcs),
            )
        return views.measured_view(
            c2_map or views.C2Map(0),
            None if model or second is not None else band,
            second,
            n_frames=self.n_frames if c2_map else 0,
            frame_time_s=self.frame_time_s,
            most=SCREEN_EDGE,
            series_s=self.series_s,
            status=self.data.status,
            roi=index,
            note=note,
            title=title,
            final=not self.live,
        )

    def _model(self, index: int, c2_map: views.C2Map | None) -> FloatArray | None:
        if self.data.gamma is None or c2_map is None:
            return None
        try:
            return c2_model(
                self.data.gamma,
                self.labels[index],
                frame_time_s=self.frame_time_s,
                n_frames=self.n_frames,
                stride=c2_map.stride,
                frames_per_bin=c2_map.frames_per_bin,
            )
        except InvalidInputError:  # no path of this ROI, or not yet
            return None

    @property
    def series_s(self) -> float:
        """Time of the whole series as far as it is known, s."""
        to_come = (self.n_expected or 0) if self.live else 0
        return max(self.n_frames, to_come) * self.frame_time_s

    def detector(self, index: int) -> views.DetectorView | None:
        """Return the detector image with a chosen ROI, None where the run has none."""
        return self._once(
            ("detector", index), lambda: views.detector_view(self._picture(), self.labels[index])
        )

    def _picture(self) -> Picture | None:
        return self._once("picture", self._new_picture)

    def _new_picture(self) -> Picture | None:
        mean = self.data.picture.get("image")
        if mean is None or mean.ndim != 2:
            return None
        facts, labels = self.data.picture_facts, self.data.picture.get("roi_labels")
        picture = Picture(
            mean=np.asarray(mean, np.float32),
            labels=np.zeros(mean.shape, np.int32) if labels is None else labels,
            binning=facts.get("binning") or 1,
            n_frames=facts.get("n_frames") or 0,
        )
        return views.for_screen(picture)

    def g2(self, index: int) -> views.G2View:
        """Return g2 of a ROI: the stored one of a finished run, else that of C2 so far."""
        return self._once(("g2", index), lambda: self._g2(index))

    def _g2(self, index: int) -> views.G2View:
        stored = self._stored_g2(index)
        delay_s, raw, error, denoised = stored or self._g2_so_far(index)
        return views.g2_view(
            delay_s,
            raw,
            denoised,
            raw_error=error,
            table=self.data.gamma,
            label=self.labels[index],
            n_frames=self.n_frames,
            frame_time_s=self.frame_time_s,
            series_s=self.series_s,
            whole=stored is not None,
            final=not self.live,
        )

    def _stored_g2(self, index: int) -> G2Arrays | None:
        """Return g2 of a finished run; None where an analysis that broke off has left it out."""
        delay_s = self.data.g2.get("delay_s")
        if not self.complete or delay_s is None:
            return None
        shape = (len(self.labels), len(delay_s))
        stored = {name: g2[index] for name, g2 in self.data.g2.items() if g2.shape == shape}
        if "g2" not in stored:
            return None
        return delay_s, stored["g2"], stored.get("g2_error"), stored.get("g2_denoised")

    def _g2_so_far(self, index: int) -> G2Arrays:
        c2_map, near, denoised = self.data.maps.get(index), None, None
        if c2_map is None or self.n_frames < LEAST_FRAMES:
            return np.empty(0), None, None, None
        if index in self.data.bands:
            near, denoised = self.data.bands[index].g2(0)
        elif index in self.data.squares:
            denoised = views.g2_so_far(self.data.squares[index].full(self.n_frames))[1]
        lags, g2 = views.g2_so_far(c2_map.full(self.n_frames), c2_map.entry_frames, near)
        return lags * self.frame_time_s, g2, None, denoised

    def heterogeneity(self, index: int) -> views.HeterogeneityView:
        """Return the heterogeneity of a ROI."""
        return self._once(
            ("heterogeneity", index),
            lambda: views.heterogeneity_view(
                self.data.status, index, self.frame_time_s, final=not self.live
            ),
        )

    def gamma(self, index: int) -> views.GammaView:
        """Return Gamma(t) of a ROI."""
        return self._once(
            ("gamma", index),
            lambda: views.gamma_view(
                self.data.gamma,
                self.labels[index],
                end_s=self.series_s,
                window=self.window,
                final=not self.live,
            ),
        )

    def power_law(self) -> views.PowerLawView:
        """Return one typical Gamma a ROI against q squared."""
        return self._once(
            "power_law",
            lambda: views.power_law_view(self.data.gamma, self.labels, self.q_inv_angstrom),
        )

    def facts(self, index: int) -> list[tuple[str, str]]:
        """Return the facts of the run and a ROI: (name, value) pairs."""
        status = self.data.status or Status(lag_s=math.nan)
        return views.facts(
            status,
            index,
            n_frames=self.n_frames,
            n_expected=self.n_expected if self.live else None,
            frame_time_s=self.frame_time_s,
            time_unit=self.time_unit,
            counts=self._once(("counts", index), lambda: self._counts(index)),
            live=self.live,
        )

    def _counts(self, index: int) -> float:
        if index >= len(self.labels):
            return math.nan
        return views.mean_counts(self._picture(), self.labels[index])


def is_silent(for_s: float, frame_time_s: float) -> bool:
    """Whether a live run without updates for this long, s, may have lost its analysis."""
    return for_s > max(SILENT_S, SILENT_FRAMES * frame_time_s)
