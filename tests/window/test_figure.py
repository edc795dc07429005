"""The figure of a run without a screen: what its panels hold."""

import dataclasses
import itertools
import time

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.backend_bases import MouseEvent, ResizeEvent
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.text import Text

from xpcs_live_denoise import views
from xpcs_live_denoise.records.results import BandRows, C2Rows, GammaTable, Picture, Saxs
from xpcs_live_denoise.records.run import RunEnd, Status
from xpcs_live_denoise.window.axes import logarithmic, number
from xpcs_live_denoise.window.figure import RunFigure
from xpcs_live_denoise.window.lettering import SMALL
from xpcs_live_denoise.window.pictures import save_figure
from xpcs_live_denoise.window.run_view import MOST_EDGE, ShownRun


@pytest.fixture(autouse=True)
def agg():
    mpl.use("Agg")


class Nobody:
    """A display that draws nothing."""

    def begin(self, run):
        pass

    def changed(self, run):
        pass


def live_run(run, *records, **info):
    made = ShownRun(dataclasses.replace(run.info, **info), Nobody())
    for record in records:
        made.finish(record) if isinstance(record, RunEnd) else made.write(record)
    return made


def drawn(live, roi=0, **options):
    figure = Figure(figsize=(15, 9))
    FigureCanvasAgg(figure)
    shown = RunFigure(figure, **options)
    shown.update(live.view(roi))
    figure.canvas.draw()
    return shown


def ended(raw="success", analysis="success", reason="Why.", **status):
    return RunEnd(
        raw_exit_status=raw,
        analysis_exit_status=analysis,
        reason=reason,
        status=Status(**status),
    )


def lines(axes, colour, hollow):
    """Return the points (x, y) of one colour in a panel, hollow or filled."""
    found = [
        line.get_xydata()
        for line in axes.lines
        if line.get_marker() not in ("None", "")
        and line.get_markeredgecolor() == colour
        and (line.get_markerfacecolor() == "none") == hollow
        and len(line.get_xydata())
    ]
    return np.concatenate(found) if found else np.empty((0, 2))


def test_both_c2_show_the_frames_so_far_on_one_scale_and_the_rest_stays_empty(synthetic):
    run = synthetic(n_frames=60, n_expected=120)
    shown = drawn(live_run(run, run.publication(0, 40)), roi=1)
    (raw,), (denoised,) = (shown.axes[f"c2_{name}"].images for name in ("raw", "denoised"))
    np.testing.assert_allclose(raw.get_array(), run.c2[1, :40, :40].T)
    np.testing.assert_allclose(denoised.get_array(), run.denoised[1, :40, :40].T)
    assert raw.norm is denoised.norm
    assert raw.get_extent() == [0, 20, 0, 20]
    assert shown.axes["c2_raw"].get_xlim() == (0, 60)
    assert raw.origin == "lower"


def test_what_is_drawn_is_changed_and_not_drawn_beside_it(synthetic):
    run = synthetic(n_frames=60)
    live = live_run(run, run.publication(0, 30))
    shown = drawn(live)
    before = {name: len(axes.get_children()) for name, axes in shown.axes.items()}
    live.write(run.publication(30, 60))
    shown.update(live.view(1))
    assert {name: len(axes.get_children()) for name, axes in shown.axes.items()} == before
    np.testing.assert_allclose(shown.axes["c2_raw"].images[0].get_array(), run.c2[1].T)


def test_the_final_result_replaces_what_was_provisional(synthetic):
    run = synthetic(n_frames=60)
    rows = gamma_rows(run, [""] * 9, final=False)
    shown = drawn(live_run(run, run.publication(0, 40, gamma=rows), run.result()))
    (raw,) = shown.axes["c2_raw"].images
    np.testing.assert_allclose(raw.get_array(), run.c2[0].T)
    assert not len(lines(shown.axes["gamma"], views.RECOMMENDED, hollow=True))
    assert shown.axes["g2"].get_title(loc="left") == "g₂ of the whole series"


def test_zeros_of_a_sparse_c2_are_values_and_no_gaps(synthetic):
    run = synthetic(n_frames=60)
    run.c2 = run.c2.copy()
    run.c2[0, 20, 10] = run.c2[0, 10, 20] = 0.0
    shown = drawn(live_run(run, run.publication(0, 60, band=None)))
    assert shown.axes["c2_raw"].images[0].get_array()[10, 20] == 0.0


def test_a_large_map_of_a_series_of_unknown_length_is_drawn_as_means_of_its_squares(synthetic):
    n = 2 * MOST_EDGE
    run = synthetic(n_frames=n, n_expected=None, n_roi=1)
    live = live_run(run, *(run.publication(at, min(n, at + 130)) for at in range(0, n, 130)))
    (raw,) = drawn(live).axes["c2_raw"].images
    squares = run.c2[0].reshape(n // 2, 2, n // 2, 2).mean(axis=(1, 3)).T
    off = ~np.eye(n // 2, dtype=bool)
    np.testing.assert_allclose(raw.get_array()[off], squares[off], rtol=1e-5)
    assert raw.get_extent()[1] == pytest.approx(n * 0.5, rel=0.01)
    live.write(run.result())
    assert max(live.view(0).two_time.raw.shape) <= MOST_EDGE


def binned_run(synthetic, *, denoised=True, n_bins=20, frames_per_bin=128):
    """A live run of 2,560 frames after its map was binned, and the band's rows."""
    run, rng = synthetic(n_roi=1, n_expected=None), np.random.default_rng(0)
    n = n_bins * frames_per_bin
    band = rng.normal(1.2, 0.01, (1, n, 50)).astype(np.float32)
    live = live_run(run)
    for start in range(0, n, 256):
        stop = start + 256
        rows = BandRows(
            start=start,
            stop=stop,
            c2=band[:, start:stop],
            denoised=band[:, start:stop] + np.float32(0.1) if denoised else None,
        )
        bins = run.c2[:, :2, :2] + 1 if start < 256 else run.c2[:, :20, :20]
        of_map = C2Rows(
            start=0, stop=bins.shape[1], values=bins,
            frames_per_bin=1 if start < 256 else frames_per_bin,
        )  # fmt: skip
        live.write(run.publication(0, 2, n_frames=stop, c2=of_map, band=rows, gamma=None))
    return live, run.c2[0, :20, :20], band[0]


@pytest.mark.parametrize("denoised", [True, False])
def test_a_map_in_bins_of_several_frames_has_its_short_lags_beside_it(synthetic, denoised):
    live, bins, band = binned_run(synthetic, denoised=denoised)
    shown = drawn(live)
    raw, strip = shown.axes["c2_raw"], shown.axes["c2_denoised"]
    np.testing.assert_allclose(raw.images[0].get_array(), bins.T)
    assert raw.images[0].get_extent() == [0, 1280, 0, 1280]
    assert raw.get_title(loc="left") == "Raw C2, 128 frames/bin"
    kind = "denoised" if denoised else "raw"
    assert strip.get_title(loc="left") == f"Short lags, {kind}"
    assert strip.get_ylabel() == "lag (s)"
    assert strip.get_ylim() == (0.25, 24.75)
    values = strip.images[0].get_array()
    by = 2560 // values.shape[1]
    assert values.shape[0] == 49
    expected = band[:, 1:].reshape(-1, by, 49).mean(axis=1).T + 0.1 * denoised
    np.testing.assert_allclose(values, expected, rtol=1e-5)
    strip.set_xlim(100, 200)
    assert raw.get_xlim() == (100, 200), "they are looked at together"
    strip.set_ylim(1, 2)
    assert raw.get_ylim() == (0, 1280), "a lag is no frame"


def test_a_series_of_minutes_has_round_minutes_on_its_axes(synthetic):
    live, *_ = binned_run(synthetic)
    shown = drawn(live)
    for name in ("c2_raw", "c2_denoised", "intensity"):  # that has the axis of Gamma(t), above it
        axes = shown.axes[name]
        assert "(min)" in axes.get_xlabel()
        ticks = [text.get_text() for text in axes.get_xticklabels()]
        assert ticks == ["0", "5", "10", "15", "20"]
    assert [text.get_text() for text in shown.axes["c2_raw"].get_yticklabels()] == ticks
    assert shown.axes["g2"].get_xlabel() == ""
    assert shown.axes["heterogeneity"].get_xlabel() == "delay (s)"


def test_a_zoom_into_one_map_of_c2_shows_the_same_rows_of_the_other(synthetic):
    shown = drawn(live_run(run := synthetic(), run.publication(0, 60)))
    shown.axes["c2_denoised"].set(xlim=(2, 5), ylim=(3, 6))
    assert shown.axes["c2_raw"].get_ylim() == (3, 6)
    assert shown.axes["c2_raw"].get_xlim() == (2, 5)


def gamma_rows(run, reasons, *, final, source="bayes"):
    """One row an age: recommended where the reason is empty."""
    table = run.gamma(range(len(reasons)), source=source, final=final, rate=2.0)
    reason = np.array(list(reasons) * run.n_roi)
    return dataclasses.replace(table, reason=reason, recommended=reason == "")


def test_recommended_points_are_hollow_while_provisional_and_filled_when_final(synthetic):
    run = synthetic()
    rows = gamma_rows(run, [""] * 9, final=False)
    live = live_run(run, run.publication(0, 30, gamma=rows))
    gamma = drawn(live).axes["gamma"]
    assert len(lines(gamma, views.RECOMMENDED, hollow=True)) == 9
    assert not len(lines(gamma, views.RECOMMENDED, hollow=False))
    assert "provisional" in [text.get_text() for text in gamma.get_legend().texts]
    live.write(dataclasses.replace(run.result(), gamma=gamma_rows(run, [""] * 12, final=True)))
    gamma = drawn(live).axes["gamma"]
    assert not len(lines(gamma, views.RECOMMENDED, hollow=True))
    points = lines(gamma, views.RECOMMENDED, hollow=False)
    np.testing.assert_allclose(points, [(age * 0.5, 2.0) for age in range(12)])
    assert "provisional" not in [text.get_text() for text in gamma.get_legend().texts]


def test_points_that_are_not_recommended_are_marked_with_their_reason(synthetic):
    run = synthetic()
    reasons = ["", "too_slow", "no_contrast", "too_slow", "", "something_new"]
    live = live_run(run, run.publication(0, 30, gamma=gamma_rows(run, reasons, final=False)))
    shown = drawn(live)
    gamma = shown.axes["gamma"]
    assert len(lines(gamma, views.RECOMMENDED, hollow=True)) == 2
    assert len(lines(gamma, views.DOUBTFUL, hollow=True)) == 4
    listed = {text.get_text() for text in gamma.get_legend().texts}
    assert {
        "recommended",
        "not: too slow: upper limit",
        "not: no contrast: lower limit",
        "not: something new",
    } <= listed
    markers = {
        line.get_marker()
        for line in gamma.lines
        if line.get_markeredgecolor() == views.DOUBTFUL and line.get_marker() != "None"
    }
    assert len(markers) == 3, "reasons share a marker"
    live.write(dataclasses.replace(run.result(), gamma=gamma_rows(run, [""] * 9, final=True)))
    shown.update(live.view(0))
    assert not len(lines(gamma, views.DOUBTFUL, hollow=True)), "points of before are still there"


def test_bars_end_at_the_errors_with_gaps_between(synthetic):
    run = synthetic(n_roi=1)
    rows = run.gamma(range(3), source="bayes", rate=2.0)
    rows = rows.replace(relaxation_rate_error=np.array([0.5, np.nan, 1.0]))
    gamma = drawn(live_run(run, run.publication(0, 30, gamma=rows))).axes["gamma"]
    bars = [
        line.get_xydata()
        for line in gamma.lines
        if line.get_color() == views.RECOMMENDED and line.get_linestyle() == "-"
    ]
    (ends,) = [one for one in bars if len(one)]
    np.testing.assert_allclose(ends[:, 1], [1.5, 2.5, np.nan, 1.0, 3.0, np.nan])


def test_an_early_row_gives_way_to_the_later_one_of_its_age(synthetic):
    run = synthetic()
    early = gamma_rows(run, ["", "", ""], final=False, source="bayes_early")
    late = gamma_rows(run, ["", ""], final=False).replace(relaxation_rate=5.0)
    table = GammaTable.concatenate([early, late])
    shown = drawn(live_run(run, run.publication(0, 30, gamma=table)))
    points = lines(shown.axes["gamma"], views.RECOMMENDED, hollow=True)
    assert sorted(points[:, 1].tolist()) == [2.0, 5.0, 5.0]


def test_the_lines_tell_run_frames_contrast_counts_dose_lag_and_gaps(synthetic):
    run = synthetic(start={"scan_id": 1234, "sample": "silica"})
    labels = np.array([[0, 1], [2, 2]])
    mean = np.array([[99.0, 0.25], [1.0, 3.0]])
    picture = Picture(mean=mean, labels=labels, binning=2, n_frames=5)
    status = Status(
        n_seen=50, n_processed=40, n_skipped=10, lag_s=1.25, contrast=(0.123, 0.2), message="Note."
    )
    live = live_run(run, run.publication(0, 50, picture=picture, status=status))
    words = drawn(live, roi=1).words
    for fact in (
        "Scan 1234", run.raw_uid[:8], "silica", "frames 50 of 60", "contrast β* 0.200",
        "counts 2 /px/frame", "dose 80 counts/px", "behind the detector 1.25 s",
        "skipped frames 10", "Note.", "ROI 2 (2 of 2)",
    ):  # fmt: skip
        assert fact in words
    words = drawn(live, roi=0).words
    assert "counts 0.25 /px/frame" in words
    assert "q = 0.01" in words


@pytest.mark.parametrize(
    ("raw", "analysis", "state"),
    [
        ("abort", "success", "aborted"),
        ("success", "fail", "failed"),
        ("success", "success", "finished"),
    ],
)
def test_the_end_of_a_run_is_told_and_why(synthetic, raw, analysis, state):
    run = synthetic()
    end = ended(raw, analysis, "Ctrl-C.")
    words = drawn(live_run(run, run.publication(0, 30), end)).words
    assert state in words
    assert "Ctrl-C." in words
    assert "behind the detector" not in words


def detector_of(run):
    labels = np.zeros((20, 30), int)
    labels[3:9, 4:20], labels[12:18, 4:20] = 1, 2
    mean = np.full((20, 30), 0.5)
    mean[0, 0], mean[1, 1] = np.nan, 0.0
    picture = Picture(mean=mean, labels=labels, binning=4, n_frames=17)
    return live_run(run, run.publication(0, 30, picture=picture)), labels


def test_the_picture_shows_the_mean_with_the_chosen_roi_in_its_colour(synthetic):
    live, labels = detector_of(synthetic())
    axes = drawn(live, roi=1).axes["detector"]
    assert axes.get_title(loc="left") == "Detector, mean of 17 frames"
    image, outline = axes.images
    assert image.get_extent() == [0, 120, 80, 0]
    shown = np.ma.filled(image.get_array(), np.nan)
    assert np.isnan(shown[0, 0])
    assert shown[1, 1] < 0.5, "no count is dark, not unknown"
    colour = 255 * np.array(mpl.colors.to_rgb(views.RECOMMENDED))
    chosen = np.all(outline.get_array()[..., :3] == np.rint(colour), axis=-1)
    np.testing.assert_array_equal(chosen, labels == 2)


@pytest.mark.parametrize(("place", "label"), [((40, 60), 2), ((40, 20), 1), ((2, 2), None)])
def test_a_click_into_the_detector_chooses_a_roi(synthetic, place, label):
    live, _ = detector_of(synthetic())
    chosen = []
    shown = drawn(live, step=lambda _by: None, choose=chosen.append)
    x, y = shown.axes["detector"].transData.transform(place)
    canvas = shown.figure.canvas
    canvas.callbacks.process(
        "button_press_event", MouseEvent("button_press_event", canvas, x, y, button=1)
    )
    assert chosen == ([] if label is None else [label])


def test_gamma_against_q_squared_marks_the_chosen_roi(synthetic):
    run, q = synthetic(n_roi=3), (0.002, 0.003, 0.004)
    rows = gamma_rows(run, [""] * 5, final=False)
    rate = np.repeat(1e6 * np.array(q) ** 2, 5)
    rows = rows.replace(relaxation_rate=rate, relaxation_rate_error=1e-4 * rate)
    live = live_run(run, run.publication(0, 30, gamma=rows), q_inv_angstrom=q)
    axes = drawn(live, roi=2).axes["power_law"]
    assert "n = 2.00 ± 0.00" in axes.texts[0].get_text()
    points = lines(axes, views.RECOMMENDED, hollow=False)
    np.testing.assert_allclose(points, [(one**2, 1e6 * one**2) for one in q], rtol=1e-6)
    (chosen,) = lines(axes, "black", hollow=True)
    np.testing.assert_allclose(chosen, points[2])


def test_g2_so_far_and_its_fit_are_drawn_while_the_run_is_on(synthetic):
    run = synthetic(n_frames=60)
    t = np.arange(60)
    decay = 1 + 0.3 * np.exp(-0.2 * abs(np.subtract.outer(t, t)))
    run.c2 = np.broadcast_to(decay, (2, 60, 60)).astype(np.float32)
    axes = drawn(live_run(run, run.publication(0, 60, band=None))).axes["g2"]
    assert axes.get_title(loc="left") == "g₂ so far"
    curves = {line.get_label(): line.get_xydata() for line in axes.lines}
    for name in ("raw", "fit of raw"):
        x, y = curves[name].T
        np.testing.assert_allclose(y, 1 + 0.3 * np.exp(-0.4 * x), rtol=1e-3)
    assert len(curves["raw"]) == 48, "0.8 of the lags"
    assert not len(curves["denoised"])


def test_a_series_that_is_not_denoised_says_so(synthetic):
    run = synthetic(n_expected=200)
    begun = run.publication(0, 30, band=None, gamma=None)
    shown = drawn(live_run(run, begun))
    assert shown.axes["c2_denoised"].texts[0].get_text() == "no denoiser"
    shown = drawn(live_run(run, begun, model={"name": "fake"}))
    assert shown.axes["c2_denoised"].texts[0].get_text() == "denoised from 50 frames on"
    assert shown.axes["gamma"].texts[0].get_text() == "waiting for the first 50 frames"
    shown = drawn(live_run(run, run.result(denoised=False), model={"name": "fake"}))
    assert shown.axes["c2_denoised"].texts[0].get_text() == "not denoised"


def test_before_the_first_frame_everything_is_empty(synthetic):
    live = live_run(synthetic())
    shown = drawn(live)
    assert shown.axes["detector"].texts[0].get_text() == "no image"
    assert not shown.axes["c2_raw"].images[0].get_visible()
    words = [shown.axes[name].texts[0].get_text() for name in ("c2_raw", "g2", "gamma")]
    assert words == ["waiting for frames", "waiting for frames", "waiting for the first 50 frames"]
    assert shown.axes["g2"].get_legend() is None or not shown.axes["g2"].get_legend().get_visible()
    live.finish(ended("fail"))
    shown.update(live.view(0))
    words = [shown.axes[name].texts[0].get_text() for name in ("c2_raw", "g2", "gamma")]
    assert words == ["no frames"] * 3
    assert shown.axes["heterogeneity"].texts[0].get_text() == "not known"


def test_a_zoom_of_the_user_survives_the_next_update_and_ends_with_home(synthetic):
    run = synthetic(n_frames=60, n_expected=None)
    live = live_run(run, run.publication(0, 30))
    shown = drawn(live)
    axes = shown.axes["c2_raw"]
    home = axes.get_xlim()
    axes.set_xlim(2, 5)
    live.write(run.publication(30, 60))
    shown.update(live.view(0))
    assert axes.get_xlim() == (2, 5)
    axes.set_xlim(home)
    shown.update(live.view(0))
    assert axes.get_xlim() == (0, 30)


def test_a_saved_picture_holds_everything_that_the_window_shows(synthetic, tmp_path):
    run = synthetic(n_frames=60)
    status = Status(n_processed=60, message="Something to know.")
    live = live_run(run, run.result(), run.publication(0, 60, status=status))
    save_figure(live, 0, tmp_path / "a.png")
    pixels = imread(tmp_path / "a.png")[..., :3].mean(axis=-1)
    inked = pixels < 0.9
    title, facts, message = inked[12:35, :400], inked[48:64, :500], inked[868:888, :200]
    raw_c2 = inked[150:400, 600:850]
    for part in (title, facts, message, raw_c2):
        assert part.mean() > 0.02


NAME = "PEG-gold-nanorods_in_glycerol-water_60-40_batch7_cell3_T278K_run2"
LONG = (
    "Followed series /nsls2/data/chx/proposals/2026-3/pass-123456/eiger4m/2026/11/26/ff4a9785_1234:"
    " 132 of 400 announced frames came. Left out: frames 40-44: no counts (beam dump). The flat "
    "field has the shape (1062, 1028), the frames have (2167, 2070): analysed without. Set "
    "flat_field to a file of the frames' shape, then run `xpcs-live-denoise replay ff4a9785`."
)


def crowded_run(synthetic, n_roi, message=LONG, sample=NAME):
    run = synthetic(n_roi=n_roi, start={"scan_id": 123456, "sample": sample})
    picture = Picture(mean=np.ones((4, 9)), labels=np.ones((4, 9), int), binning=1, n_frames=5)
    status = Status(
        n_processed=99999, n_skipped=12345, lag_s=123.4, contrast=(0.1,) * n_roi, message=message
    )
    rows = gamma_rows(run, ["", "not_kww", "too_slow"] * 5, final=False)
    q = np.linspace(0.002, 0.004, n_roi).tolist()
    return live_run(
        run,
        run.publication(0, 50, gamma=rows, picture=picture, status=status),
        q_inv_angstrom=tuple(q),
    )


def in_window(width, height, live, roi=0, **options):
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    shown = RunFigure(figure, step=lambda _by: None, choose=lambda _label: None)
    shown.update(live.view(roi), **options)
    figure.canvas.draw()
    return shown


def overlaps(boxes):
    """Return the pairs of names whose boxes overlap by more than a pixel."""
    return [
        (a, b)
        for a, b in itertools.combinations(boxes, 2)
        if min(boxes[a].x1, boxes[b].x1) - max(boxes[a].x0, boxes[b].x0) > 1
        and min(boxes[a].y1, boxes[b].y1) - max(boxes[a].y0, boxes[b].y0) > 1
    ]


def boxes_of(shown):
    """Return the boxes, px, of all that must not overlap, by name."""
    renderer = shown.figure.canvas.get_renderer()
    boxes = {text.get_text()[:20]: text.get_window_extent() for text in shown.figure.texts}
    for place, axes in enumerate(shown.figure.axes):
        if axes.get_visible():
            name = axes.get_label() or f"bar or button {place}"
            if words := axes.get_title(loc="left"):  # wider than its panel: a box of its own
                title = next(one for one in axes.findobj(Text) if one.get_text() == words)
                boxes[f"title of {name}"] = title.get_window_extent()
                title.set_visible(False)
            boxes[name] = axes.get_tightbbox(renderer)
    return boxes


@pytest.mark.parametrize("n_roi", [1, 40])
@pytest.mark.parametrize(("width", "height"), [(10, 6), (13.66, 6.5), (15, 9), (19.2, 10.6)])
def test_nothing_overlaps_and_nothing_is_cut_at_any_width(synthetic, width, height, n_roi):
    shown = in_window(width, height, crowded_run(synthetic, n_roi), roi=n_roi // 2)
    boxes = boxes_of(shown)
    assert not overlaps(boxes)
    assert min(box.x0 for box in boxes.values()) >= 0
    assert max(box.x1 for box in boxes.values()) <= shown.figure.bbox.width
    assert min(box.y0 for box in boxes.values()) >= 0
    assert max(box.y1 for box in boxes.values()) <= shown.figure.bbox.height
    assert LONG in shown.words.replace("\n", " ")
    assert min(text.get_fontsize() for text in shown.figure.texts) > 9, "too small to read"


def test_a_long_name_of_a_sample_gives_way_to_the_rest_of_the_title(synthetic):
    live = crowded_run(synthetic, 3)
    live.finish(ended("abort"))
    shown = in_window(10, 6, live)
    title = shown.words.split("\n")[0]
    assert "PEG-gold" in title
    assert "…" in title
    assert title.endswith("run2 · eiger · aborted")
    box = shown.figure.texts[0].get_window_extent()
    assert NAME in shown.layout.in_full(box.x0 + 5, box.y0 + 5)
    assert shown.layout.in_full(box.x0 + 5, box.y0 - 200) == ""


def test_a_window_of_another_size_is_arranged_anew_also_without_news(synthetic):
    shown = in_window(19.2, 10.6, crowded_run(synthetic, 3))
    assert NAME in shown.words
    shown.figure.set_size_inches(10, 6)
    canvas = shown.figure.canvas
    canvas.callbacks.process("resize_event", ResizeEvent("resize_event", canvas))
    canvas.draw()
    assert NAME not in shown.words
    assert not overlaps(boxes_of(shown))


def test_a_message_longer_than_its_place_is_told_in_full_by_the_mouse_and_in_a_picture(synthetic):
    sentences = " ".join(f"Sentence {number} has its remedy." for number in range(150))
    live = crowded_run(synthetic, 2, sentences)
    shown = in_window(10, 6, live)
    assert sentences not in shown.words.replace("\n", " ")
    assert "hold the mouse here" in shown.words
    box = shown.figure.texts[3].get_window_extent()
    assert sentences in shown.layout.in_full(box.x0 + 5, box.y0 + 5)
    assert box.height < 0.3 * shown.figure.bbox.height
    picture = in_window(10, 6, live, grow=True)
    assert sentences in picture.words.replace("\n", " ")
    assert not overlaps(boxes_of(picture))


@pytest.mark.parametrize(
    ("sample", "title"),
    [
        ("a\nb\tc  d", "a b c d"),
        ("cost $x_1$ and $y$, \\frac", "cost $x_1$ and $y$, \\frac"),
        ("wei\u00dfe Probe \U00013000", "weiße Probe □"),
    ],
)
def test_any_name_can_be_drawn_in_any_style_of_the_user(synthetic, sample, title):
    style = {
        "font.family": "serif", "font.size": 20, "text.usetex": True, "axes.grid": True,
        "figure.facecolor": "black", "axes.labelcolor": "white", "text.color": "white",
        "axes.spines.top": False, "figure.autolayout": True,
    }  # fmt: skip
    with mpl.rc_context(style):
        shown = in_window(15, 9, crowded_run(synthetic, 2, sample=sample))
    assert f" · {title} · " in shown.words
    assert not overlaps(boxes_of(shown))
    assert shown.figure.get_facecolor() == (1, 1, 1, 1)


def test_axes_end_with_the_frames_that_came_when_no_more_will(synthetic):
    run = synthetic(n_frames=60, n_expected=180)
    live = live_run(run, run.publication(0, 60))
    shown = drawn(live)
    assert shown.axes["c2_raw"].get_xlim() == (0, 90)
    assert "to come" in [text.get_text() for text in shown.axes["c2_raw"].texts]
    live.finish(ended("abort"))
    shown.update(live.view(0))
    assert shown.axes["c2_raw"].get_xlim() == (0, 30)
    assert shown.axes["c2_denoised"].get_xlim() == (0, 30)
    assert shown.axes["gamma"].get_xlim()[1] < 31
    assert "to come" not in [text.get_text() for text in shown.axes["c2_raw"].texts]
    assert shown.axes["g2"].get_title(loc="left") == "g₂ of 60 frames"


def test_a_zoom_into_the_values_of_one_roi_does_not_stay_for_the_next(synthetic):
    run = synthetic(n_frames=60)
    live = live_run(run, run.publication(0, 60))
    shown = drawn(live)
    shown.axes["g2"].set(xlim=(2, 5), ylim=(7.0, 8.0))
    shown.axes["c2_raw"].set(xlim=(2, 5), ylim=(2, 5))
    shown.update(live.view(0))
    assert shown.axes["g2"].get_ylim() == (7.0, 8.0)
    shown.update(live.view(1))
    assert shown.axes["g2"].get_ylim()[0] < 2
    assert shown.axes["g2"].get_xlim() == (2, 5), "delays are the same for every ROI"
    assert shown.axes["c2_denoised"].get_xlim() == (2, 5), "both C2 are looked at together"
    shown.show_all()
    shown.update(live.view(1))
    assert shown.axes["c2_denoised"].get_xlim() == (0, 30)


def test_outlines_of_many_narrow_rois_leave_the_image_visible(synthetic):
    labels = np.repeat(np.arange(40), 2)[:, None] * np.ones(80, int)
    run = synthetic(n_roi=40)
    picture = Picture(mean=np.ones((80, 80)), labels=labels, binning=1, n_frames=5)
    shown = drawn(live_run(run, run.publication(0, 30, picture=picture)), roi=5)
    outline = shown.axes["detector"].images[1].get_array()
    assert outline[..., 3][labels != 6].mean() < 0.15 * 255
    assert outline[..., 3][labels == 6].max() == 255, "the chosen one is clear"


def test_times_and_rates_without_a_known_frame_time_are_in_frames(synthetic):
    live = crowded_run(synthetic, 3)
    live.info = dataclasses.replace(live.info, time_unit="frame")
    shown = in_window(10, 6, live)
    labels = {
        text for axes in shown.axes.values() for text in (axes.get_xlabel(), axes.get_ylabel())
    }
    assert {"t₁ (frames)", "delay (frames)", "Γ (1/frame)", "typical Γ (1/frame)"} <= labels
    assert not any("(s)" in label or "(1/s)" in label for label in labels)
    assert "frame time unknown" in shown.words
    assert not overlaps(boxes_of(shown))


@pytest.mark.parametrize("inches", [1.5, 2.2, 5.0])
@pytest.mark.parametrize(
    "ends",
    [
        (1e-7, 1e-2),
        (4.1e-6, 1.9e-5),
        (2.1e-6, 2.9e-6),
        (0.9, 1.2),
        (3, 4e6),
        (61, 64),
        (0.85, 9.6e4),
    ],
)
def test_a_logarithmic_axis_has_two_numbers_or_more_that_do_not_touch(ends, inches):
    figure = Figure(figsize=(inches, 2))
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0.5, 1, 0.4))
    axes.tick_params(labelsize=SMALL)
    logarithmic(axes, "x")
    axes.set_xlim(ends)
    figure.canvas.draw()
    inside = [
        label
        for place, label in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)
        if ends[0] <= place <= ends[1]
    ]
    assert len(inside) >= 2
    assert not overlaps({label.get_text(): label.get_window_extent() for label in inside})


@pytest.mark.parametrize(
    ("value", "words"),
    [(0.0, "0"), (0.05, "0.05"), (20000.0, "20000"), (2e-5, "2×10⁻⁵"), (1e6, "10⁶")],
)
def test_numbers_of_axes_are_plain_or_have_a_power_of_ten(value, words):
    assert number(value) == words


def test_a_view_of_a_large_run_is_made_in_a_blink(synthetic):
    run = synthetic(n_roi=10, n_frames=600)
    live = live_run(run, run.publication(0, 600, gamma=run.gamma(range(600), source="bayes")))
    begin = time.process_time()
    live.view(5)
    assert time.process_time() - begin < 1.0


def test_the_heterogeneity_stands_below_g2_with_its_delays_and_a_zoom_is_shared(synthetic):
    run = synthetic(n_frames=60)
    live = live_run(run, run.result())
    shown = drawn(live)
    axes, g2 = shown.axes["heterogeneity"], shown.axes["g2"]
    points = next(line for line in axes.lines if line.get_marker() == "o").get_xydata()
    np.testing.assert_allclose(points, np.transpose([[1.0, 1.75, 3.0], [0.1, 0.3, -0.05]]))
    assert axes.texts[0].get_text() == "ln Γ fluctuates by 0.55 ± 0.08"
    assert axes.get_position().y1 < g2.get_position().y0
    low, high = axes.get_ylim()
    assert low < -0.15
    assert high > 0.45, "room for words"
    g2.set_xlim(2.0, 5.0)
    live.write(run.result())
    shown.update(live.view(1))
    assert axes.get_xlim() == (2.0, 5.0)
    assert axes.texts[0].get_text() == "not known"


def curve(axes, colour, style="-"):
    """Return the points (x, y) of the line of one colour and style in a panel."""
    (line,) = [
        line
        for line in axes.lines
        if (line.get_color(), line.get_linestyle(), line.get_alpha()) == (colour, style, 1.0)
    ]
    return line.get_xydata()


def test_i_of_t_stands_below_gamma_at_its_ages_and_i_of_q_below_gamma_of_q(synthetic):
    run = synthetic(n_frames=60)
    radius = np.arange(1.0, 50)
    saxs = Saxs(radius_px=radius, q_inv_angstrom=1e-3 * radius, mean=9 / radius, n_pixels=radius)
    image = np.ones((4, 5), np.float32)
    picture = Picture(mean=image, labels=image.astype(int), binning=1, n_frames=9, saxs=saxs)
    live = live_run(run, run.publication(0, 40, picture=picture))
    shown = drawn(live)
    axes = shown.axes
    own = run.roi_mean[:40, 0]
    points = curve(axes["intensity"], views.RECOMMENDED)
    np.testing.assert_allclose(points, np.stack([np.arange(40) * 0.5, own / own.mean()], 1))
    assert axes["intensity"].get_xlim() == axes["gamma"].get_xlim()
    assert (axes["gamma"].get_xlabel(), axes["intensity"].get_xlabel()) == ("", "age (s)")
    np.testing.assert_allclose(axes["saxs"].lines[0].get_xydata()[:, 0], 1e-3 * radius)
    np.testing.assert_allclose(lines(axes["saxs"], views.RECOMMENDED, hollow=False), [[0.01, 0.9]])
    for upper, lower in (("gamma", "intensity"), ("power_law", "saxs")):
        assert axes[upper].get_position().y0 > axes[lower].get_position().y1
    live.write(run.publication(40, 60))  # what stands below I(t) does not move it
    shown.update(live.view(1))
    assert len(curve(axes["intensity"], views.RECOMMENDED)) == 60


def test_a_result_that_counted_nothing_has_no_such_panels_and_gamma_has_their_place(synthetic):
    run = synthetic(n_frames=60)
    axes = drawn(live_run(run, dataclasses.replace(run.result(), intensity=None))).axes
    assert not axes["intensity"].get_visible()
    assert not axes["saxs"].get_visible()
    assert axes["gamma"].get_xlabel() == "age (s)"
    assert axes["power_law"].get_xlabel() == "q² (Å⁻²)"
    assert axes["gamma"].get_position().height > axes["g2"].get_position().height
