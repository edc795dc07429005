"""`runs`: the table of many runs, on the terminal or into a CSV file."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xpcs_live_denoise.errors import InvalidInputError, one_line

from .output import check_output
from .view import Address, Config, Container, KeyVariable, tiled_settings

if TYPE_CHECKING:
    import pandas as pd  # pyright: ignore[reportMissingTypeStubs]

UNKNOWN = "–"
SHORT_UID = 8  # letters of a uid that are shown


def runs(
    uri: Address = None,
    config: Config = None,
    path: Container = None,
    sample: Annotated[list[str] | None, typer.Option(help="Only this sample; repeatable.")] = None,
    since: Annotated[
        str | None, typer.Option(help='Begun at or after, "2026-11-20" or "2026-11-20 14:30".')
    ] = None,
    until: Annotated[str | None, typer.Option(help="Begun before; a day includes it.")] = None,
    scan_ids: Annotated[
        str | None, typer.Option(help='Only these scan_ids: "100-200", "3,5,8".')
    ] = None,
    plan: Annotated[str | None, typer.Option(help="Only this plan.")] = None,
    detector: Annotated[str | None, typer.Option(help="Only this detector.")] = None,
    key: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="A key of the start document; repeatable."),
    ] = None,
    every_result: Annotated[
        bool,
        typer.Option("--every-result", help="All results of each run, with what they are called."),
    ] = False,
    csv: Annotated[Path | None, typer.Option(help="Write the whole table to this file.")] = None,
    api_key_env: KeyVariable = None,
) -> None:
    """Print a table of runs, one row a run and ROI, with Gamma, alpha and D."""
    from xpcs_live_denoise.catalog import connect
    from xpcs_live_denoise.readers import runs as table_of

    if csv is not None:
        check_output(csv, [".csv"])
    keys = dict(map(_pair, key or ()))
    settings = tiled_settings(uri, config, "runs")
    changes: dict[str, Any] = {"uri": uri, "api_key_env": api_key_env}
    settings = settings.model_copy(update={k: v for k, v in changes.items() if v is not None})
    client = connect(settings)
    try:
        table = table_of(
            client,
            sample=sample or None,
            since=since,
            until=until,
            plan=plan,
            scan_ids=scan_ids,
            detector=detector,
            path=settings.path if path is None else path,
            every_result=every_result,
            **keys,
        )
    finally:
        client.context.close()
    if csv is not None:
        table.to_csv(csv, index=False)
        typer.echo(f"{len(table)} rows of {len(set(table['result_uid']))} runs in {csv}.")
    elif not len(table):
        typer.echo("No runs.")
    else:
        _show(table, [*keys, *(["result"] if every_result else [])])


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name.strip() and equals):
        raise InvalidInputError(
            f"--key {text}: got no name and value; expected NAME=VALUE, for example T_sample=25."
        )
    return name.strip(), value.strip()


def _show(table: pd.DataFrame, keys: list[str]) -> None:
    """Print what a terminal has room for."""
    from rich.console import Console
    from rich.table import Table

    from xpcs_live_denoise.views import rate_words

    n_runs = len(set(table["result_uid"]))
    shown = Table(title=f"{n_runs} run{'' if n_runs == 1 else 's'}", title_justify="left")
    names = (
        "scan",
        "sample",
        "taken",
        "uid",
        *keys,
        "state",
        "ROI",
        "q (1/Å)",
        "Γ",
        "α",
        "D (Å²/s)",
    )
    for name in names:
        shown.add_column(name, no_wrap=name in ("taken", "uid"))
    before = ""
    for row in table.to_dict("records"):
        of_run = [
            _word(row["scan_id"]),
            _word(row["sample"]),
            f"{row['time']:%Y-%m-%d %H:%M}",
            str(row["uid"])[:SHORT_UID],
            *(_word(row[name]) for name in keys),
            row["state"],
        ]
        diffusion = _word(row["diffusion"])
        if row["result_uid"] == before:  # said above
            of_run, diffusion = [""] * len(of_run), ""
        before = row["result_uid"]
        rate = _word(row["relaxation_rate"])
        if rate != UNKNOWN:
            words = rate_words(row["relaxation_rate"], row["relaxation_rate_error"])
            rate = f"{words} 1/{row['time_unit']}"
        shown.add_row(
            *of_run,
            _word(row["roi"]),
            _word(row["q_inv_angstrom"]),
            rate,
            _word(row["alpha"]),
            diffusion,
        )
    Console().print(shown)


def _word(value: Any) -> str:
    """Return a number in four digits, any other value as one line; a dash for none."""
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return UNKNOWN
    return f"{value:.4g}" if isinstance(value, float) else one_line(str(value), 30)
