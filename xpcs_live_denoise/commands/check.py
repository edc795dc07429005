"""`check`: whether what the settings name is there and fits; one frame with its ROIs."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias, TypeVar

import typer

from xpcs_live_denoise.errors import InvalidInputError, XpcsError, text_of

from .output import check_output, write_figure
from .preflight import findings

if TYPE_CHECKING:
    from xpcs_live_denoise.config import OrientationSettings, Settings
    from xpcs_live_denoise.numerics.rois import RoiMap
    from xpcs_live_denoise.records.frames import Geometry
    from xpcs_live_denoise.records.types import Array
    from xpcs_live_denoise.sources import FrameTime

OK, PROBLEM, NOTE = "ok", "problem", "note"
FEW_PIXELS = 100
CLEARLY = 0.2  # by so much more another orientation must cover of the marked pixels
T = TypeVar("T")
# A frame, how far apart frames are, the geometry, and sentences about what documents say.
Found: TypeAlias = "tuple[Array, FrameTime, Geometry, tuple[str, ...]]"


def check(
    config: Annotated[Path, typer.Argument(help="The settings, YAML.")] = Path("xpcs.yml"),
    run: Annotated[
        str | None,
        typer.Argument(
            help="A run in tiled.raw_path (its uid), or a file with frames: the _master.h5 of an "
            "Eiger, HDF5 or .npy."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Draw a frame with its ROIs into this .png.")] = Path(
        "xpcs-check.png"
    ),
    *,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the picture.")] = False,
) -> None:
    """Test a settings file: files, mask, orientation, server; and one frame of a run."""
    if run is not None:
        check_output(out, (".png",), overwrite=overwrite)
    from xpcs_live_denoise.config import Settings
    from xpcs_live_denoise.sources import roi_choices

    settings = Settings.load(config)
    report = Report()
    report.tell("settings", OK, f"{config}, detector {settings.detector!r}")
    choices = [report.attempt("ROIs", lambda e=e: _rois(e, report)) for e in roi_choices(settings)]
    rois = choices[0]
    _folders(settings, report)
    report.attempt("Tiled", lambda: _server(settings, report))
    if run is not None:
        report.attempt("frames", lambda: _frames(settings, run, rois, out, report))
    if report.n_problems:
        typer.echo(f"{report.n_problems} problem(s).")
        raise typer.Exit(1)
    typer.echo("No problems.")


class Report:
    """Prints a line a thing that was tested, and counts the problems."""

    def __init__(self) -> None:
        self.n_problems = 0

    def tell(self, subject: str, verdict: str, text: str) -> None:
        """Print one line."""
        self.n_problems += verdict == PROBLEM
        colour = {OK: "green", PROBLEM: "red", NOTE: "yellow"}[verdict]
        typer.echo(f"{typer.style(f'{verdict:8}', fg=colour)} {subject}: {text}")

    def attempt(self, subject: str, test: Callable[[], T]) -> T | None:
        """Return what a test returns; None, and a problem, where it raises."""
        try:
            return test()
        except (XpcsError, OSError) as error:
            self.tell(subject, PROBLEM, text_of(error))
        return None


def _rois(settings: Settings, report: Report) -> RoiMap:
    import numpy as np

    from xpcs_live_denoise.sources import open_flat_field, open_rois

    rois, flat_field, note = open_flat_field(settings, open_rois(settings, None))
    if note:
        report.tell("flat field", NOTE if flat_field is not None else PROBLEM, note)
    files = {"mask": settings.mask, "flat field": settings.flat_field}
    used = [f"{name} {file}" for name, file in files.items() if file is not None]
    text = f"{rois.n_roi} in {settings.rois}, for frames of {rois.shape} (rows, cols)"
    report.tell("ROIs", OK, "; ".join([text, *used]))
    for label, n, q in zip(rois.labels, rois.n_pixels, rois.q_inv_angstrom, strict=True):
        known = "q not in the file: from the geometry" if np.isnan(q) else f"q {q:.4g} 1/Angstrom"
        few = n < FEW_PIXELS
        report.tell(
            f"ROI {label}",
            NOTE if few else OK,
            f"{n} pixels after the mask{', few: noisy' if few else ''}; {known}",
        )
    return rois


def _folders(settings: Settings, report: Report) -> None:
    if settings.file_roots is None:
        report.tell(
            "file_roots", NOTE, "not set: any file may be read, and `serve` does not start without"
        )
    for root in settings.file_roots or ():
        there = root.expanduser().is_dir()
        text = str(root) if there else f"{root} is no folder here; correct it, or mount it"
        report.tell("file_roots", OK if there else PROBLEM, text)
    if settings.weights is not None:
        from xpcs_live_denoise.denoising import load_ensemble

        weights, denoiser = settings.weights, settings.denoiser
        report.attempt("weights", lambda: load_ensemble(weights, denoiser=denoiser))


def _server(settings: Settings, report: Report) -> None:
    from xpcs_live_denoise.sinks import TiledDestination

    tiled = TiledDestination(settings)
    place = f"{settings.tiled.uri}, container {settings.tiled.path!r}"
    answers = False
    try:
        tiled.check()
        answers = True
        report.tell("Tiled", OK, f"{place} answers, takes the key, and holds no raw runs")
    finally:
        for finding in findings(settings, tiled if answers else None):
            report.tell(finding.subject, PROBLEM if finding.problem else NOTE, finding.text)
        tiled.close()


def _frames(settings: Settings, run: str, rois: RoiMap | None, out: Path, report: Report) -> None:
    frame, time, geometry, notes = _one_frame(settings, run)
    report.tell("frame", OK, f"{frame.shape} (rows, cols), {frame.dtype}, of {run}")
    if time.period_s is None:
        report.tell("frame time", PROBLEM, " ".join(time.notes))
    else:
        report.tell("frame time", OK, f"{time.period_s:g} s")
        notes = (*time.notes, *notes)
    for note in notes:
        report.tell("documents", NOTE, note)
    unknown = [name for name in type(geometry).__slots__ if getattr(geometry, name) is None]
    text = f"unknown: {', '.join(unknown)}; set them in `geometry`" if unknown else str(geometry)
    needs = rois is None or bool((rois.q_inv_angstrom != rois.q_inv_angstrom).any())
    report.tell("geometry", NOTE if unknown and needs else OK, text)
    if rois is None:
        return
    verdict, words = _orientation(settings, frame, rois)
    report.tell("orientation", verdict, words)
    if frame.shape == rois.shape:
        _draw(frame, rois.with_q(geometry), out)
        report.tell("picture", OK, f"{out}; look whether the ROIs lie where they should")


def _one_frame(settings: Settings, run: str) -> Found:
    """Return a frame as documents deliver it, and what is known of it as a live run finds it."""
    from xpcs_live_denoise.records.frames import Geometry
    from xpcs_live_denoise.sources import choose_frame_time, open_series

    if not Path(run).exists():
        return _frame_of_run(settings, run)
    series = open_series(run, threshold=settings.threshold)
    known, contents = Geometry(**settings.geometry.model_dump()), series.contents
    return (
        series.first_frame(),
        choose_frame_time(settings.frame_time_s, contents.frame_time_s, None, None),
        known.completed(contents.geometry),
        tuple(series.notes),
    )


def _frame_of_run(settings: Settings, uid: str) -> Found:
    import functools

    from xpcs_live_denoise.catalog import connect, raw_container
    from xpcs_live_denoise.readers import find_raw_run
    from xpcs_live_denoise.sources import (
        FileRoots,
        FrameReader,
        RunDocuments,
        TiledDocuments,
        find_exposure,
        find_frame_time,
        find_geometry,
        geometry_conflicts,
        read_tiled,
    )

    if not settings.tiled.raw_path:
        raise InvalidInputError(
            f"Run {uid}: no such file, and tiled.raw_path, where runs would be, is not set."
        )
    client = connect(settings.tiled)
    try:
        raw_path, path = settings.tiled.raw_path, settings.tiled.path
        container, roots = raw_container(client, raw_path), FileRoots(settings.file_roots)
        uid, _ = find_raw_run(client, uid, raw_path=raw_path, path=path)
        stored = TiledDocuments(
            container, uid, data_key=settings.data_key, roots=roots, stream=settings.stream
        )
        read = functools.partial(read_tiled, client, below=settings.tiled.raw_path)
        reader = FrameReader(roots=roots, tiled=read, threshold=settings.threshold)
        documents = reference = descriptor = None
        for name, doc in stored.give_up():
            if documents is None:
                documents = RunDocuments(
                    doc,
                    detector=settings.detector,
                    data_key=settings.data_key,
                    stream=settings.stream,
                    threshold=settings.threshold,
                )
            found = documents.receive(name, doc)
            if documents.image_descriptor is not descriptor:  # another stream is the series
                descriptor, reference = documents.image_descriptor, None
            reference = reference or next(iter(found), None)
        if documents is not None and reference is not None:
            facts = (documents.start, None, documents.configuration, documents.device)
            (block,) = itertools.islice(reader.read(reference, 1), 1)
            return (
                block[0],
                documents.frame_time(
                    settings.frame_time_s, find_frame_time(None, *facts), find_exposure(*facts)
                ),
                find_geometry(settings.geometry, *facts),
                (
                    *geometry_conflicts(settings, *facts),
                    *filter(None, [documents.left_out]),
                    *reader.notes,
                ),
            )
    finally:
        client.context.close()
    raise InvalidInputError(
        f"Run {uid}: has no frames of {settings.data_key!r}. Set `detector` or `image_key`."
    )


def _orientation(settings: Settings, frame: Array, rois: RoiMap) -> tuple[str, str]:
    """Return whether the frame fits ROIs and mask, and what would."""
    import numpy as np

    from xpcs_live_denoise.config import OrientationSettings
    from xpcs_live_denoise.sources import load_mask

    map_shape = settings.orientation.turn(np.empty(rois.shape, bool)).shape
    ways = [
        OrientationSettings(flip_rows=flip, rotate=rotate)
        for flip in (False, True)
        for rotate in (0, 90, 180, 270)
    ]
    fitting = [way for way in ways if way.turn(frame).shape == map_shape]
    if frame.shape != rois.shape:
        turned = " or ".join(f"{_words(way)}" for way in fitting)
        remedy = f"It fits with orientation {turned}" if fitting else "Use those of this detector"
        return PROBLEM, (
            f"the frame has {frame.shape}, ROIs and mask are for {rois.shape} after `orientation`. "
            f"{remedy}."
        )
    marked = frame < 0 if frame.dtype.kind != "u" else frame >= np.iinfo(frame.dtype).max - 1
    if settings.mask is None or not marked.any():
        return OK, "the shapes fit; only the picture tells whether it is turned the right way"
    masked = ~load_mask(settings.mask, settings.tiled)

    def covered(way: OrientationSettings) -> float:
        return float(masked[way.turn(marked)].mean())

    now, best = covered(settings.orientation), max(covered(way) for way in fitting)
    if best > now + CLEARLY:
        return PROBLEM, (
            f"the mask covers {now:.0%} of the pixels that the detector marks as bad, and "
            f"{best:.0%} with orientation "
            f"{' or '.join(_words(way) for way in fitting if covered(way) == best)}. Look at the "
            "picture."
        )
    return OK, f"the mask covers {now:.0%} of the pixels that the detector marks as bad"


def _words(way: OrientationSettings) -> str:
    return f"{{flip_rows: {str(way.flip_rows).lower()}, rotate: {way.rotate}}}"


def _draw(frame: Array, rois: RoiMap, out: Path) -> None:
    """Draw a frame as documents deliver it, with the edges of its ROIs and their labels."""
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    largest = np.iinfo(frame.dtype).max - 1 if frame.dtype.kind in "ui" else np.inf
    shown = np.where((frame < 0) | (frame >= largest), np.nan, frame.astype(np.float64))
    labels = rois.label_array
    figure = Figure(figsize=(10, 8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    drawn = axes.imshow(np.log10(1 + shown), cmap="cividis", interpolation="nearest")
    edges = labels != np.roll(labels, 1, 0)
    edges |= labels != np.roll(labels, 1, 1)
    axes.imshow(np.ma.masked_where(~edges, edges), cmap="autumn", interpolation="nearest")
    for label, one in zip(rois.labels, rois.slices, strict=True):
        row, col = np.divmod(rois.pixels[one][len(rois.pixels[one]) // 2], rois.shape[1])
        axes.annotate(str(label), (col, row), color="white", ha="center", va="center")
    axes.set(xlabel="column (px)", ylabel="row (px)", title="one frame as it comes, with its ROIs")
    figure.colorbar(drawn, label="log10(1 + counts)")
    write_figure(out, figure)
