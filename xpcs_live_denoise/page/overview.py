"""The first screen: the table of runs, curves of those that are chosen, and Gamma of all."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from bokeh.document import Document as BokehDocument
from bokeh.models import (
    Checkbox,
    ColumnDataSource,
    DataTable,
    Div,
    HTMLTemplateFormatter,
    Select,
    StringFormatter,
    TableColumn,
    TextInput,
    Whisker,
)

from xpcs_live_denoise import views
from xpcs_live_denoise.errors import XpcsError
from xpcs_live_denoise.readers import COLUMNS

from .figures import (
    MOST_ALONG,
    MOST_UP,
    Columns,
    hover,
    in_lines,
    new_figure,
    plain_decades,
    style_legend,
)
from .hub import Hub

Model: TypeAlias = Any  # an object of Bokeh: its properties are made at run time
Table: TypeAlias = Any  # a DataFrame of `readers.runs`

logger = logging.getLogger(__name__)

PERIOD_MS, LOAD_S = 1_000, 10.0
LIVE_S = 5.0  # curves of runs that are on are read again so often
MOST_CURVES = 8
TABLE_WIDTH = 1040  # px; a phone scrolls it
# Of what Bokeh draws in a tree of its own, in the colours of the page, light or dark.
WIDGET_STYLE = """
.bk-input { background-color: var(--paper); color: var(--ink); border-color: var(--field); }
.bk-input option { background: var(--paper); color: var(--ink); }
"""
TABLE_STYLE = """
.slick-viewport, .slick-row, .slick-cell { background: var(--paper); color: var(--ink); }
.slick-row.odd .slick-cell { background: var(--ground); }
.slick-row .slick-cell.selected { background: var(--chosen); }
.slick-header-column { background: var(--paper); color: var(--ink); }
a { color: var(--accent); }
"""
MARKERS = ("circle", "square", "diamond", "triangle", "inverted_triangle", "hex", "star", "plus")
THREE_DIGITS = "<%= Number.isFinite(value) ? Number(value.toPrecision(3)) : '–' %>"
MOST_IN_TITLE = 40  # letters of a line; panels are wider than those of a run
ALL = "all"
SHOWN = ("scan_id", "sample", "taken", "state", "result", "roi", "q_inv_angstrom",
         "relaxation_rate", "relaxation_rate_error", "per", "alpha", "diffusion")  # fmt: skip
TITLES = (
    *("scan", "sample", "taken", "state", "result", "ROI", "q (1/Å)", "Γ", "± Γ", "unit", "α"),
    "D (Å² · unit)",
)
WIDTHS = (60, 120, 125, 65, 190, 40, 70, 75, 65, 60, 50, 90)
TEXTS = ("scan_id", "sample", "taken", "state", "result", "per")
CURVE_COLUMNS = ("x", "y", "lower", "upper", "colour", "marker", "name")
GAMMA_LABELS = {"gammas": "Γ (1/s)", "trend": "typical Γ (1/s)"}
HINT = (
    "Choose rows to lay their Γ(t) and g₂ over each other: Ctrl or Shift for several. A click on a "
    "heading sorts."
)


class Overview:
    """One browser's table of runs, and what its user has chosen of it."""

    def __init__(self, document: BokehDocument, hub: Hub) -> None:
        self._hub = hub
        self._document: Model = document
        self._table: Table = None
        self._rows = ColumnDataSource({name: [] for name in (*SHOWN, "result_uid")})
        self._curves = {
            name: ColumnDataSource({column: [] for column in CURVE_COLUMNS})
            for name in ("gammas", "g2s", "trend")
        }
        self._lines = ColumnDataSource({"x": [], "y": []})
        self._wanted: tuple[tuple[str, int], ...] = ()
        self._failed = False  # whether the table could not be read just now
        self._live_since = math.inf  # when curves of runs that are on were read, monotonic s
        self._controls: dict[str, Model] = {
            "filter": TextInput(placeholder="Filter: sample, scan, uid, plan, any key"),
            "roi": Select(title="ROI", value=ALL, options=[ALL]),
            "key": Select(title="Γ against", value="", options=[("", "–")]),
            "every": Checkbox(label="All results of each run", active=False),
            "words": Div(text=HINT),
        }
        self._plots = self._figures()
        for name, control in self._controls.items():
            control.name = f"overview_{name}"
            control.stylesheets = [WIDGET_STYLE]
            control.sizing_mode = "stretch_width"
        self._controls["every"].on_change("active", lambda _attr, _old, _new: self._read_anew())
        for name in ("filter", "roi", "key"):
            attribute = "value_input" if name == "filter" else "value"
            self._controls[name].on_change(attribute, lambda _attr, _old, _new: self._show())
        self._rows.selected.on_change("indices", lambda _attr, _old, _new: self._choose())
        for root in (*self._controls.values(), self._data_table(), *self._plots.values()):
            document.add_root(root)
        document.title = "XPCS runs"
        self._document.add_next_tick_callback(self.refresh)
        self._document.add_periodic_callback(self.refresh, PERIOD_MS)

    # --- making it -------------------------------------------------------------------------

    def _data_table(self) -> Model:
        number = HTMLTemplateFormatter(template=THREE_DIGITS)
        kinds: dict[str, Model] = {name: number for name in SHOWN if name not in (*TEXTS, "roi")}
        columns = [
            TableColumn(
                field=name, title=title, width=width, formatter=kinds.get(name, StringFormatter())
            )
            for name, title, width in zip(SHOWN, TITLES, WIDTHS, strict=True)
        ]
        link = HTMLTemplateFormatter(
            template='<a href="?run=<%= encodeURIComponent(value) %>">open</a>'
        )
        columns.append(TableColumn(field="result_uid", title="", width=50, formatter=link))
        return DataTable(
            name="overview_table",
            source=self._rows,
            columns=columns,
            index_position=None,
            reorderable=False,
            sizing_mode="stretch_both",
            min_width=TABLE_WIDTH,
            stylesheets=[TABLE_STYLE],
        )

    def _figures(self) -> dict[str, Model]:
        made = {
            "gammas": new_figure(
                "gammas", ("Γ(t)", "age (s)", GAMMA_LABELS["gammas"]), y_axis_type="log"
            ),
            "g2s": new_figure("g2s", ("g₂", "delay (s)", "g₂"), x_axis_type="log"),
            "trend": new_figure(
                "trend", ("Typical Γ", "", GAMMA_LABELS["trend"]), y_axis_type="log"
            ),
        }
        for name, plot in made.items():
            source = self._curves[name]
            bars = Whisker(
                source=source, base="x", lower="lower", upper="upper", line_color="colour",
                line_alpha=0.5, upper_head=None, lower_head=None,
            )  # fmt: skip
            plot.add_layout(bars)
            points = plot.scatter(
                "x", "y", source=source, marker="marker", color="colour", size=6,
                legend_field="name",
            )  # fmt: skip
            hover(plot, [points], **{"": "@name", plot.yaxis[0].axis_label: "@y{0.0000}"})
            style_legend(plot)
            plot.legend.click_policy = "none"
            plot.legend.ncols = "auto"
        made["g2s"].legend.visible = False  # as beside it
        made["trend"].legend.orientation = "horizontal"
        made["trend"].line("x", "y", source=self._lines, color=views.FIT, line_dash="dashed")
        plain_decades(made["g2s"].xaxis, MOST_ALONG)
        for name in ("gammas", "trend"):
            plain_decades(made[name].yaxis, MOST_UP)
        return made

    # --- the table -------------------------------------------------------------------------

    async def refresh(self) -> None:
        """Read the table where runs have come or ended."""
        try:
            table = await self._hub.table(every=self._controls["every"].active)
        except XpcsError as error:
            self._failed = True
            self._say(str(error))
            return
        if self._failed:
            self._failed = False
            self._say(HINT)
        self._read_live_again()
        if table is self._table:
            return
        self._table = table
        rois = sorted({int(label) for label in table["roi"].dropna()})
        self._controls["roi"].options = [ALL, *map(str, rois)]
        keys = numeric_keys(table)
        self._controls["key"].options = [("", "–"), *((name, name) for name in keys)]
        if self._controls["key"].value not in keys:
            likely = [name for name in keys if views.is_temperature(name)]
            self._controls["key"].value = (likely or keys or [""])[0]
        self._show()

    def _read_live_again(self) -> None:
        """Read curves once more, now and then, where runs of them are on."""
        if time.monotonic() - self._live_since > LIVE_S:
            self._live_since = math.inf
            self._document.add_next_tick_callback(self.show_chosen)

    def _read_anew(self) -> None:
        self._document.add_next_tick_callback(self.refresh)

    def _show(self) -> None:
        """Show the rows that the filter leaves, and their rates against the chosen key."""
        if self._table is None:
            return
        words = self._controls["filter"].value_input or ""
        found = filtered(self._table, words, self._controls["roi"].value)
        made = ("taken", "per")
        shown = {name: found[name].tolist() for name in (*SHOWN, "result_uid") if name not in made}
        shown["per"] = [f"1/{unit}" for unit in found["time_unit"]]
        shown["taken"] = [f"{time:%Y-%m-%d %H:%M}" for time in found["time"]]
        chosen = [
            at
            for at, row in enumerate(zip(shown["result_uid"], shown["roi"], strict=True))
            if row in self._wanted
        ]
        self._rows.data = shown
        self._rows.selected.indices = chosen
        self._show_trend(found)

    def _show_trend(self, found: Table) -> None:
        key, plot = self._controls["key"].value, self._plots["trend"]
        plot.xaxis.axis_label = key
        if not key:
            plot.title.text = in_lines("Typical Γ: no start key holds numbers", MOST_IN_TITLE)
            return
        rated = found[found["relaxation_rate"].notna()]
        # Rates of two units do not fit on one axis: those of most rows are shown.
        unit = rated["time_unit"].mode().iloc[0] if len(rated) else "s"
        n_others = int((rated["time_unit"] != unit).sum())
        found = found[found["time_unit"] == unit]
        plot.yaxis.axis_label = views.in_unit(GAMMA_LABELS["trend"], unit)
        names = ("relaxation_rate", "relaxation_rate_error", "roi")
        rate, error, roi = (found[name].to_numpy() for name in names)
        view = views.trend_view(key, found[key].to_numpy(), rate, error, roi)
        labels = np.unique(view.roi).tolist()
        at = [labels.index(label) % len(views.OVERLAY) for label in view.roi.tolist()]
        self._curves["trend"].data = curve_columns(
            view.x, view.rate, view.error, at, [f"ROI {int(label)}" for label in view.roi.tolist()]
        )
        self._lines.data = {"x": view.line_x, "y": view.line_rate}
        words = view.words.replace("; ", "\n")
        words += f"\n{n_others} rates in another unit are not shown" if n_others else ""
        text = "\n".join(filter(None, (f"Typical Γ against {key}", words)))
        plot.title.text = in_lines(text, MOST_IN_TITLE)

    # --- what is chosen --------------------------------------------------------------------

    def _choose(self) -> None:
        """Show the curves of the rows that are selected now."""
        data: Model = self._rows.data
        chosen = [at for at in self._rows.selected.indices if 0 <= at < len(data["roi"])]
        self._wanted = tuple(
            (str(data["result_uid"][at]), int(data["roi"][at]))
            for at in chosen[:MOST_CURVES]
            if data["roi"][at] == data["roi"][at]
        )
        more = len(chosen) - MOST_CURVES
        self._say(f"The first {MOST_CURVES} of {len(chosen)} rows are shown." if more > 0 else HINT)
        self._document.add_next_tick_callback(self.show_chosen)

    async def show_chosen(self) -> None:
        """Read the curves of the chosen rows, and show them if no others are chosen by then."""
        wanted = self._wanted
        gammas: list[Columns] = []
        g2s: list[Columns] = []
        units: dict[str, None] = {}
        live = False
        for at, (uid, label) in enumerate(wanted):
            try:
                feed = await self._hub.open(uid)
            except XpcsError as error:
                self._say(str(error))
                continue
            try:
                state = feed.state
                index = state.labels.index(label) if label in state.labels else -1
                if not await feed.shown(index, LOAD_S) or index < 0:
                    continue
                live |= state.live
                units[state.time_unit] = None
                name = self._name(uid, label)
                points = state.gamma(index).points["recommended"]
                g2 = state.g2(index).raw
            finally:
                self._hub.release(feed)
            n_points, n_lags = len(points), len(g2.delay_s)
            gammas.append(
                curve_columns(
                    points.age_s, points.relaxation_rate, points.relaxation_rate_error,
                    [at] * n_points, [name] * n_points,
                )
            )  # fmt: skip
            g2s.append(
                curve_columns(g2.delay_s, g2.g2, g2.upper - g2.g2, [at] * n_lags, [name] * n_lags)
            )
        if wanted == self._wanted:
            self._curves["gammas"].data = joined(gammas)
            self._curves["g2s"].data = joined(g2s)
            self._live_since = time.monotonic() if live else math.inf
            for plot, label in (("gammas", "age (s)"), ("g2s", "delay (s)")):
                shown = (views.in_unit(label, unit) for unit in units or ("s",))
                self._plots[plot].xaxis.axis_label = " or ".join(shown)
            shown = (views.in_unit(GAMMA_LABELS["gammas"], unit) for unit in units or ("s",))
            self._plots["gammas"].yaxis.axis_label = " or ".join(shown)

    def _name(self, uid: str, label: int) -> str:
        """Return what a curve is called in a legend."""
        run = next(iter(self._table[self._table["result_uid"] == uid].to_dict("records")), {})
        key = self._controls["key"].value
        value, scan_id = run.get(key), run.get("scan_id")
        if isinstance(scan_id, float):  # a column in which some run has none
            scan_id = int(scan_id) if math.isfinite(scan_id) else None
        parts = [uid[:8] if scan_id is None else str(scan_id), str(run.get("sample") or "")]
        if isinstance(value, int | float) and math.isfinite(value):
            parts.append(f"{key} {value:.4g}")
        if run.get("n_results", 1) > 1:
            parts.append(str(run.get("result") or ""))
        unit = "per frame" if run.get("time_unit") == "frame" else ""
        return " · ".join(filter(None, (*parts, f"ROI {label}", unit)))

    def _say(self, words: str) -> None:
        if self._controls["words"].text != words:
            self._controls["words"].update(text=words, render_as_text=True)


def numeric_keys(table: Table) -> list[str]:
    """Return the start keys that hold numbers, of which at least two differ, first temperatures."""
    keys = [
        name
        for name in table.columns
        if name not in COLUMNS and table[name].dtype.kind in "if" and table[name].nunique() > 1
    ]
    return sorted(keys, key=lambda name: not views.is_temperature(name))


def filtered(table: Table, words: str, roi: str) -> Table:
    """Return the rows in whose texts and numbers all words are found, of one ROI or of all."""
    kept = np.ones(len(table), bool)
    if roi != ALL:
        kept &= (table["roi"] == float(roi)).to_numpy()
    wanted = words.lower().split()
    if wanted:
        texts = ["\n".join(map(str, row)).lower() for row in table.itertuples(index=False)]
        kept &= np.array([all(word in text for word in wanted) for text in texts], bool)
    return table[kept]


def curve_columns(x: Any, y: Any, error: Any, at: Sequence[int], names: Sequence[str]) -> Columns:
    """Return the columns of points with error bars, each in the colour of its curve."""
    values, errors = np.asarray(y, float), np.nan_to_num(np.asarray(error, float))
    return {
        "x": np.asarray(x, float),
        "y": values,
        "lower": np.maximum(values - errors, values / 10),
        "upper": values + errors,
        "colour": [views.OVERLAY[one % len(views.OVERLAY)] for one in at],
        "marker": [MARKERS[one % len(MARKERS)] for one in at],
        "name": list(names),
    }


def joined(curves: Sequence[Columns]) -> Columns:
    """Return the columns of several curves as one."""
    join: Callable[[list[Any]], Any] = np.concatenate
    return {
        name: join([np.asarray(curve[name]) for curve in curves]) if curves else []
        for name in CURVE_COLUMNS
    }
