"""`compare`: the results of one run side by side."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xpcs_live_denoise.errors import one_line

from .export import named_result
from .output import check_output

if TYPE_CHECKING:
    from xpcs_live_denoise.readers import Comparison


def compare(
    run: Annotated[
        str,
        typer.Argument(
            help="Scan_id, uid or its first letters; -1 behind -- is the newest.",
        ),
    ],
    config: Annotated[Path, typer.Option(help="The settings, YAML.")] = Path("xpcs.yml"),
    detector: Annotated[
        str | None, typer.Option(help="Of a run of several detectors: whose results.")
    ] = None,
    csv: Annotated[Path | None, typer.Option(help="Write the table to this file.")] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw Gamma(t) and g2 of all of them into this .png.")
    ] = None,
    roi: Annotated[int | None, typer.Option(help="The ROI of --plot; the middle one.")] = None,
) -> None:
    """Show all results of a run: live, replayed, reprocessed, and how their settings differ."""
    from xpcs_live_denoise.catalog import connect
    from xpcs_live_denoise.config import Settings
    from xpcs_live_denoise.readers import compare as compare_results

    for path, suffixes in ((csv, [".csv"]), (plot, [".png"])):
        if path is not None:
            check_output(path, suffixes)
    settings = Settings.load(config).tiled
    client = connect(settings)
    try:
        result = named_result(client, run, settings.path, detector)
        detector = result.xpcs["image_key"]
        raw_uid = result.start["original_run_uid"]
        found = compare_results(client, raw_uid, detector=detector, path=settings.path)
        _show(found)
        if csv is not None:
            found.summary().to_csv(csv, index=False)
            typer.echo(f"Table: {csv.resolve()}")
        if plot is not None:
            found.plot(roi).savefig(plot, dpi=110)
            typer.echo(f"Figure: {plot.resolve()}")
    finally:
        client.context.close()


def _show(found: Comparison) -> None:
    """Print Gamma of each ROI and result, and the settings that differ."""
    from rich.console import Console
    from rich.table import Table

    from xpcs_live_denoise.views import rate_words

    n = len(found.results)
    title = f"{n} result{'' if n == 1 else 's'} of the run"
    table, last = Table(title=title, title_justify="left"), None
    for head in ("ROI", "result", "Γ", "change (errors)", "α", "ages", "state", "uid"):
        table.add_column(head, no_wrap=head in ("uid", "state"))
    for row in found.summary().to_dict("records"):
        has_rate = row["relaxation_rate"] > 0
        words = "–"
        if has_rate:
            rate = rate_words(row["relaxation_rate"], row["relaxation_rate_error"])
            words = f"{rate} 1/{row['time_unit']}"
        change = row["change_in_errors"]
        table.add_row(
            str(row["roi"]) if row["roi"] != last else "",
            row["result"],
            words,
            "–" if math.isnan(change) else f"{change:+.1f}",
            f"{row['alpha']:.3g}" if has_rate else "–",
            str(row["n_ages"]),
            row["state"],
            row["uid"][:8],
        )
        last = row["roi"]
    Console().print(table)
    settings = found.settings()
    if len(settings):
        differing = Table(title="Settings that differ", title_justify="left")
        for head in ("setting", *settings.columns):
            differing.add_column(head)
        for name, values in settings.iterrows():
            words = ["–" if value is None else one_line(str(value), 40) for value in values]
            differing.add_row(str(name), *words)
        Console().print(differing)
