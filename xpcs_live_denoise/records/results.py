"""What the analysis makes: C2, g2 and Gamma(t) as records, and the Protocol of the sinks."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from xpcs_live_denoise.errors import InvalidInputError

from .run import RunEnd, RunInfo, Status
from .types import BoolArray, FloatArray, IntArray, concatenate_rows, select_rows

if TYPE_CHECKING:
    import pandas as pd  # pyright: ignore[reportMissingTypeStubs]


class RowSource(StrEnum):
    """Which estimate a row of Gamma(t) is: the column `source`."""

    RAW = "raw"  # the paper's fit of a cut of one frame
    DENOISED = "denoised"  # the same fit of the denoised C2
    DENOISED_COARSE = "denoised_coarse"  # of C2 that was coarsened before, for slow dynamics
    PATH = "path"  # Gamma of every frame at once: the one to trust
    BAYES = "bayes"  # the estimator on cuts, each age with the width that suits it
    SERIES_RAW = "series_raw"  # one fit of g2 of the whole series
    SERIES_DENOISED = "series_denoised"  # the same of the denoised g2

    @property
    def is_denoised(self) -> bool:
        """Whether the network made it: such rows have no error bar and are never recommended."""
        return self in (RowSource.DENOISED, RowSource.DENOISED_COARSE, RowSource.SERIES_DENOISED)


# --- from the pixels to C2 and Gamma(t) -----------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class C2Rows:
    """New rows of the map of C2: bins [start, stop), of which the last may not be full yet.

    While `frames_per_bin` is 1 a bin is a frame and the map is C2 itself. When it doubles, the rows
    begin at bin 0 again: what was there before is replaced. Bins that are full do not change.
    """

    start: int
    stop: int
    # (n_roi, stop - start, stop): C2(t1, t2) for t1 in [start, stop), t2 in [0, stop).
    values: FloatArray
    frames_per_bin: int = 1

    @staticmethod
    def concatenate(parts: Sequence[C2Rows]) -> C2Rows:
        """Join rows that follow each other or overlap, in order. At least one part is needed.

        Where rows stand in two parts the later counts. A part that starts before the first one, or
        has other bins, has all rows from there on anew: those before it do not count.
        """
        first = parts[0]
        for index, part in enumerate(parts):
            if part.start < first.start or part.frames_per_bin != first.frames_per_bin:
                return C2Rows.concatenate(parts[index:])
        # What a run takes back of its first rows may be more than it has new ones by now.
        end = max(part.stop for part in parts)
        shape = (len(first.values), end - first.start, end)
        values = np.empty(shape, first.values.dtype)
        for part in parts:
            start, stop = part.start - first.start, part.stop - first.start
            values[:, start:stop, : part.stop] = part.values
            # C2 is symmetric: later rows complete the earlier ones.
            values[:, :start, part.start : part.stop] = part.values[
                :, :, first.start : part.start
            ].swapaxes(1, 2)
        return C2Rows(
            start=first.start, stop=end, values=values, frames_per_bin=first.frames_per_bin
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BandRows:
    """Rows of the band of C2, frames [start, stop): [roi, t, lag] is C2(t, t - lag).

    Attributes
    ----------
    start, stop
        Frames.
    c2
        (n_roi, stop - start, window), lags 0 .. window - 1; NaN before the series and in gaps.
    denoised, spread
        The denoised C2(t - lag, t), and the standard deviation over the ensemble's members, of the
        same shape; raw and NaN where no window reached. None: nothing was denoised, or, of the
        spread, by one member, which has none.
    """

    start: int
    stop: int
    c2: FloatArray
    denoised: FloatArray | None = None
    spread: FloatArray | None = None

    def rows(self, start: int, stop: int) -> BandRows:
        """Return the rows of the frames [start, stop), which are among these."""
        kept = slice(start - self.start, stop - self.start)
        return BandRows(
            start=start,
            stop=stop,
            c2=self.c2[:, kept],
            denoised=None if self.denoised is None else self.denoised[:, kept],
            spread=None if self.spread is None else self.spread[:, kept],
        )

    @staticmethod
    def concatenate(parts: Sequence[BandRows]) -> BandRows:
        """Join rows that follow each other or overlap, in order. At least one part is needed.

        Where rows stand in two parts the later counts. Rows begin where the earliest part does.
        """
        start, stop = min(part.start for part in parts), max(part.stop for part in parts)
        shape = (len(parts[0].c2), stop - start, parts[0].c2.shape[2])
        joined: dict[str, FloatArray | None] = {}
        for name in ("c2", "denoised", "spread"):
            given = [(part, getattr(part, name)) for part in parts]
            if all(values is None for _, values in given):
                joined[name] = None
                continue
            rows = joined[name] = np.full(shape, np.nan, parts[0].c2.dtype)
            for part, values in given:
                missing = part.c2 if name == "denoised" else np.nan  # nothing denoised yet
                at = slice(part.start - start, part.stop - start)
                rows[:, at] = missing if values is None else values
        c2 = joined["c2"]
        if c2 is None:
            raise InvalidInputError("Band: got parts without C2.")
        return BandRows(
            start=start, stop=stop, c2=c2, denoised=joined["denoised"], spread=joined["spread"]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DenoisedTwoTime:
    """Denoised C2 and what made it.

    Attributes
    ----------
    c2
        Shape of the C2 that came in. Raw values where no window reached; NaN stays NaN.
    spread
        Same shape: standard deviation over the ensemble's members, in units of C2; NaN where
        nothing was denoised. None: of one member, which has none.
    reached
        Same shape: where `c2` is denoised; elsewhere it is raw.
    contrast, baseline
        beta* and baseline* that scaled the windows: scalars for one ROI without a ROI axis,
        else shape (n_roi,).
    """

    c2: FloatArray
    spread: FloatArray | None
    reached: BoolArray
    contrast: Any
    baseline: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class OneTime:
    """g2 of every ROI from the whole C2, raw and denoised."""

    delay_s: FloatArray  # (n_lag,): delays of the lags 1..n_lag
    g2: FloatArray  # (n_roi, n_lag): mean along each diagonal of C2
    g2_error: FloatArray  # (n_roi, n_lag): its standard error
    # (n_roi, n_lag): of the denoised C2, NaN beyond the windows' lags; None: nothing denoised.
    g2_denoised: FloatArray | None = None
    # (n_roi, n_lag): variance of C2 within 65 ages beyond its noise, in units of beta^2, one value
    # for the lags of a bin (the first is 2), NaN where too few ages tell; None: nobody has looked.
    heterogeneity: FloatArray | None = None
    heterogeneity_error: FloatArray | None = None


# --- from the analysis to the sinks ---------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Intensity:
    """I(t): what the detector counted in the frames [start, stop).

    Also in frames that were left out of C2, such as a beam dump. NaN in those that are missing, or
    have too many bad pixels.

    Attributes
    ----------
    start, stop
        Frames.
    total
        (stop - start,): counts of the pixels of all ROIs together.
    roi_mean
        (stop - start, n_roi): mean counts of a good pixel of each ROI.
    """

    start: int
    stop: int
    total: FloatArray
    roi_mean: FloatArray

    @property
    def dose(self) -> FloatArray:
        """What a pixel of each ROI has counted in these frames, (n_roi,); NaN for nothing known."""
        known = np.isfinite(self.roi_mean)
        counted = np.where(known, self.roi_mean, 0.0).sum(axis=0, dtype=np.float64)
        return np.where(known.any(axis=0), counted, np.nan)

    @staticmethod
    def concatenate(parts: Sequence[Intensity]) -> Intensity:
        """Join frames that follow each other or overlap, in order. At least one part is needed.

        Where frames stand in two parts the later counts. Frames begin where the earliest part does.
        """
        start, stop = min(part.start for part in parts), max(part.stop for part in parts)
        total = np.full(stop - start, np.nan)
        roi_mean = np.full((stop - start, parts[0].roi_mean.shape[1]), np.nan, np.float32)
        for part in parts:
            at = slice(part.start - start, part.stop - start)
            total[at], roi_mean[at] = part.total, part.roi_mean
        return Intensity(start=start, stop=stop, total=total, roi_mean=roi_mean)


@dataclass(frozen=True, slots=True, kw_only=True)
class Saxs:
    """I(q): the mean of a picture over rings around the direct beam, one entry a ring.

    Attributes
    ----------
    radius_px
        Of a ring, pixels of the detector.
    q_inv_angstrom
        The same as q, 1/Angstrom; NaN where the geometry does not tell it.
    mean
        Mean counts a pixel and frame; NaN where the ring has no good pixel.
    n_pixels
        Good pixels of the picture in the ring.
    denoised, denoised_error
        The same of the denoised picture, and by how much two halves of the photons disagree.
    """

    radius_px: FloatArray
    q_inv_angstrom: FloatArray
    mean: FloatArray
    n_pixels: IntArray
    denoised: FloatArray | None = None
    denoised_error: FloatArray | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """The detector as a person wants to see it, of a live run small enough for a screen."""

    # (rows, cols): the mean over the frames looked at so far, each pixel the mean over `binning` x
    # `binning` pixels of the detector, NaN where all of them are bad. Of a Result `binning` is 1.
    mean: FloatArray
    labels: IntArray  # (rows, cols): the ROI under each pixel, 0 for none
    binning: int
    n_frames: int  # frames in the mean: all that were read whole
    # I(q) of `mean`, without masked pixels; None where the direct beam is not known.
    saxs: Saxs | None = None
    # (rows, cols): what a network expects each pixel of `mean` to be, and by how much two halves of
    # its photons disagree, both of the last time it was asked; None where it was not.
    denoised: FloatArray | None = None
    denoised_error: FloatArray | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """What is new since the last publication of a live run; everything in it is provisional.

    Attributes
    ----------
    n_frames
        Frames in C2 after this publication.
    c2
        The new rows of the map, None if there are none.
    band
        The rows of the band that are new or whose denoised values changed, None if there are none.
    gamma
        New provisional rows, None if there are none.
    status
        Where the analysis stands.
    picture
        The detector so far, None if it has not changed.
    intensity
        I(t) of the new frames, None if there are none.
    """

    n_frames: int
    c2: C2Rows | None
    band: BandRows | None
    gamma: GammaTable | None
    status: Status
    picture: Picture | None = None
    intensity: Intensity | None = None

    def rows_before(self, frame: int) -> Publication:
        """Return its rows of the band before a frame, and nothing else that is provisional."""
        band = self.band
        if band is not None:
            band = band.rows(band.start, min(band.stop, frame)) if band.start < frame else None
        return dataclasses.replace(
            self, c2=None, band=band, gamma=None, picture=None, intensity=None
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The final results of one series of frames.

    Attributes
    ----------
    map_values
        The map of C2, (n_roi, m, m), symmetric: each entry is the mean over a block of frames.
    band
        Rows of the band; all of them while a bin of the map is a frame, else the last ones only.
    denoised
        The denoised C2, (n_roi, n, n), of a series whose map has a bin a frame. None of a longer
        one, whose band alone is denoised, and where nothing was: `status.message` says why.
    gamma
        Final rows: raw and denoised per age and ROI, and the fits of the whole series.
    g2
        g2 of the whole series.
    status
        The last status.
    picture
        The detector: the mean of all frames that were read whole, and its I(q). None of a C2 alone.
    intensity
        I(t) of all frames. None of a C2 alone.
    info
        What is known of the run by its end, where that is not what it began with.
    """

    map_values: FloatArray
    band: BandRows
    denoised: DenoisedTwoTime | None
    gamma: GammaTable
    g2: OneTime
    status: Status
    frames_per_bin: int = 1
    picture: Picture | None = None
    intensity: Intensity | None = None
    info: RunInfo | None = None

    @property
    def saxs(self) -> Saxs | None:
        """I(q) of the picture; None where there is none, or the direct beam is not known."""
        return None if self.picture is None else self.picture.saxs

    @property
    def map(self) -> tuple[FloatArray, int]:
        """The map of C2, (n_roi, m, m), and how many frames a bin holds; the last may hold less."""
        return self.map_values, self.frames_per_bin

    @property
    def c2(self) -> FloatArray:
        """C2, (n_roi, n, n), symmetric.

        Raises
        ------
        InvalidInputError
            Where the series has more frames than the map has bins.
        """
        if self.frames_per_bin > 1:
            raise InvalidInputError(
                f"C2: got a series of {self.band.stop} frames, expected at most as many as the map "
                f"has bins: it averages {self.frames_per_bin} frames. Read `map` and `band`, or "
                "raise the setting `map_frames`."
            )
        return self.map_values

    def with_frame_time(self, period_s: float | None) -> Result:
        """Return a result that is per frame in seconds; None: the period is not known.

        Delays are then in frames, and rows have the caution PER_FRAME.
        """
        delay_s = self.g2.delay_s * (1.0 if period_s is None else period_s)
        return dataclasses.replace(
            self,
            gamma=self.gamma.with_frame_time(period_s),
            g2=dataclasses.replace(self.g2, delay_s=delay_s),
        )


class Sink(Protocol):
    """Where the results of one run go. Called from one thread only."""

    def write(self, record: Publication | Result) -> None:
        """Store or show a provisional publication, or the final result.

        May raise: the caller then offers the same news again, with what has come since.
        """
        ...

    def finish(self, end: RunEnd) -> None:
        """Close the run. Called once, also when no Result was written."""
        ...


# The caution of a row that is per frame: nobody knows the frame period.
PER_FRAME = "per_frame"


@dataclass(frozen=True, slots=True, kw_only=True)
class GammaTable:
    """Fitted relaxation rates, one entry a row; the columns of the `gamma` stream.

    What a person looks for comes first. Every attribute has shape (n_rows,).

    Attributes
    ----------
    roi
        ROI label, from 1 unless the label array says otherwise.
    q_inv_angstrom
        q of the ROI; NaN where unknown.
    age_s, age_frame
        Mean age (t1 + t2) / 2 of the pixels used, in seconds, and the centre of the cut in frames;
        NaN for fits of a whole series.
    source
        "raw", "denoised", "series_raw", "series_denoised", ...
    phi_deg
        Azimuth of the ROI, degrees; NaN where it has none.
    width
        Frames in the cut; the whole series' length for fits of a series.
    relaxation_rate, relaxation_rate_error
        Gamma and its standard error, s^-1; the error is NaN where none can be trusted. Per frame in
        rows with the caution "per_frame".
    error_kind
        Where the error comes from: "jackknife" (over pixel blocks), "residual" (Jacobian, times the
        scatter about the fit; of the estimator and of a whole series: from the scatter of C2 far
        from its diagonal), "fit" (Jacobian with known errors), "none", ...
    alpha, alpha_error, baseline, baseline_error, beta, beta_error
        The other parameters of g2 = baseline + beta exp(-2 (Gamma lag)^alpha); the error of a
        fixed parameter is 0.
    reduced_chi_square
        Of raw fits; NaN for denoised ones, whose noise is not independent.
    n_lags
        Lags that entered the fit.
    n_effective
        How many independent values the estimator's rows of this ROI are worth: their errors are
        correlated. NaN for other rows.
    converged
        The fit ended inside its bounds.
    in_range
        The result lies where its source can be trusted.
    recommended, reason
        The row to trust for this ROI and age, or why it is not.
    caution
        Why to be careful with the row although it is recommended, "" where nothing is known: names
        with a space between them, and behind a colon the factor by which Gamma may be higher.
    final
        False while the run may still change the row.
    """

    roi: IntArray
    q_inv_angstrom: FloatArray
    age_s: FloatArray
    relaxation_rate: FloatArray
    relaxation_rate_error: FloatArray
    alpha: FloatArray
    recommended: BoolArray
    source: NDArray[np.str_]
    age_frame: FloatArray
    phi_deg: FloatArray
    width: IntArray
    error_kind: NDArray[np.str_]
    alpha_error: FloatArray
    baseline: FloatArray
    baseline_error: FloatArray
    beta: FloatArray
    beta_error: FloatArray
    reduced_chi_square: FloatArray
    n_lags: IntArray
    n_effective: FloatArray
    converged: BoolArray
    in_range: BoolArray
    reason: NDArray[np.str_]
    caution: NDArray[np.str_]
    final: BoolArray

    def __post_init__(self) -> None:
        shape = self.roi.shape
        if any(getattr(self, name).shape != shape for name in GAMMA_COLUMNS):
            lengths = {name: getattr(self, name).shape for name in GAMMA_COLUMNS}
            raise InvalidInputError(
                f"GammaTable: columns of different shapes, {lengths}; expected one length for all."
            )

    def __len__(self) -> int:
        return len(self.roi)

    def replace(self, **columns: Any) -> GammaTable:
        """Return a copy with some columns set; a scalar is repeated for every row."""
        full = {name: np.full(len(self), value) for name, value in columns.items()}
        return dataclasses.replace(self, **full)

    def with_frame_time(self, period_s: float | None) -> GammaTable:
        """Return rows that are per frame in seconds; None: the period of a frame, if it is known.

        Without it they stay per frame, with the caution PER_FRAME.
        """
        if period_s is None:
            cautions = [f"{caution} {PER_FRAME}".strip() for caution in self.caution.tolist()]
            return dataclasses.replace(self, caution=np.array(cautions, np.str_))
        return dataclasses.replace(
            self,
            age_s=self.age_s * period_s,
            relaxation_rate=self.relaxation_rate / period_s,
            relaxation_rate_error=self.relaxation_rate_error / period_s,
        )

    def select(self, rows: BoolArray | IntArray) -> GammaTable:
        """Return the rows that a boolean mask or an index array names."""
        return select_rows(self, rows)

    @staticmethod
    def concatenate(tables: Sequence[GammaTable]) -> GammaTable:
        """Join tables, in order. At least one is needed."""
        return concatenate_rows(tables)

    def to_pandas(self) -> pd.DataFrame:
        """Return the table as a DataFrame with the columns of the `gamma` stream."""
        import pandas as pd  # pyright: ignore[reportMissingTypeStubs]

        return pd.DataFrame({name: getattr(self, name) for name in GAMMA_COLUMNS})


GAMMA_COLUMNS: tuple[str, ...] = tuple(GammaTable.__slots__)
