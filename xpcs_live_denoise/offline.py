"""The live analysis of what is there already: analyse() frames or files, analyse_c2() a C2."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import ArrayLike

from xpcs_live_denoise.analysis import (
    Analysis,
    C2Analysis,
    DetectorImage,
    append_note,
    library_versions,
    open_ensemble,
)
from xpcs_live_denoise.numerics.arrays import as_stack
from xpcs_live_denoise.numerics.estimator.sums import AgeSums
from xpcs_live_denoise.numerics.fits import check_frame_time, typical_rates
from xpcs_live_denoise.records import results as records
from xpcs_live_denoise.records.frames import Geometry, MissingFrames, RoiPixels
from xpcs_live_denoise.records.run import RunInfo
from xpcs_live_denoise.sinks import BandFile, stored_band
from xpcs_live_denoise.sources import (
    RoiSelection,
    StoredSeries,
    ThresholdChoice,
    is_in_tiled,
    is_sparse,
    names_files,
    open_flat_field,
    open_mask,
    open_rois,
    open_series,
    pixel_mask_of,
    select_frames,
)

from .config import Settings
from .errors import FrameShapeError, InvalidInputError
from .numerics.rois import RoiMap
from .numerics.windows import Denoiser

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True, kw_only=True)
class Result(records.Result):
    """The final results of one series of frames, and what can be made of them.

    `band_file` is the file with all rows of the band, None where there is none.
    """

    band_file: Path | None = None

    def summary(self) -> pd.DataFrame:
        """Return one row a ROI.

        Returns
        -------
        pandas.DataFrame
            Columns `roi`, `q_inv_angstrom`, `phi_deg`, `relaxation_rate` and its error (the typical
            Gamma of the recommended rows, 1/s, or per frame where `caution` says so; NaN without
            any), `alpha` (their median), `contrast`, `baseline`, `n_frames`, `n_skipped`,
            `n_ages` (recommended rows), `caution`.
        """
        import pandas as pd

        rows, info, status = self.gamma, self.info, self.status
        labels = np.array(info.roi if info else np.unique(rows.roi))
        n = len(labels)
        unknown = (np.nan,) * n
        table: dict[str, Any] = {"roi": labels, "q_inv_angstrom": unknown, "phi_deg": unknown}
        if info is not None:
            table |= {"q_inv_angstrom": info.q_inv_angstrom, "phi_deg": info.phi_deg or unknown}
        rates = typical_rates(rows)
        at = np.searchsorted(labels, rates.roi)
        numbers = np.full((4, n), np.nan)
        numbers[0, at] = np.exp(rates.ln_rate)
        numbers[1, at] = numbers[0, at] * rates.ln_rate_error
        numbers[2, at] = [np.median(rows.alpha[rows.recommended & (rows.roi == label)])
                          for label in rates.roi]  # fmt: skip
        numbers[3], numbers[3, at] = 0, rates.n_ages
        said = [set(rows.caution[rows.recommended & (rows.roi == label)]) for label in labels]
        return pd.DataFrame(
            {
                **table,
                "relaxation_rate": numbers[0],
                "relaxation_rate_error": numbers[1],
                "alpha": numbers[2],
                "contrast": status.contrast or unknown,
                "baseline": status.baseline or unknown,
                "n_frames": self.band.stop,
                "n_skipped": status.n_skipped,
                "n_ages": numbers[3].astype(np.int64),
                "caution": [", ".join(sorted(words - {""})) for words in said],
            }
        )

    def plot(self, roi: int | None = None) -> Figure:
        """Draw a ROI as the live window does; it needs the extra `plot`.

        Parameters
        ----------
        roi
            Label of the ROI. Default: the middle one.

        Raises
        ------
        InvalidInputError
            For a label that is none.
        """
        from xpcs_live_denoise.window import plot_view, view_of_result

        info = self.info
        if info is None:
            raise InvalidInputError("plot: got a result without `info`; expected one of analyse().")
        if roi is not None and roi not in info.roi:
            raise InvalidInputError(f"plot: got ROI {roi}, expected one of {list(info.roi)}.")
        index = len(info.roi) // 2 if roi is None else info.roi.index(roi)
        return plot_view(view_of_result(self, info, index))

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        format: str | None = None,  # noqa: A002 - as XPCSResult.export calls it
        overwrite: bool = False,
    ) -> None:
        """Write the result to a file, as `XPCSResult.export` does: HDF5, CSV or PNG.

        Of a series of more than `map_frames` frames all rows of the band come from the file that
        `analyse(band_file=...)` named; without it, or where it has gone, the last ones are saved,
        with their times.

        Parameters
        ----------
        path
            The file, which is there when it is complete.
        format
            "h5", "csv", "png" or a media type; default: the ending of the file's name.
        overwrite
            Replace a file that is there.

        Raises
        ------
        InvalidInputError
            For a file that is there already, a folder that is not, and an unknown format.
        UnwritableFileError
            When the file cannot be written, on a full disk for example.
        """
        from xpcs_live_denoise.readers import Contents, export_file, format_of

        if (kind := format_of(path, format)) is None:
            raise InvalidInputError(
                f"File {path}: got the format {format or Path(path).suffix!r}; expected h5, csv "
                "or png. Give the file such an ending, or say format='h5'."
            )
        band = None
        if self.band.start and self.band_file is not None and self.band_file.exists():
            band = stored_band(self.band_file, self.band.stop)
        contents = functools.partial(Contents.of_result, self, band)
        export_file(path, contents, self.plot, kind=kind, overwrite=overwrite)

    @classmethod
    def of(cls, result: records.Result, **changes: Any) -> Result:
        """Return what the analysis made, with some fields changed."""
        fields = {field.name: getattr(result, field.name) for field in dataclasses.fields(result)}
        return cls(**{**fields, **changes})


def analyse(
    frames: Any,
    settings: Settings | None = None,
    *,
    rois: RoiMap | None = None,
    ensemble: Denoiser | None = None,
    band_file: str | os.PathLike[str] | None = None,
    dataset: str | None = None,
    series: int | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> Result:
    """Compute C2, denoised C2, g2 and Gamma(t) of a whole series, as the live analysis does.

    Parameters
    ----------
    frames
        A path: the master file of an Eiger, HDF5, `.npy`, `.npz`, TIFF, EDF and what else fabio
        reads; several of them in a list, in order (numbered ones in that of their numbers); or a
        folder with one series. Geometry and frame period come from the files where these tell
        them. What cannot be read of them is a gap. Or an array of frames in Tiled. Or numbers of
        shape (n, rows, cols): an array, a list of frames, or anything with `shape`, `dtype` and
        slices along its first axis, such as an HDF5 dataset, which is read in blocks of
        `settings.block_bytes`. Pixels that `pixel_mask` of a dataset's Eiger file marks are left
        out. Of (n, thresholds, rows, cols) the setting `threshold` chooses. Of frames that an Eiger
        compressed only what the ROIs need is decompressed, and a damaged chunk is a gap. A sparse
        array (of sparse or scipy; also (n, rows * cols)) never
        becomes dense frames. Or an iterable of blocks (k, rows, cols), a generator for instance,
        of any total length: memory does not grow with it. A block of another shape is a gap of as
        many frames.
    settings
        As for LiveDenoise; default: all defaults. Its `frame_time_s` and `geometry` come before
        those of files. Without a frame time rates are per frame, and their rows have the caution
        "per_frame".
    rois
        The ROI map, instead of the file that `settings.rois` names.
    ensemble
        Instead of the one that `settings.weights` names; anything with `denoise`.
    band_file
        An HDF5 file for all rows of the band of C2: datasets `c2`, `denoised` and `spread`, (roi,
        t, lag) as in `Result.band`, which holds the last rows of a series only that has more than
        `settings.map_frames` frames. It is written meanwhile and gets its name at the end.
    dataset
        Name of the dataset in a file of HDF5 (or of the array in an .npz file) that has several.
    series
        Sequence id of the series in a folder that has several.
    progress
        Called with the frames that are done and how many there are, None where nobody knows.

    Returns
    -------
    Result
        `.map`, `.c2`, `.band`, `.denoised` (None where nothing was denoised, and of a series of
        more than `map_frames` frames), `.gamma`, `.g2`, `.status`, `.intensity`, I(t) in total and
        of each ROI, `.picture`, the mean frame, and `.saxs`, its I(q) (None without the beam
        center); `.summary()`, `.plot()`.

    Raises
    ------
    InvalidInputError
        Without ROIs, or for files that cannot be used.
    FrameShapeError
        For frames that do not fit the ROIs.
    UnreadableFramesError
        For files of which not a single frame can be read.
    """
    settings = settings or Settings(detector="detector")
    given = Series.opened(frames, settings, dataset=dataset, series=series)
    geometry = Geometry(**settings.geometry.model_dump()).completed(given.geometry)
    frame_time_s = settings.frame_time_s or given.frame_time_s
    why_not = ""
    if ensemble is None:
        ensemble, why_not = open_ensemble(settings)
    opened, flat_field, note = open_flat_field(settings, open_rois(settings, rois))
    keep = open_mask(settings, opened.shape)
    image, marked = DetectorImage(opened, settings.orientation, keep=keep), ()
    image.locate(geometry)
    if given.bad_pixels is not None:
        marked = image.leave_out(given.bad_pixels)
    with _band_file(band_file, image.rois, settings, frame_time_s) as writer:
        analysis = Analysis(
            settings,
            image.rois,
            frame_time_s=1.0,  # of what is per frame, until the end
            n_frames=given.n_frames,
            ensemble=ensemble,
            flat_field=flat_field,
            is_published=False,
            band_writer=writer,
        )
        with contextlib.closing(given.read(RoiSelection(image.rois))) as pieces:
            for piece in pieces:
                if isinstance(piece, MissingFrames):
                    analysis.push_gap(piece.n_frames)
                else:
                    analysis.push_pixels(piece.pixels)
                    if piece.whole is not None:
                        image.add(piece.whole)
                if progress is not None:
                    progress(analysis.n_taken, given.n_frames)
        if not analysis.n_taken:
            raise FrameShapeError(f"Series: got no frame; {EXPECTED}.")
        result = analysis.finish().with_frame_time(frame_time_s)
        if writer is not None:
            writer.close({"contrast": result.status.contrast, "baseline": result.status.baseline})
    unknown = NO_PERIOD if given.is_stored and frame_time_s is None else ""
    writing = "" if writer is None else writer.problem
    notes = (why_not, note, *marked, *given.notes, unknown, writing)
    return Result.of(
        result,
        band_file=None if band_file is None or writing else Path(band_file).absolute(),
        status=append_note(result.status, *notes),
        picture=image.image(negative_is_data=analysis.negative_is_data),
        info=_info(
            settings,
            image.rois,
            subject=given.subject,
            n_frames=given.n_frames,
            geometry=geometry,
            frame_time_s=frame_time_s,
            ensemble=ensemble,
        ),
    )


NO_PERIOD = (
    "No file tells the frame period: rates are per frame (1/frame), ages and delays in frames. Set "
    "frame_time_s, or --frame-time."
)


def _info(
    settings: Settings,
    rois: RoiMap,
    *,
    subject: str = "",
    n_frames: int | None,
    geometry: Geometry,
    frame_time_s: float | None,
    ensemble: Denoiser | None,
) -> RunInfo:
    """Return what is known of a series, as of a run."""
    return RunInfo(
        start={"uid": "", "sample": subject},
        detector="" if subject.startswith(settings.detector) else settings.detector,
        image_key=settings.data_key,
        frame_shape=rois.shape,
        frame_time_s=frame_time_s or 1.0,
        n_expected=n_frames,
        roi=tuple(rois.labels.tolist()),
        q_inv_angstrom=tuple(rois.q_inv_angstrom.tolist()),
        phi_deg=() if rois.phi_deg is None else tuple(rois.phi_deg.tolist()),
        n_pixels=tuple(rois.n_pixels.tolist()),
        window=settings.window,
        step=settings.step,
        mode=settings.mode,
        engine=settings.engine,
        time_unit="frame" if frame_time_s is None else "s",
        analysed_by="analyse",
        geometry=geometry,
        settings=settings.model_dump(mode="json", exclude={"tiled"}),
        model=None if ensemble is None else dict(getattr(ensemble, "info", {})),
        versions=library_versions(),
    )


@contextlib.contextmanager
def _band_file(
    path: str | os.PathLike[str] | None,
    rois: RoiMap,
    settings: Settings,
    frame_time_s: float | None,
) -> Iterator[BandFile | None]:
    """Open a file for the band; what was not closed is removed."""
    if path is None:
        yield None
        return
    file = BandFile(
        path,
        roi=rois.labels,
        q_inv_angstrom=rois.q_inv_angstrom,
        **({} if rois.phi_deg is None else {"phi_deg": rois.phi_deg}),
        frame_time_s=frame_time_s or np.nan,
        window=settings.window,
        step=settings.step,
    )
    try:
        yield file
    finally:
        file.discard()


EXPECTED = "expected (n, rows, cols) with n > 0, or an iterable of blocks (k, rows, cols)"
MOST_NOTES = 5  # blocks that are named


class Series:
    """Frames that are there, or that an iterable brings, in blocks (k, rows, cols) of bounded size.

    `n_frames` is their number where it is known; period, geometry and bad pixels where files tell
    them. Its state is what was said of blocks that could not be used. Raises FrameShapeError for
    what is no series.
    """

    subject = ""
    is_stored = False
    frame_time_s: float | None = None
    geometry = Geometry()

    @staticmethod
    def opened(
        frames: Any, settings: Settings, *, dataset: str | None, series: int | None
    ) -> Series:
        """Return the series that `analyse` was given."""
        threshold = settings.threshold
        if names_files(frames) or is_in_tiled(frames):
            frames = open_series(frames, dataset=dataset, series=series, threshold=threshold)
        elif dataset is not None or series is not None:
            raise InvalidInputError(
                "dataset, series: got one beside frames; expected it with the path of a file or "
                "folder. Leave it out."
            )
        if isinstance(frames, StoredSeries):
            return _Stored(frames, settings.block_bytes)
        return Series(frames, settings.block_bytes, threshold)

    def __init__(self, frames: Any, block_bytes: int, threshold: int | None = None) -> None:
        self.n_frames: int | None = None
        self.bad_pixels = pixel_mask_of(frames, threshold or 1)
        self._block_bytes, self._threshold = block_bytes, ThresholdChoice(threshold)
        self._notes: list[str] = []
        self._n_left_out = 0
        if _is_list_of_frames(frames):
            frames = np.asarray(frames)
        self._frames = frames
        if (shape := getattr(frames, "shape", None)) is not None:
            if not (len(shape) in {3, 4} or is_sparse(frames)) or not shape[0]:
                raise FrameShapeError(f"Series: got shape {tuple(shape)}; {EXPECTED}.")
            self.n_frames = shape[0]
        elif not isinstance(frames, Iterable) or isinstance(frames, str | bytes | Mapping):
            raise FrameShapeError(f"Series: got {type(frames).__name__}; {EXPECTED}.")

    def read(self, selection: RoiSelection) -> Generator[RoiPixels | MissingFrames, None, None]:
        """Yield the ROI pixels of all frames, and what cannot be had in its place."""
        parts: Iterable[Any] = self._frames if self.n_frames is None else [self._frames]
        n_read = 0
        for number, part in enumerate(parts, 1):
            block: Any = part if hasattr(part, "shape") else np.asarray(part)
            if len(block.shape) < 3 and not is_sparse(block):  # a frame, or nothing that is known
                block = np.asarray(block)[np.newaxis]
            try:
                place = self._threshold.place(tuple(block.shape), "Series", required=True)
                for piece in select_frames(block, self._block_bytes, selection, place):
                    if isinstance(piece, MissingFrames):
                        self._leave_out(piece.reason)
                    else:
                        n_read += len(piece)
                    yield piece
            except FrameShapeError as error:
                if not n_read:
                    raise
                n = block.shape[0]
                reason = f"Block {number} is a gap of {n}: {error}"
                self._leave_out(reason)
                yield MissingFrames(n_frames=n, reason=reason)

    @property
    def notes(self) -> list[str]:
        """A sentence for each of the first blocks that could not be used."""
        more = self._n_left_out - len(self._notes)
        return [*self._notes, *([f"And {more} more blocks like that."] if more else [])]

    def _leave_out(self, reason: str) -> None:
        self._n_left_out += 1
        if len(self._notes) < MOST_NOTES:
            self._notes.append(reason)


class _Stored(Series):
    """Frames that lie in files or in Tiled."""

    is_stored = True

    def __init__(self, series: StoredSeries, block_bytes: int) -> None:
        self.subject, self.n_frames = series.subject, series.n_frames
        self.frame_time_s = series.contents.frame_time_s
        self.geometry, self.bad_pixels = series.contents.geometry, series.contents.bad_pixels
        self._block_bytes, self._series = block_bytes, series

    def read(self, selection: RoiSelection) -> Generator[RoiPixels | MissingFrames, None, None]:
        """Yield the ROI pixels of all frames, and what cannot be had in its place."""
        return self._series.read(selection, self._block_bytes)

    @property
    def notes(self) -> list[str]:
        """A sentence for what a user should know of the files."""
        return self._series.notes


def _is_list_of_frames(frames: Any) -> bool:
    """Whether a list holds frames, all of one shape, and not blocks of them."""
    if not isinstance(frames, list | tuple):
        return False
    shapes = {np.shape(one) for one in cast("Sequence[Any]", frames)}
    return len(shapes) == 1 and len(shapes.pop()) == 2


def analyse_c2(
    c2: ArrayLike,
    *,
    frame_time_s: float = 1.0,
    ensemble: Denoiser | None = None,
    settings: Settings | None = None,
) -> Result:
    """Do with a C2 that is there all that the live analysis does with one.

    That is denoised windows, the paper's fits, the live estimator and its recommendation. Without
    pixels there is no jackknife: errors (`error_kind` "residual") come from how much blocks of C2
    scatter whose frames have nothing in common, and are rather too large; where the series is too
    short or too slow for such blocks the status says that they are uncertain. A curve of another
    shape than the model goes unnoticed. Static speckle and intensity that varies inside the ROI
    look alike: a row is recommended all the same, and its `caution` says by which factor Gamma may
    be higher.

    Parameters
    ----------
    c2
        Shape (n, n) or (n_roi, n, n), symmetric; the upper triangle is read. NaN is no measurement.
    frame_time_s
        Frame period, s; with the default rates are per frame.
    ensemble
        Instead of the one that `settings.weights` names; anything with `denoise`.
    settings
        Window, step, mode, ranges, seed, weights; default: all defaults. Its `frame_time_s` and
        ROIs are not used.

    Returns
    -------
    Result
        `.c2` is (n_roi, n, n) always; ROIs are numbered from 1, and their q is unknown.

    Raises
    ------
    InvalidInputError
        When C2 has another shape or no frame, frame_time_s is not positive, or files cannot be
        used.
    """
    stack = as_stack(c2)
    stack = np.where(np.isfinite(stack), stack, np.nan)
    if stack.shape[-1] == 0 or len(stack) == 0:
        raise InvalidInputError(
            f"C2: got shape {stack.shape}; expected at least a ROI and a frame."
        )
    check_frame_time(frame_time_s)
    settings = settings or Settings(detector="c2")
    why_not = ""
    if ensemble is None:
        ensemble, why_not = open_ensemble(settings)
    rois = RoiMap.from_labels(np.arange(1, len(stack) + 1)[np.newaxis])
    analysis = C2Analysis(settings, rois, frame_time_s=frame_time_s, ensemble=ensemble)
    result = analysis.finish(stack, AgeSums.from_c2(stack, row_frames=settings.least_age_step))
    return Result.of(
        result,
        status=append_note(result.status, why_not),
        info=_info(
            settings,
            rois,
            n_frames=stack.shape[-1],
            geometry=Geometry(),
            frame_time_s=None if frame_time_s == 1 else frame_time_s,
            ensemble=ensemble,
        ),
    )
