"""What is drawn by itself looks as if the whole figure had been drawn."""

import dataclasses

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure

from xpcs_live_denoise.records.results import GammaTable, Picture
from xpcs_live_denoise.records.run import Status
from xpcs_live_denoise.views.state import PlotState
from xpcs_live_denoise.window.cells import Cell, WordCanvas
from xpcs_live_denoise.window.figure import SIZE_INCHES, LiveFigure

REASONS = ("", "too_slow", "")
Q = (0.002, 0.003, 0.004)


@pytest.fixture(autouse=True)
def agg():
    mpl.use("Agg")


def picture(n_frames, level, shape=(40, 60)):
    labels = np.zeros(shape, int)
    labels[2:10, 5:30], labels[12:20, 5:30], labels[22:30, 5:30] = 1, 2, 3
    mean = np.random.default_rng(n_frames).poisson(level, shape) * 0.7
    return Picture(mean=mean, labels=labels, binning=3, n_frames=n_frames)


def rows(run, start, stop, rate):
    """Gamma of every age, with rates that q tells, some of them not recommended."""
    table = run.gamma(range(start, stop), source="bayes", rate=rate)
    reason = np.array([REASONS[age % 3] for age in range(start, stop)] * run.n_roi)
    rates = rate * np.repeat(np.array(Q) ** 2 / Q[0] ** 2, stop - start)
    bayes = table.replace(reason=reason, recommended=reason == "", relaxation_rate=rates)
    return GammaTable.concatenate([bayes, run.gamma(range(start, stop), rate=2 * rate)])


def measured(synthetic, n_expected):
    """Info and records of a run in which everything changes that can."""
    run = synthetic(n_roi=3, n_expected=n_expected, start={"sample": "gel"})
    t = np.arange(60)
    decay = 0.3 * np.exp(-0.1 * abs(np.subtract.outer(t, t)))
    run.c2, run.denoised = run.c2 + decay.astype(np.float32), run.denoised + np.float32(0.2)
    info = dataclasses.replace(run.info, q_inv_angstrom=Q)

    def news(start, stop, **fields):
        known = {"n_seen": stop, "n_processed": stop, "lag_s": stop / 7}
        status = Status(**known, contrast=(0.3, 0.2, 0.1), baseline=(1.0, 1.1, 1.0))
        return run.publication(start, stop, **{"status": status, "gamma": None, **fields})

    return info, [
        news(0, 12, bands=()),
        news(12, 15, bands=(), picture=picture(15, 1.0)),
        news(15, 20, bands=()),
        news(20, 30, picture=picture(30, 1.1)),
        news(30, 35, gamma=rows(run, 0, 4, 1.0), picture=picture(35, 9.0)),
        news(35, 38, gamma=rows(run, 4, 8, 1.1)),
        news(38, 45, gamma=rows(run, 8, 16, 40.0), picture=picture(45, 9.1)),
        news(45, 60, gamma=rows(run, 16, 20, 1.2), picture=picture(60, 0.2)),
        dataclasses.replace(run.result(message="Note."), gamma=run.gamma(range(60), final=True)),
    ]


def begun(info, record, size=SIZE_INCHES):
    """A figure that was drawn whole, with the state that it shows."""
    figure = Figure(figsize=size, dpi=100)
    canvas = WordCanvas(figure)
    live = LiveFigure(figure, step=lambda _by: None, choose=lambda _label: None)
    state = PlotState(info)
    state.add(record)
    live.update(state.snapshot(0))
    canvas.draw()
    live.keep()
    return state, live, canvas


def pixels(canvas):
    return np.asarray(canvas.buffer_rgba()).copy()


def assert_same(got, expected, words=""):
    """One level of 256 is what the order of two grey lines makes where they cross."""
    np.testing.assert_allclose(got.astype(int), expected, rtol=0, atol=1, err_msg=words)


@pytest.fixture
def drawn(monkeypatch):
    """What parts of cells were drawn anew: names of what was said to be stale."""
    seen = set()
    draw = Cell._draw_standing

    def watched(cell, axes, renderer):
        parts = ("_stale_axes", "_stale_y", "_stale_beside")
        seen.update(part for part in parts if getattr(cell, part))
        draw(cell, axes, renderer)

    monkeypatch.setattr(Cell, "_draw_standing", watched)
    return seen


@pytest.mark.parametrize(("n_expected", "size"), [(60, SIZE_INCHES), (None, (11.4, 7.0))])
def test_parts_drawn_by_themselves_look_like_the_whole_figure(synthetic, drawn, n_expected, size):
    info, records = measured(synthetic, n_expected)
    state, live, canvas = begun(info, records[0], size)
    for number, record in enumerate(records[1:]):
        state.add(record)
        for roi in (0, number % 3):  # the ROI is changed as well
            before = pixels(canvas)
            live.update(state.snapshot(roi))
            box = live.draw_changes()
            by_parts = pixels(canvas)
            canvas.draw()
            live.keep()
            assert_same(by_parts, pixels(canvas), f"record {number}, ROI {roi}")
            changed = np.argwhere((by_parts != before).any(axis=-1))
            if len(changed):
                rows, cols = len(before) - changed[:, 0], changed[:, 1]
                assert box.y0 < rows.min()
                assert rows.max() <= box.y1
                assert box.x0 <= cols.min()
                assert cols.max() < box.x1
    assert drawn == {"_stale_axes", "_stale_y", "_stale_beside"}


def test_many_updates_by_parts_look_like_one_whole_draw(synthetic):
    info, records = measured(synthetic, 60)
    state, live, canvas = begun(info, records[0])
    for record in records[1:]:
        state.add(record)
        live.update(state.snapshot(1))
        live.draw_changes()
    by_parts = pixels(canvas)
    canvas.draw()
    live.keep()
    assert_same(by_parts, pixels(canvas))


def test_several_updates_before_a_draw_are_drawn_together(synthetic):
    info, records = measured(synthetic, 60)
    state, live, canvas = begun(info, records[0])
    for record in records[1:7]:
        state.add(record)
        live.update(state.snapshot(1))
    live.draw_changes()
    by_parts = pixels(canvas)
    canvas.draw()
    live.keep()
    assert_same(by_parts, pixels(canvas))


def test_what_has_not_changed_is_not_drawn(synthetic):
    info, records = measured(synthetic, 60)
    state, live, _ = begun(info, records[1])
    state.add(dataclasses.replace(records[1], picture=None))
    live.update(state.snapshot(0))
    places = [cell._place for cell in live._cells if cell.stale]
    assert live._picture.cells[0]._place not in places
    assert not [cell for cell in live._lines.cells if cell.stale]


def test_cells_do_not_overlap(synthetic):
    info, records = measured(synthetic, 60)
    for size in (SIZE_INCHES, (11.43, 7.07)):
        _, live, canvas = begun(info, records[0], size)
        covered = np.zeros(canvas.get_width_height(), int)
        for cell in live._cells:
            (x0, y0), (x1, y1) = cell.box.get_points().astype(int)
            covered[x0:x1, y0:y1] += 1
        assert covered.max() == 1


def test_an_axis_with_an_offset_above_it_is_not_drawn_alone(drawn):
    figure = Figure(figsize=(4, 3), dpi=100)
    canvas = WordCanvas(figure)
    axes = figure.add_subplot()
    axes.set_ylim(1e6, 1e6 + 1)
    cell = Cell(figure, (0.0, 0.0, 1.0, 1.0), axes)
    canvas.draw()
    cell.keep(canvas)
    axes.set_ylim(0, 1)
    cell.renew_limits(False, True)
    cell.draw(canvas)
    by_parts = pixels(canvas)
    canvas.draw()
    assert_same(by_parts, pixels(canvas))
    assert "_stale_axes" in drawn
