"""The main job on one machine: server, RunEngine, simulated Eiger, LiveDenoise, and a reader."""

from __future__ import annotations

import contextlib
import math
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from xpcs_live_denoise.catalog import RAW_PATH, EmbeddedServer
from xpcs_live_denoise.config import Settings
from xpcs_live_denoise.errors import InvalidInputError, XpcsError
from xpcs_live_denoise.live import LiveDenoise
from xpcs_live_denoise.numerics.rois import RoiMap
from xpcs_live_denoise.numerics.simulate import simulate_speckle
from xpcs_live_denoise.records.frames import Geometry
from xpcs_live_denoise.simulation import (
    SIMULATED_GEOMETRY,
    FrameFactory,
    SimulatedEiger,
    fly_series,
    recorded,
)
from xpcs_live_denoise.sinks import TerminalSink, TiledSinkFactory

if TYPE_CHECKING:
    from xpcs_live_denoise.readers import XPCSResult

DETECTOR = "eiger500K_single"
DEFAULT_RATE_HZ = 25.0
KEY_FILE = "api_key"
TABLE_ROWS = 8
SHOWN_SOURCES = ("raw", "denoised", "bayes")


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """What `xpcs-live-denoise demo` was asked for.

    Attributes
    ----------
    frames, rate, rois
        Length of the series, frames a second, number of rings. Without a rate: that of the
        recorded series where it is known, else DEFAULT_RATE_HZ.
    out
        Folder that is kept; None works in a temporary one and leaves only the figure.
    data
        A recorded series (.npz or .npy) instead of the simulation.
    plot
        "window" shows the run in a window, the path of a .png file writes it there.
    """

    frames: int = 300
    rate: float | None = None
    rois: int = 3
    out: Path | None = None
    data: Path | None = None
    plot: str | None = None


def run_demo(options: DemoOptions, console: Console) -> None:
    """Run the whole path and print what a fresh Tiled client finds at its end.

    Raises
    ------
    InvalidInputError
        For data, or a folder, that cannot be used.
    XpcsError
        When the results did not reach Tiled within two minutes after the run.
    """
    series = (
        simulated_series(options.frames, options.rois)
        if options.data is None
        else recorded_series(options.data, options.frames, options.rois)
    )
    rate_hz = options.rate or (1 / series.frame_time_s if series.frame_time_s else DEFAULT_RATE_HZ)
    with _folder(options.out) as folder:
        console.print("Starting the Tiled server ...")
        with EmbeddedServer(
            folder / "catalog", log_path=folder / "tiled.log", readable=folder
        ) as server:
            console.print(
                f"Tiled server at {server.uri}. Taking {series.n_frames} frames at {rate_hz:g} a "
                f"second of {series.title}; {len(series.rois.labels)} ROIs.",
                soft_wrap=True,
            )
            uid = _measure(series, rate_hz, server, folder, console, plot=options.plot)
            result = _read_back(server, uid)
            _print_result(result, series, uid, console)
            figure = (options.out or Path.cwd()) / "xpcs-live-denoise-demo.png"
            _save_figure(result, series, figure)
            console.print(f"Figure: {figure.resolve()}", soft_wrap=True)
        if options.out is not None:
            console.print(
                f"The catalog stays in {options.out}. Serve it again with\n"
                f"  {sys.executable} -m xpcs_live_denoise catalog {options.out}",
                soft_wrap=True,
            )


def serve_catalog(folder: Path, port: int | None, console: Console) -> None:
    """Serve the catalog that `demo --out` left until Ctrl-C.

    Raises
    ------
    InvalidInputError
        When there is no catalog in the folder.
    """
    if not (folder / "catalog" / "catalog.db").is_file():
        raise InvalidInputError(
            f"Folder {folder}: holds no catalog; expected one that `demo --out {folder}` left."
        )
    with EmbeddedServer(folder / "catalog", port=port, readable=folder) as server:
        key_file = folder / KEY_FILE
        key_file.touch(mode=0o600)
        key_file.write_text(server.api_key, encoding="ascii")
        console.print(
            f"Tiled server at {server.uri}; its key is in {key_file}, readable by you only. "
            "Ctrl-C ends it.\n\n"
            "  from tiled.client import from_uri\n"
            f"  catalog = from_uri({server.uri!r}, api_key=open({str(key_file)!r}).read())\n"
            '  result = catalog["processed"].values().last()\n'
            "  result.gamma_table()",
            soft_wrap=True,
            highlight=False,
        )
        with contextlib.suppress(KeyboardInterrupt):
            server.wait()
        key_file.unlink(missing_ok=True)


@contextlib.contextmanager
def _folder(out: Path | None) -> Iterator[Path]:
    if out is None:
        with tempfile.TemporaryDirectory(prefix="xpcs-demo-") as temporary:
            yield Path(temporary)
    else:
        try:
            out.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=out).close()  # root passes every check of permissions
        except OSError as error:
            raise InvalidInputError(
                f"Folder {out}: cannot be made, or nothing written into it ({error.strerror}); "
                "expected a folder of yours. Choose another one with --out."
            ) from error
        yield out


def _measure(
    series: DemoSeries,
    rate_hz: float,
    server: EmbeddedServer,
    folder: Path,
    console: Console,
    *,
    plot: str | None,
) -> str:
    """Run the plan with both writers subscribed; return the uid of the raw run."""
    from bluesky.run_engine import RunEngine
    from bluesky_tiled_plugins import TiledWriter

    client = server.client()
    settings = Settings(
        detector=DETECTOR,
        frame_time_s=series.frame_time_s,
        tiled={"raw_path": RAW_PATH},
    )
    live = LiveDenoise(
        settings,
        rois=series.rois,
        sinks=[
            TiledSinkFactory(settings.tiled, client),
            lambda info: TerminalSink(info, console=console),
        ],
        plot=plot == "window" or plot or False,
    )
    engine = RunEngine({"beamline_id": "demo"})
    engine.subscribe(TiledWriter(client[RAW_PATH], batch_size=1))
    engine.subscribe(live)
    detector = SimulatedEiger(
        series.frames,
        folder / "detector",
        n_frames=series.n_frames,
        name=DETECTOR,
        frame_rate_hz=rate_hz,
        geometry=series.geometry,
    )
    runs: Any = engine(fly_series(detector, md={"sample": series.title, "XPCS_data": True}))
    uid: str = runs[0]
    published = live.wait(120)
    live.close()
    if not published:
        raise XpcsError(
            f"Run {uid}: its results were not published within 120 s after its end. The log of "
            f"the server is {folder / 'tiled.log'}."
        )
    return uid


def _read_back(server: EmbeddedServer, uid: str) -> XPCSResult:
    from xpcs_live_denoise.readers import results

    return results(server.client(), uid)


def _print_result(result: XPCSResult, series: DemoSeries, uid: str, console: Console) -> None:
    """Print Gamma(t) of every ROI at some ages, raw and denoised, beside the truth."""
    frame_time_s = result.xpcs["frame_time_s"]
    console.print(f"\nA fresh client found the result of run {uid[:8]}: results(catalog, {uid!r})")
    rows: Any = result.gamma_table(source=list(SHOWN_SOURCES))
    rows = rows.set_index(["roi", "age_frame", "source"]).sort_index()
    margin = series.n_frames // (2 * TABLE_ROWS)
    ages = range(margin, series.n_frames, max(1, series.n_frames // TABLE_ROWS))
    for index, roi in enumerate(result.xpcs["roi"]):
        q = result.xpcs["q_inv_angstrom"][index]
        title = f"ROI {roi}" + ("" if q is None else f", q = {q:.3g} 1/Angstrom")
        table = Table(title=f"Gamma(t) in 1/s, {title}", title_justify="left")
        truth = None if series.true_rates is None else series.true_rates[index] / frame_time_s
        for column in (
            "age (s)",
            *([] if truth is None else ["truth"]),
            *SHOWN_SOURCES,
            "recommended",
        ):
            table.add_column(column, justify="right")
        for age in ages:
            known = [] if truth is None else [f"{truth[age]:.3g}"]
            fits = [_rate(rows, (roi, age, source)) for source in SHOWN_SOURCES]
            fits.append(_advice(rows, roi, age))
            table.add_row(f"{age * frame_time_s:.2f}", *known, *fits)
        console.print(table)
    _print_series(result, console)


def _advice(rows: Any, roi: int, age: int) -> str:
    """Return the source of the row to trust at an age, else why there is none."""
    here = rows.loc[(roi, age)]
    trusted = here[here["recommended"]]
    return str(trusted.index[0] if len(trusted) else here["reason"].get("bayes", "-"))


def _rate(rows: Any, key: tuple[int, int, str]) -> str:
    """Return a fitted rate with its error, and "-" where the fit did not converge."""
    if key not in rows.index or not rows.loc[key, "converged"]:
        return "-"
    rate, error = rows.loc[key, ["relaxation_rate", "relaxation_rate_error"]]
    return f"{rate:.3g}" if math.isnan(error) else f"{rate:.3g} +- {error:.2g}"


def _print_series(result: XPCSResult, console: Console) -> None:
    """Print the fits of the whole series; Gamma / q^2 is D where a sample only diffuses."""
    fits: Any = result.gamma_table(source="series_raw")
    for fit in fits.itertuples():
        text = f"ROI {fit.roi}, whole series: Gamma = {fit.relaxation_rate:.3g} 1/s"
        if not math.isnan(fit.q_inv_angstrom):
            q_inv_um = fit.q_inv_angstrom * 1e4
            text += f", Gamma / q^2 = {fit.relaxation_rate / q_inv_um**2:.3g} um^2/s"
        console.print(text)


def _save_figure(result: XPCSResult, series: DemoSeries, file: Path) -> None:
    """Save the figure of the middle ROI, with the truth drawn into Gamma(t)."""
    import matplotlib

    matplotlib.use("Agg")
    labels = result.xpcs["roi"]
    index = len(labels) // 2
    figure = result.plot(labels[index])
    if series.true_rates is not None:
        frame_time_s = result.xpcs["frame_time_s"]
        axis = next(axis for axis in figure.axes if axis.get_title(loc="left") == "Γ(t)")
        age_s = np.arange(series.n_frames) * frame_time_s
        axis.plot(age_s, series.true_rates[index] / frame_time_s, "k--", zorder=5)
        axis.annotate("dashed: truth", (0.03, 0.04), xycoords="axes fraction", fontsize=8.5)
    figure.savefig(file, dpi=110)


SHAPE = (200, 200)
SPECKLE_CONTRAST = 0.25
MEAN_COUNTS = 0.15  # a pixel and frame: as noisy as at the beamline
# Rates of the middle ring, per frame: Gamma falls like 1 / (1 + age / AGEING_FRAMES).
FIRST_RATE, AGEING_FRAMES = 0.15, 60.0
# Rings lie between these fractions of the distance from the beam to the nearest edge. A recording
# has its slow, bright speckle near the beam; farther out it may be faster than its frames.
SIMULATED_RINGS, RECORDED_RINGS = (0.45, 0.9), (0.2, 0.37)
# Opposite pixels whose counts are as similar as this are copies of each other.
COPIES = 0.9
UNREADABLE = (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoSeries:
    """A series of frames and what is known about it.

    Attributes
    ----------
    title
        One line for people.
    frames
        Makes the frames.
    n_frames
        How many.
    rois
        The ROIs.
    true_rates
        Shape (n_roi, n_frames): Gamma per frame; None for recorded data.
    geometry
        What the detector reports.
    frame_time_s
        Frame period of recorded data, s; None takes the detector's.
    """

    title: str
    frames: FrameFactory
    n_frames: int
    rois: RoiMap
    true_rates: NDArray[np.float64] | None = None
    geometry: Geometry = SIMULATED_GEOMETRY
    frame_time_s: float | None = None


def simulated_series(n_frames: int, n_rings: int) -> DemoSeries:
    """Return a sample that slows down as it ages, with Gamma proportional to q^2."""
    center = ((SHAPE[0] - 1) / 2, (SHAPE[1] - 1) / 2)
    edges = _ring_edges(min(center), SIMULATED_RINGS, n_rings)
    rois = RoiMap.rings(SHAPE, center, edges)
    radius = edges.mean(axis=1)
    first = FIRST_RATE * (radius / radius.mean()) ** 2
    rates = first[:, np.newaxis] / (1 + np.arange(n_frames) / AGEING_FRAMES)

    def frames() -> Any:
        return simulate_speckle(
            rois,
            n_frames,
            relaxation_rate=rates,
            contrast=SPECKLE_CONTRAST,
            mean_counts=MEAN_COUNTS,
            block=10,
            seed=11,
        )

    return DemoSeries(
        title="a simulated gel that slows down as it ages",
        frames=frames,
        n_frames=n_frames,
        rois=rois,
        true_rates=rates,
    )


def recorded_series(file: Path, n_frames: int, n_rings: int) -> DemoSeries:
    """Return the first frames of a recorded series, with rings around its beam centre.

    Raises
    ------
    InvalidInputError
        When the file cannot be read, holds no series of frames, or says something impossible of it.
    """
    stored = _load(file)
    recording = stored["frames"]
    n_frames = min(n_frames, len(recording))
    shape: tuple[int, int] = recording.shape[1:]
    row, col = _numbers(file, stored, "center", 2, default=np.array(shape) / 2)
    center = (row, col)
    to_edge = min(center[0], center[1], shape[0] - 1 - center[0], shape[1] - 1 - center[1])
    edges = _ring_edges(to_edge, RECORDED_RINGS, n_rings)
    mask = None
    if _is_point_symmetric(recording[0], center):
        # |FFT|^2 of a real image: opposite pixels say the same twice. One half plane is enough.
        rows = np.arange(shape[0])[:, np.newaxis]
        mask = np.broadcast_to(rows > center[0], shape)
    q_inv_angstrom = None
    if "px_per_um" in stored:
        (px_per_um,) = _numbers(file, stored, "px_per_um", 1)
        per_pixel = 2 * np.pi / shape[0] * px_per_um * 1e-4
        q_inv_angstrom = edges.mean(axis=1) * per_pixel
    return DemoSeries(
        title=f"the recorded series {file.name}",
        frames=recorded(recording[:n_frames]),
        n_frames=n_frames,
        rois=RoiMap.rings(shape, center, edges, mask=mask, q_inv_angstrom=q_inv_angstrom),
        geometry=Geometry(beam_center=center),
        frame_time_s=1 / _numbers(file, stored, "fps", 1)[0] if "fps" in stored else None,
    )


def _load(file: Path) -> dict[str, NDArray[Any]]:
    """Return what an .npz holds by name; the array of an .npy is the frames."""
    arrays: dict[str, NDArray[Any]] = {}
    try:
        with file.open("rb") as opened:
            stored = np.load(opened, allow_pickle=False)
            if isinstance(stored, np.ndarray):
                arrays["frames"] = stored
            else:
                arrays.update((name, stored[name]) for name in stored.files)
    except UNREADABLE as error:
        raise InvalidInputError(
            f"Recorded series {file}: cannot be read ({error}); expected an .npz file with "
            "`frames` (n, rows, cols), or an .npy file that holds them."
        ) from error
    frames = arrays.get("frames")
    if frames is None or frames.ndim != 3 or not frames.size or frames.dtype.kind not in "uifb":
        got = "no `frames`"
        if frames is not None:
            got = f"`frames` of shape {frames.shape} and dtype {frames.dtype}"
        raise InvalidInputError(
            f"Recorded series {file}: got {got}; expected `frames` of shape (n, rows, cols), "
            "counts of a pixel."
        )
    return arrays


def _numbers(
    file: Path,
    stored: dict[str, NDArray[Any]],
    name: str,
    n: int,
    default: NDArray[Any] | None = None,
) -> tuple[float, ...]:
    """Return what the file says of the frames: `n` numbers above 0."""
    got = stored.get(name, default)
    if got is None or got.size != n or got.dtype.kind not in "uif" or not (got > 0).all():
        raise InvalidInputError(
            f"Recorded series {file}: got `{name}` {got}; expected {n} number(s) above 0. "
            "Correct it, or leave it out."
        )
    return tuple(float(number) for number in got.ravel())


def _ring_edges(to_edge: float, between: tuple[float, float], n_rings: int) -> NDArray[np.float64]:
    """Return (inner, outer) radii of rings that touch, shape (n_rings, 2), in pixels."""
    radii = to_edge * np.linspace(*between, n_rings + 1)
    if radii[1] - radii[0] < 1:
        raise InvalidInputError(
            f"Rings: {n_rings} of them do not fit between {radii[0]:.0f} and {radii[-1]:.0f} "
            "pixels; expected at least one pixel each. Ask for fewer."
        )
    return np.column_stack([radii[:-1], radii[1:]])


def _is_point_symmetric(frame: NDArray[Any], center: tuple[float, ...]) -> bool:
    """Whether pixels opposite of the centre are copies of each other."""
    row, col = (round(x) for x in center)
    reach = min(row, col, frame.shape[0] - 1 - row, frame.shape[1] - 1 - col)
    square = frame[row - reach : row + reach + 1, col - reach : col + reach + 1].astype(float)
    half = square[:reach].ravel()
    opposite = square[::-1, ::-1][:reach].ravel()
    return bool(reach > 1 and np.corrcoef(half, opposite)[0, 1] > COPIES)
