"""The report of `reprocess`: what changed, as CSV and as a page with plots beside it."""

from __future__ import annotations

import csv
import html
import importlib.util
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

from .output import write_text
from .reprocess_run import Change, Outcome

Model: TypeAlias = Any  # an object of Bokeh: its properties are made at run time

COLUMNS = (
    *("scan_id", "uid", "state", "derived", "superseded", "roi", "q_inv_angstrom"),
    *("gamma_before", "gamma_before_error", "gamma_after", "gamma_after_error"),
    *("change_in_errors", "n_before", "n_after", "time_unit", "reason"),
)
LINE = "#404040"
OUTSIDE = 3.0  # errors; a change beyond is drawn and counted as one
POINTS = (
    *("scan_id", "uid", "roi", "before", "before_low", "before_high", "after", "after_low"),
    *("after_high", "change", "n_before", "n_after", "number", "colour", "label"),
)


def write_report(path: Path, outcomes: Sequence[Outcome]) -> Path | None:
    """Write what changed as CSV, a row a run and ROI, and one for a run without a result.

    Beside it, with the ending .html, a page with plots where bokeh is installed; return its path.
    """
    write_text(path, _table(outcomes))
    if importlib.util.find_spec("bokeh") is None:
        return None
    page = path.with_suffix(".html")
    write_text(page, _page(outcomes))
    return page


def _table(outcomes: Sequence[Outcome]) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for outcome in outcomes:
        before = outcome.supersedes[0] if outcome.supersedes else ""
        run = [outcome.scan_id, outcome.uid, outcome.state, outcome.derived, before]
        for one in outcome.changes:
            numbers = (
                *(one.q_inv_angstrom, one.gamma_before, one.gamma_before_error),
                *(one.gamma_after, one.gamma_after_error, one.in_errors),
            )
            # An empty field is a number that is not known.
            cells = [f"{number:.7g}" if math.isfinite(number) else "" for number in numbers]
            counts = [one.n_before, one.n_after, one.time_unit]
            table.writerow([*run, one.roi, *cells, *counts, outcome.reason])
        if not outcome.changes:
            table.writerow([*run, *[""] * (len(COLUMNS) - len(run) - 1), outcome.reason])
    return text.getvalue()


# --- the page ----------------------------------------------------------------------------------


def _page(outcomes: Sequence[Outcome]) -> str:
    """Return a page that needs nothing beside it: plots, and what became of each run."""
    from bokeh.embed import file_html
    from bokeh.layouts import column, row
    from bokeh.models import ColumnDataSource, Div
    from bokeh.resources import INLINE

    compared = [
        (outcome, one) for outcome in outcomes for one in outcome.changes if one.gamma_after > 0
    ]
    both = [(outcome, one) for outcome, one in compared if one.gamma_before > 0]
    n_far = sum(abs(one.in_errors) > OUTSIDE for _, one in both)
    words = (
        f"{len(outcomes)} runs; {len(both)} ROIs with a rate before and after, of which {n_far} "
        f"moved by more than {OUTSIDE:.0f} errors."
    )
    layout: list[Model] = [Div(text=f"<h1>Reprocessed runs</h1><p>{html.escape(words)}</p>")]
    units = dict.fromkeys(one.time_unit for _, one in compared)
    for unit in units:  # rates of two units stand in plots of their own
        source = ColumnDataSource(_points([pair for pair in both if pair[1].time_unit == unit]))
        counted = ColumnDataSource(_points([p for p in compared if p[1].time_unit == unit]))
        plots = (_rates(source, unit), _changes(source), _counts(counted))
        layout.append(row(*plots, sizing_mode="stretch_width", styles={"flex-wrap": "wrap"}))
    layout.append(Div(text=_states(outcomes), sizing_mode="stretch_width"))
    return file_html(
        column(*layout, sizing_mode="stretch_width"), resources=INLINE, title="Reprocessed runs"
    )


def _points(compared: Sequence[tuple[Outcome, Change]]) -> Any:
    from xpcs_live_denoise.views import OVERLAY

    labels = sorted({one.roi for _, one in compared})
    data: dict[str, list[Any]] = {name: [] for name in POINTS}
    numbers: dict[str, int] = {}
    for outcome, one in compared:
        values: dict[str, Any] = {
            "scan_id": outcome.scan_id,
            "uid": outcome.uid[:8],
            "roi": one.roi,
            "label": f"ROI {one.roi}",
            "change": one.in_errors,
            "n_before": one.n_before,
            "n_after": one.n_after,
            "number": numbers.setdefault(outcome.uid, len(numbers) + 1),
            "colour": OVERLAY[labels.index(one.roi) % len(OVERLAY)],
        }
        for name, rate, error in (
            ("before", one.gamma_before, one.gamma_before_error),
            ("after", one.gamma_after, one.gamma_after_error),
        ):
            size = error if math.isfinite(error) else 0.0
            low = max(rate - size, rate / 10)  # of a logarithmic axis
            values |= {name: rate, f"{name}_low": low, f"{name}_high": rate + size}
        for name in POINTS:
            data[name].append(values[name])
    return data


def _figure(title: str, x: str, y: str, **options: Any) -> Model:
    from bokeh.models import HoverTool
    from bokeh.plotting import figure

    plot = figure(
        title=title, x_axis_label=x, y_axis_label=y, height=380, min_width=300,
        sizing_mode="stretch_width", tools="pan,box_zoom,wheel_zoom,reset,save",
        toolbar_location="above", **options,
    )  # fmt: skip
    tips = [
        ("scan", "@scan_id"), ("run", "@uid"), ("ROI", "@roi"), ("Γ before", "@before{0.0000e}"),
        ("Γ after", "@after{0.0000e}"), ("change (errors)", "@change{+0.0}"),
        ("recommended rows", "@n_before → @n_after"),
    ]  # fmt: skip
    plot.add_tools(HoverTool(tooltips=tips, renderers="auto"))
    return plot


def _rates(source: Model, unit: str) -> Model:
    plot = _figure(
        "Typical Γ of each run and ROI",
        f"before (1/{unit})",
        f"after (1/{unit})",
        x_axis_type="log",
        y_axis_type="log",
    )
    data = source.data
    if len(data["before"]):
        ends = [*data["before_low"], *data["before_high"], *data["after_low"], *data["after_high"]]
        span = [min(ends), max(ends)]
        plot.line(span, span, color=LINE, line_dash="dashed")
    bars = {"source": source, "color": "colour", "line_alpha": 0.5}
    plot.segment("before_low", "after", "before_high", "after", **bars)
    plot.segment("before", "after_low", "before", "after_high", **bars)
    plot.scatter("before", "after", source=source, color="colour", size=7, legend_field="label")
    plot.legend.update(location="top_left", background_fill_alpha=0.6, padding=2, spacing=0)
    return plot


def _changes(source: Model) -> Model:
    from bokeh.models import Span

    plot = _figure(
        "How far ln Γ moved, in units of the larger error", "run, in the order asked for", "errors"
    )
    for place in (-OUTSIDE, 0.0, OUTSIDE):
        dash = "solid" if place == 0 else "dotted"
        line = Span(dimension="width", location=place, line_color=LINE, line_dash=dash)
        plot.add_layout(line)
    plot.scatter("number", "change", source=source, color="colour", size=7)
    return plot


def _counts(source: Model) -> Model:
    plot = _figure("Recommended rows of Γ(t)", "before", "after")
    counts = [*source.data["n_before"], *source.data["n_after"]]
    if counts:
        plot.line([0, max(counts)], [0, max(counts)], color=LINE, line_dash="dashed")
    plot.scatter("n_before", "n_after", source=source, color="colour", size=7)
    return plot


def _states(outcomes: Sequence[Outcome]) -> str:
    """Return a table of the runs; everything of a run is escaped."""
    heads = ("scan", "run", "state", "result", "ROIs that moved", "recommended rows", "reason")
    rows = ["".join(f"<th>{head}</th>" for head in heads)]
    for outcome in outcomes:
        known = [one for one in outcome.changes if math.isfinite(one.in_errors)]
        far = sum(abs(one.in_errors) > OUTSIDE for one in known)
        n_before, n_after = (
            sum(getattr(one, name) for one in outcome.changes) for name in ("n_before", "n_after")
        )
        cells = (
            outcome.scan_id,
            outcome.uid[:8],
            str(outcome.state),
            outcome.derived[:8],
            f"{far} of {len(known)}" if known else "–",
            f"{n_before} → {n_after}" if outcome.changes else "–",
            outcome.reason,
        )
        rows.append("".join(f"<td>{html.escape(cell)}</td>" for cell in cells))
    style = "border-collapse:collapse;font:14px system-ui,sans-serif"
    body = "".join(f'<tr style="border-bottom:1px solid #c6ccd2">{row}</tr>' for row in rows)
    return f'<table style="{style}" cellpadding="4">{body}</table>'
