"""`demo`: the main job on one machine, with server, RunEngine, simulated Eiger and a reader."""

from __future__ import annotations

import contextlib
import math
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xpcs_live_denoise.errors import InvalidInputError, XpcsError

from .output import check_output, write_figure

if TYPE_CHECKING:
    from xpcs_live_denoise.catalog import EmbeddedServer
    from xpcs_live_denoise.readers import XPCSResult
    from xpcs_live_denoise.simulation import DemoSeries

DETECTOR = "eiger500K_single"
DEFAULT_RATE_HZ = 25.0
TABLE_ROWS = 8
SHOWN_SOURCES = ("raw", "denoised", "path")


def demo(
    frames: Annotated[int, typer.Option(min=1, help="Frames of the series.")] = 300,
    rate: Annotated[
        float | None,
        typer.Option(min=0.1, help="Frames a second; by default the recording's, else 25."),
    ] = None,
    rois: Annotated[int, typer.Option(min=1, help="Rings around the beam.")] = 3,
    out: Annotated[
        Path | None, typer.Option(help="Keep catalog, files and figure in this folder.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="A recorded series instead of the simulation: .npy of frames (n, rows, cols), or "
            ".npz with `frames` "
            "and, if known, `center` (row, col), `fps`, `px_per_um`."
        ),
    ] = None,
    plot: Annotated[
        str | None, typer.Option(help='Show the run live: "window", or a .png file to write it to.')
    ] = None,
) -> None:
    """Run the main job: an ageing sample, from the detector's documents to Gamma(t) in Tiled."""
    from xpcs_live_denoise.catalog import EmbeddedServer
    from xpcs_live_denoise.simulation import recorded_series, simulated_series

    if plot not in (None, "window"):
        check_output(Path(plot), (".png",))
    series = simulated_series(frames, rois) if data is None else recorded_series(data, frames, rois)
    rate_hz = rate or (1 / series.frame_time_s if series.frame_time_s else DEFAULT_RATE_HZ)
    with _folder(out) as folder:
        typer.echo("Starting the Tiled server ...")
        with EmbeddedServer(
            folder / "catalog", log_path=folder / "tiled.log", readable=folder
        ) as server:
            typer.echo(
                f"Tiled server at {server.uri}. Taking {series.n_frames} frames at {rate_hz:g} a "
                f"second of {series.title}; {len(series.rois.labels)} ROIs. The series takes "
                f"{series.n_frames / rate_hz:.0f} s, the final fits some seconds more."
            )
            uid = _measure(series, rate_hz, server, folder, plot)
            _show(server, uid, series, (out or Path.cwd()) / "xpcs-live-denoise-demo.png")
        if out is not None:
            typer.echo(
                f"The catalog stays in {out}. Serve it again with\n"
                f"  {sys.executable} -m xpcs_live_denoise catalog {out}"
            )


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
    series: DemoSeries, rate_hz: float, server: EmbeddedServer, folder: Path, plot: str | None
) -> str:
    """Run the plan with both writers subscribed; return the uid of the raw run."""
    from bluesky.run_engine import RunEngine
    from bluesky_tiled_plugins import TiledWriter

    from xpcs_live_denoise.catalog import RAW_PATH
    from xpcs_live_denoise.config import Settings
    from xpcs_live_denoise.live import LiveDenoise
    from xpcs_live_denoise.simulation import SimulatedEiger, fly_series
    from xpcs_live_denoise.sinks import TerminalSink, TiledSink

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
            lambda info: TiledSink(info, client=client, raw_path=RAW_PATH),
            TerminalSink,
        ],
        plot=plot == "window" or plot or False,
        report=None,
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


def _show(server: EmbeddedServer, uid: str, series: DemoSeries, figure: Path) -> None:
    """Print what a fresh client finds of a run, and save its figure."""
    from xpcs_live_denoise.readers import results

    result = results(server.client(), uid)
    typer.echo(f"\nA fresh client found the result of run {uid[:8]}: results(catalog, {uid!r})")
    _print_rates(result, series)
    _print_series(result)
    _save_figure(result, series, figure)
    typer.echo(f"Figure: {figure.resolve()}")


def _print_rates(result: XPCSResult, series: DemoSeries) -> None:
    """Print Gamma(t) of every ROI at some ages, raw and denoised, beside the truth."""
    from rich import print as print_table
    from rich.table import Table

    frame_time_s = result.xpcs["frame_time_s"]
    rows: Any = result.gamma_table(source=list(SHOWN_SOURCES))
    rows = rows.set_index(["roi", "age_frame", "source"]).sort_index()
    margin = series.n_frames // (2 * TABLE_ROWS)
    ages = range(margin, series.n_frames, max(1, series.n_frames // TABLE_ROWS))
    from xpcs_live_denoise.views import caution_words

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
        print_table(table)
        cautions = [one for one in rows.loc[roi, "caution"].unique() if one]
        if cautions:
            typer.echo(f"ROI {roi}, careful: {'; '.join(map(caution_words, cautions))}.")


def _advice(rows: Any, roi: int, age: int) -> str:
    """Return the source of the row to trust at an age, else why there is none."""
    here = rows.loc[(roi, age)]
    trusted = here[here["recommended"]]
    return str(trusted.index[0] if len(trusted) else here["reason"].get("path", "-"))


def _rate(rows: Any, key: tuple[int, int, str]) -> str:
    """Return a fitted rate with its error, and "-" where the fit did not converge."""
    if key not in rows.index or not rows.loc[key, "converged"]:
        return "-"
    rate, error = rows.loc[key, ["relaxation_rate", "relaxation_rate_error"]]
    return f"{rate:.3g}" if math.isnan(error) else f"{rate:.3g} +- {error:.2g}"


def _print_series(result: XPCSResult) -> None:
    """Print the fits of the whole series; Gamma / q^2 is D where a sample only diffuses."""
    fits: Any = result.gamma_table(source="series_raw")
    for fit in fits.itertuples():
        text = f"ROI {fit.roi}, whole series: Gamma = {fit.relaxation_rate:.3g} 1/s"
        if not math.isnan(fit.q_inv_angstrom):
            q_inv_um = fit.q_inv_angstrom * 1e4
            text += f", Gamma / q^2 = {fit.relaxation_rate / q_inv_um**2:.3g} um^2/s"
        typer.echo(text)


def _save_figure(result: XPCSResult, series: DemoSeries, file: Path) -> None:
    """Save the figure of the middle ROI, with the truth drawn into Gamma(t)."""
    import matplotlib
    import numpy as np

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
    write_figure(file, figure)
