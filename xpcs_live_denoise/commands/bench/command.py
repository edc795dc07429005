"""`bench`: options, sections, table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xpcs_live_denoise.commands.output import check_output
from xpcs_live_denoise.errors import InvalidInputError, text_of

if TYPE_CHECKING:
    from .case import Case
    from .contest import MakeSection, Repetition, Row

SECTIONS = ("c2", "sparse", "analysis", "parts", "reading", "thread", "chain", "memory")
INTERRUPTED = "Interrupted: this was measured so far."
QUICK = {"n_frames": 100, "n_pixels": 8000, "n_series": 300}


def sections() -> dict[str, MakeSection]:
    """Return all sections by the names that `--only` takes."""
    from .analyses import parts, whole_analysis
    from .chain import live_chain
    from .memory import memory
    from .reading import reading
    from .thread import runengine_thread
    from .two_time import sparse_two_time, two_time

    c2 = (two_time, sparse_two_time)
    rest = (whole_analysis, parts, reading, runengine_thread, live_chain, memory)
    return dict(zip(SECTIONS, (*c2, *rest), strict=True))


def bench(
    frames: Annotated[
        int | None,
        typer.Option(
            help="Frames of the series; default 500, of the whole analysis 5000.",
            show_default=False,
        ),
    ] = None,
    pixels: Annotated[
        int | None,
        typer.Option(help="Pixels of all ROIs together; default 72000.", show_default=False),
    ] = None,
    rois: Annotated[int, typer.Option(help="ROIs.")] = 10,
    counts: Annotated[float, typer.Option(help="Mean counts a pixel and frame.")] = 0.5,
    peers: Annotated[
        bool, typer.Option("--peers", help="Measure other software on the same data, too.")
    ] = False,
    plot: Annotated[
        Path | None,
        typer.Option(help="Draw how everything grows with frames, pixels, ROIs, counts: a .png."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON instead of the table: --json > bench.json.")
    ] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Small and once each: does everything run?")
    ] = False,
    only: Annotated[
        str | None,
        typer.Option(help=f"Only these sections, commas between them: {', '.join(SECTIONS)}."),
    ] = None,
) -> None:
    """Measure how fast this machine is, from frames to Gamma(t) in Tiled, in a few minutes."""
    case = _case(frames, pixels, rois, counts, peers=peers, quick=quick)
    chosen = _chosen(only)
    if plot is not None:
        from .scaling import check_plot

        check_output(plot, (".png",))
        check_plot()
    from .report import document, machine, table

    this_machine, rows = machine(), []
    complete = _measure(case, chosen, rows)
    if as_json:
        typer.echo(json.dumps(document(case, rows, this_machine, complete=complete), indent=1))
    else:
        typer.echo(table(rows, this_machine))
    if complete and plot is not None:
        complete = _plot(case, plot)
    if not complete:
        say(INTERRUPTED)
        raise typer.Exit(130)


def say(line: str) -> None:
    """Tell how far it is, beside the table."""
    typer.echo(line, err=True)


def _case(
    frames: int | None, pixels: int | None, rois: int, counts: float, *, peers: bool, quick: bool
) -> Case:
    from .case import Case

    sizes: dict[str, Any] = dict(QUICK) if quick else {}
    if pixels is not None:
        sizes["n_pixels"] = pixels
    if frames is not None:  # a series that was asked for is not cut short
        sizes |= {"n_frames": frames, "n_series": frames, "longest_s": None}
    return Case(**sizes, n_rois=rois, mean_counts=counts, peers=peers, quick=quick)


def _chosen(only: str | None) -> dict[str, MakeSection]:
    names = SECTIONS if only is None else [name.strip() for name in only.split(",")]
    unknown = [name for name in names if name not in SECTIONS]
    if unknown:
        raise InvalidInputError(
            f"--only: got {', '.join(map(repr, unknown))}; expected some of {', '.join(SECTIONS)}, "
            "with commas between them."
        )
    known = sections()
    return {name: known[name] for name in SECTIONS if name in names}


def _measure(case: Case, chosen: dict[str, MakeSection], rows: list[Row]) -> bool:
    """Add the rows of all sections; False if the user ended it, with those measured so far."""
    from .contest import Contestant, Section, measure, rows_of

    for name, make in chosen.items():
        runs: list[Repetition] = []
        section = Section(title=name, contestants=[Contestant(name="everything", run=dict)])
        complete = True
        try:
            with make(case) as section:
                for run in measure(section, say):
                    runs.append(run)
        except KeyboardInterrupt:
            complete = False
        except Exception as error:  # its data or its server: the others are measured all the same
            runs.extend((one.name, f"failed: {text_of(error)}") for one in section.contestants)
        rows += rows_of(section, runs)
        if not complete:
            return False
    return True


def _plot(case: Case, path: Path) -> bool:
    """Measure and draw how everything grows; what was measured, if the user ends it."""
    from .scaling import base_of, draw, points

    found, complete = [], True
    try:
        for point in points(case, say):
            found.append(point)
    except KeyboardInterrupt:
        complete = False
    if found:
        draw(found, path, f"Time a frame where one of these is varied: {base_of(case).title}")
        say(f"Figure: {path.resolve()}")
    return complete
