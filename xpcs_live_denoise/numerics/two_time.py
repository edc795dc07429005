"""The two-time correlation C2 while frames arrive: a band, a map, and sums by age and lag."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.numerics.estimator.sums import AgeSums
from xpcs_live_denoise.records.results import C2Rows
from xpcs_live_denoise.records.types import Array, FloatArray

from .arrays import LEVEL_LAGS
from .band import RowBand, band_of_c2
from .c2_map import C2Map
from .events import EventSorter, NewFrames, checked_events, dense_frames
from .gathering import runs_of_frames, runs_of_pixels
from .newest_frames import KNOWN_TYPES, PixelBlocks, known
from .rois import RoiMap, check_pixels
from .skbeam_two_time import SkbeamTwoTime
from .static import N_BLOCK, MeanImages
from .streamed_two_time import TOGETHER, StreamedTwoTime
from .waiting_frames import WaitingFrames

# Names of the ways to compute C2; "auto" takes the faster of "dense" and "events", ROI by ROI.
ENGINES = ("auto", "dense", "events", "skbeam")
DTYPES = ("float32", "float64")  # precisions of C2
FIRST_CAPACITY = 64  # frames for which memory is reserved where the length of the series is unknown
# Most frames for which memory is reserved in advance: an announced length can be wrong.
LARGEST_RESERVE = 4096
MAP_FRAMES = 1024


class TwoTimeAccumulator:
    """C2 of every ROI, extended by what new frames bring, at a cost that does not grow.

    C2(t1, t2) = <I(t1) I(t2)> / (<I(t1)> <I(t2)>), the averages over the pixels of one ROI
    (Eq. 1 of Konstantinova et al., Sci. Rep. 11, 14756 (2021)), is kept twice: as a `band` of short
    lags at full resolution, and as a `map` of the whole series in a bounded number of bins. How a
    series is split over calls of `append` changes nothing beyond rounding. A ROI whose mean in a
    frame is not a positive number (no counts, or NaN among its pixels) has no measurement there:
    NaN. Reading consumes nothing.

    Parameters
    ----------
    roi_map
        The ROIs.
    engine
        "dense": pixels are divided by their ROI's mean once, then new frames are multiplied with
        those before, in matrix products. "events": only pixels that hold counts are multiplied,
        for data with few photons; frames of a ROI that are no whole numbers from 0 to 255 are taken
        as by "dense". "auto": the faster of the two for each ROI, by the share of its pixels that
        held counts lately (4 %), which may change at any time; the map, whose bins hold more and
        more frames, by its own (5 %). The result does not depend on it. "skbeam": scikit-beam's
        own `lazy_two_time`, for comparison, much slower, and for series of at most `map_frames`.
    dtype
        "float32" or "float64": precision of C2 and of the frames that are kept.
    window
        Frames, at least 2: the band has the lags 0 .. window - 1.
    map_frames
        Most bins of the map, an even number, at least 2.
    n_frames
        Length of the series where it is known: memory is then reserved once. A hint; a series may
        be longer or shorter.
    sums
        Keep sums of C2 by age and lag bin, `age_sums`, of any lag: beyond 48 frames from levels,
        each of which averages twice as many frames as the one before. With the dense engine also
        without each of 8 blocks of contiguous pixels of a ROI. `images` are kept as well.
    age_step
        Least frames in a row of the sums, a power of two: rows have 2, 4, 8 ... frames where there
        would be more than 2,000 otherwise.
    profile
        Shape (sum of n_pixels,), above 0: what pixels are divided by before anything else, so that
        intensity that varies inside a ROI is not taken for contrast (`fit_profile`).

    Attributes
    ----------
    roi_map
        The ROIs.
    engine
        The engine that computes now: where it may change, that of most pixels' band.
    n_frames
        Frames in C2 so far, gaps included.

    Raises
    ------
    InvalidInputError
        For another engine or dtype, and for numbers of frames below those above.

    Notes
    -----
    Memory, in numbers of `dtype`: a ROI pixel times `map_frames` for the map's history and about
    100 log2(n_frames / 25) for the levels; n_roi map_frames^2 for the map, n_roi window a frame for
    the band, of which `release` forgets the oldest.

    Eighty frames are multiplied together, up to 79 wait for the next ones: reading multiplies those
    that wait, so that it costs more after each frame than after each eighty.
    """

    def __init__(
        self,
        roi_map: RoiMap,
        *,
        engine: str = "auto",
        dtype: DTypeLike = "float32",
        window: int = LEVEL_LAGS[1],
        map_frames: int = MAP_FRAMES,
        n_frames: int | None = None,
        sums: bool = False,
        age_step: int = 1,
        profile: FloatArray | None = None,
    ) -> None:
        if engine not in ENGINES:
            raise InvalidInputError(f"Engine: got {engine!r}, expected one of {ENGINES}.")
        numbers = _checked_dtype(dtype)
        _check_lengths(n_frames=n_frames, window=window, map_frames=map_frames, age_step=age_step)
        self.roi_map = roi_map
        self._window, self._age_step = window, age_step
        self._most_frames = map_frames if engine == "skbeam" else None
        reserve = min(n_frames or FIRST_CAPACITY, LARGEST_RESERVE)
        self._weights = None if profile is None else (1 / profile).astype(numbers)
        self._sums: AgeSums | None = None
        self._images: MeanImages | None = None
        self._products: StreamedTwoTime | SkbeamTwoTime
        self._waiting: WaitingFrames | None = None
        self._sorter: EventSorter | None = None
        if engine == "skbeam":
            self._products = SkbeamTwoTime(roi_map.n_pixels, min(reserve, map_frames), numbers)
            return
        if sums:
            rows = -(-reserve // age_step)
            self._sums = AgeSums(roi_map.n_roi, N_BLOCK, rows, row_frames=age_step)
            self._images = MeanImages(roi_map)
        blocks = PixelBlocks.of(roi_map, N_BLOCK)
        self._products = StreamedTwoTime(
            blocks,
            RowBand(roi_map.n_roi, window, reserve, numbers),
            C2Map(blocks, map_frames, numbers, reserve, sparse=engine != "dense"),
            engine=engine,
            dtype=numbers,
            sums=self._sums,
            images=self._images,
            weights=self._weights,
        )
        self._waiting = WaitingFrames(self._products)

    def _multiplied(self) -> StreamedTwoTime | SkbeamTwoTime:
        """Return what holds C2, of all frames that came."""
        if self._waiting is not None:
            self._waiting.flush()
        return self._products

    @property
    def engine(self) -> str:
        """The engine that computes now: where it may change, that of most pixels' band."""
        products = self._multiplied()
        return products.engine if isinstance(products, StreamedTwoTime) else "skbeam"

    @property
    def n_frames(self) -> int:
        """Frames in C2 so far, gaps included."""
        return (self._waiting or self._products).n_frames

    @property
    def band(self) -> FloatArray:
        """C2(t, t - lag), shape (n_roi, n_frames - band_start, window); a read-only view.

        NaN before the series. Values never change once they are there.
        """
        return self.band_rows(self.band_start, self.n_frames)

    @property
    def band_start(self) -> int:
        """The first frame of which the band is kept."""
        return self._products.band.start if isinstance(self._products, StreamedTwoTime) else 0

    def band_rows(self, start: int, stop: int) -> FloatArray:
        """Return the band of frames [start, stop), (n_roi, stop - start, window); read-only.

        Raises
        ------
        InvalidInputError
            For frames that are not kept.
        """
        if not self.band_start <= start <= stop <= self.n_frames:
            raise InvalidInputError(
                f"Band of C2: got frames [{start}, {stop}), expected a range within "
                f"[{self.band_start}, {self.n_frames}): what was released is no longer there."
            )
        products = self._multiplied()
        if isinstance(products, StreamedTwoTime):
            return products.band.rows(start, stop)
        return band_of_c2(products.values, start, stop, self._window)

    def release(self, before: int) -> None:
        """Forget the band of frames before `before`."""
        products = self._multiplied()
        if isinstance(products, StreamedTwoTime):
            products.band.release(before)

    @property
    def map(self) -> tuple[FloatArray, int]:
        """C2 in bins, (n_roi, m, m), symmetric, and how many frames a bin holds; read-only.

        While the series has no more than `map_frames` frames a bin is a frame. Later each entry is
        the mean of C2 over a block of frames, gaps left out; blocks on the diagonal hold lag 0,
        too. The last bin may not be full.
        """
        products = self._multiplied()
        if isinstance(products, StreamedTwoTime):
            products.catch_up()
            return products.map.values, products.map.frames_per_bin
        return products.values, 1

    @property
    def frames_per_bin(self) -> int:
        """Frames in a bin of the map."""
        products = self._multiplied()
        return products.map.frames_per_bin if isinstance(products, StreamedTwoTime) else 1

    @property
    def c2(self) -> FloatArray:
        """C2 so far, shape (n_roi, n_frames, n_frames), symmetric. A read-only view.

        Values never change once they are there; later frames add rows and columns only.

        Raises
        ------
        InvalidInputError
            Where the series has more frames than the map has bins.
        """
        values, frames_per_bin = self.map
        if frames_per_bin > 1:
            raise InvalidInputError(
                f"C2: got {self.n_frames} frames, expected at most as many as the map has bins: it "
                f"averages {frames_per_bin} frames now. Read `map` and `band`, or make the "
                "accumulator with a larger `map_frames`."
            )
        return values

    @property
    def age_sums(self) -> AgeSums:
        """Sums by age and lag bin, which grow with the series.

        Raises
        ------
        InvalidInputError
            Where they were not asked for.
        """
        products = self._multiplied()
        if isinstance(products, SkbeamTwoTime):
            return AgeSums.from_c2(products.values, row_frames=self._age_step)
        if self._sums is None:
            raise InvalidInputError(
                "Sums of C2: got an accumulator that keeps none; expected sums=True when it is "
                "made."
            )
        products.catch_up()
        return self._sums

    @property
    def images(self) -> MeanImages | None:
        """Mean images of parts of the series, for the test of static speckle; None without sums."""
        self._multiplied()
        return self._images

    def append(self, frames: ArrayLike) -> None:
        """Take new frames.

        Parameters
        ----------
        frames
            Shape (k, rows, cols) or (rows, cols), any real dtype. They are not kept.

        Raises
        ------
        FrameShapeError
            When shape or dtype does not fit; C2 is then as before the call.
        InvalidInputError
            When scikit-beam's engine gets more frames than the map has bins.
        """
        stack = self.roi_map.checked_frames(frames)
        if self._waiting is None or stack.dtype not in KNOWN_TYPES:
            self.append_pixels(self.roi_map.gather(stack))
            return

        self._waiting.take(stack, runs_of_frames(self.roi_map, N_BLOCK))

    def append_pixels(self, pixels: Array) -> None:
        """Take the ROI pixels of new frames, (k, sum of n_pixels), as `RoiMap.gather` returns them.

        They are not kept and not changed. Raises as `append`.
        """
        check_pixels(pixels, len(self.roi_map.pixels))
        if self._waiting is not None:
            self._waiting.take(known(pixels), runs_of_pixels(self.roi_map, N_BLOCK))
        elif isinstance(self._products, SkbeamTwoTime) and len(pixels):
            self._check_room(len(pixels))
            self._products.append(pixels if self._weights is None else pixels * self._weights)

    def append_events(self, counts: ArrayLike, pixels: ArrayLike, starts: ArrayLike) -> None:
        """Take new frames as their non-zero pixels: sparse data (COO) never become dense images.

        Parameters
        ----------
        counts
            Shape (n,), real numbers: what the pixels hold. Where one pixel comes twice in a frame
            its counts are added.
        pixels
            Shape (n,), whole numbers: which ROI pixel, an index into `RoiMap.pixels`, in any order
            inside a frame; below 0: in no ROI, left out. For flat indices into the detector they
            are `roi_map.pixel_numbers[index]`, for rows and columns `index = row * n_cols + col`.
        starts
            Shape (k + 1,), whole numbers: frame j holds the events starts[j] .. starts[j + 1] - 1.
            For events in the order of their frames 0 .. k - 1 they are
            `np.searchsorted(frame, np.arange(k + 1))`. A frame without events holds no counts; one
            that could not be had is `append_gap`.

        Raises
        ------
        FrameShapeError
            For arrays that do not fit together, and pixels that do not exist; C2 is then as before.
        InvalidInputError
            As `append`.

        Notes
        -----
        Equal to `append` of the same frames. With engine "dense", and where a ROI's numbers are no
        photon counts up to 255, its pixels are filled in for the product.
        """
        n_pixels = len(self.roi_map.pixels)
        values, places, begins = checked_events(counts, pixels, starts, n_pixels)
        products = self._multiplied()
        if not isinstance(products, StreamedTwoTime):
            self.append_pixels(dense_frames(values, places, begins, n_pixels))
            return
        if self._sorter is None:
            self._sorter = EventSorter(products.blocks)
        for first in range(0, len(begins) - 1, TOGETHER):
            products.append(
                self._sorter.sorted(values, places, begins[first : first + TOGETHER + 1])
            )

    def append_gap(self, n_frames: int) -> None:
        """Add frames that could not be had: no measurement for any ROI.

        Raises
        ------
        InvalidInputError
            When `n_frames` is negative.
        """
        if n_frames < 0:
            raise InvalidInputError(f"Gap: got {n_frames} frames, expected 0 or more.")
        products = self._multiplied()
        if isinstance(products, StreamedTwoTime):
            for first in range(0, n_frames, TOGETHER):
                products.append(NewFrames(n_frames=min(TOGETHER, n_frames - first)))
        elif n_frames:
            self._check_room(n_frames)
            products.append_gap(n_frames)

    def rows(self, start: int, stop: int) -> C2Rows:
        """Return C2(t1, t2) for t1 in [start, stop), t2 in [0, stop); a read-only view.

        Raises
        ------
        InvalidInputError
            Unless 0 <= start <= stop <= n_frames, and as `c2`.
        """
        if not 0 <= start <= stop <= self.n_frames:
            raise InvalidInputError(
                f"Rows of C2: got [{start}, {stop}), expected a range within [0, {self.n_frames})."
            )
        return C2Rows(start=start, stop=stop, values=self.c2[:, start:stop, :stop])

    def _check_room(self, n_new: int) -> None:
        most = self._most_frames
        if most is not None and self.n_frames + n_new > most:
            raise InvalidInputError(
                f"Engine 'skbeam': got {self.n_frames + n_new} frames, expected at most {most}, "
                "map_frames. Use engine 'dense', which has no limit."
            )


def compile_kernels() -> None:
    """Compile what correlates frames of the usual types, once: some seconds the first time."""
    rois = RoiMap.from_labels(np.ones((4, 8), np.int64))
    n = 3 * LEVEL_LAGS[1]
    counts, pixels, starts = np.ones(n, np.uint8), np.arange(n) % 32, np.arange(n + 1)
    for dtype in (np.uint16, np.uint32):
        frames = np.ones((n, *rois.shape), dtype)
        fixed = frames[: LEVEL_LAGS[1]]
        fixed.flags.writeable = False  # as those of files often are: a type of its own
        for engine in ("dense", "events"):
            accumulator = TwoTimeAccumulator(
                rois, engine=engine, sums=True, map_frames=2 * LEVEL_LAGS[1]
            )
            for some in (fixed, frames):
                accumulator.append(some)
            accumulator.append_events(counts, pixels, starts)
            accumulator.age_sums  # noqa: B018 (reading multiplies what waits)


def _checked_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    try:
        numbers: np.dtype[Any] = np.dtype(dtype)
    except TypeError:
        numbers = np.dtype(np.void)
    if numbers.name not in DTYPES:
        raise InvalidInputError(f"C2 dtype: got {dtype!r}, expected one of {DTYPES}.")
    return numbers


def _check_lengths(*, n_frames: int | None, window: int, map_frames: int, age_step: int) -> None:
    if n_frames is not None and n_frames < 1:
        raise InvalidInputError(
            f"Number of frames: got {n_frames}, expected at least 1, or None where unknown."
        )
    if window < 2:
        raise InvalidInputError(f"Window: got {window} frames, expected at least 2.")
    if age_step < 1 or age_step & (age_step - 1):
        raise InvalidInputError(f"age_step: got {age_step} frames, expected 1, 2, 4, 8 ...")
    if map_frames < 2 or map_frames % 2:
        raise InvalidInputError(f"map_frames: got {map_frames}, expected an even number from 2 on.")
