"""The live plot without a screen: what the figure holds, and what becomes of files and faults."""

import dataclasses
import logging

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imread

from tests.support.live_runs import Fake, composed_run, series
from xpcs_live_denoise import LiveDenoise, RoiMap, Settings
from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.records.results import GammaTable, Picture
from xpcs_live_denoise.records.run import RunEnd, Status
from xpcs_live_denoise.sinks.memory import MemorySink
from xpcs_live_denoise.views.state import PlotState
from xpcs_live_denoise.window.figure import LiveFigure
from xpcs_live_denoise.window.live_plot import LivePlot, PlotSink, save_figure
from xpcs_live_denoise.window.qt_window import RoiChoice
from xpcs_live_denoise.window.style import DOUBTED, TRUSTED, colour_range


@pytest.fixture(autouse=True)
def agg():
    mpl.use("Agg")


def drawn(state, roi=0):
    """Draw a state; return the figure's axes by the start of their titles, and the LiveFigure."""
    figure = Figure(figsize=(15, 9))
    FigureCanvasAgg(figure)
    live = LiveFigure(figure)
    live.update(state.snapshot(roi))
    figure.canvas.draw()
    return figure, live


def panel(figure, title):
    (axes,) = [one for one in figure.axes if one.get_title(loc="left").startswith(title)]
    return axes


def lines(axes, colour, hollow):
    """Return the points (x, y) of one colour in a panel, hollow or filled."""
    found = [
        line.get_xydata()
        for line in axes.lines
        if line.get_markeredgecolor() == colour
        and (line.get_markerfacecolor() == "none") == hollow
        and len(line.get_xydata())
    ]
    return np.concatenate(found) if found else np.empty((0, 2))


def state_of(run, *records):
    state = PlotState(run.info)
    for record in records:
        state.add(record)
    return state


def test_both_c2_show_the_frames_so_far_on_one_scale_and_the_rest_stays_empty(synthetic):
    run = synthetic(n_frames=60, n_expected=120)
    figure, _ = drawn(state_of(run, run.publication(0, 40)), roi=1)
    (raw,), (denoised,) = (panel(figure, f"C2, {name}").images for name in ("raw", "denoised"))
    np.testing.assert_allclose(raw.get_array(), run.c2[1, :40, :40].T)
    np.testing.assert_allclose(denoised.get_array(), run.denoised[1, :40, :40].T)
    assert raw.norm is denoised.norm
    assert raw.get_extent() == [0, 20, 0, 20]
    assert panel(figure, "C2, raw").get_xlim() == (0, 60)
    assert raw.origin == "lower"


def test_the_final_result_replaces_what_was_provisional(synthetic):
    run = synthetic(n_frames=60)
    figure, _ = drawn(state_of(run, run.publication(0, 40), run.result()))
    (raw,) = panel(figure, "C2, raw").images
    np.testing.assert_allclose(raw.get_array(), run.c2[0].T)
    gamma = panel(figure, "Γ(t)")
    assert not len(lines(gamma, TRUSTED, hollow=True))
    assert panel(figure, "g2 of the whole series")


def gamma_rows(run, reasons, *, final, source="bayes"):
    """One row an age: recommended where the reason is empty."""
    table = run.gamma(range(len(reasons)), source=source, final=final, rate=2.0)
    reason = np.array(list(reasons) * run.n_roi)
    return dataclasses.replace(table, reason=reason, recommended=reason == "")


def test_recommended_points_are_hollow_while_provisional_and_filled_when_final(synthetic):
    run = synthetic()
    rows = gamma_rows(run, [""] * 9, final=False)
    figure, _ = drawn(state_of(run, run.publication(0, 30, gamma=rows)))
    gamma = panel(figure, "Γ(t)")
    assert len(lines(gamma, TRUSTED, hollow=True)) == 9
    assert not len(lines(gamma, TRUSTED, hollow=False))
    assert "hollow: provisional" in [text.get_text() for text in gamma.get_legend().texts]
    result = dataclasses.replace(run.result(), gamma=gamma_rows(run, [""] * 12, final=True))
    figure, _ = drawn(state_of(run, run.publication(0, 30, gamma=rows), result))
    gamma = panel(figure, "Γ(t)")
    assert len(lines(gamma, TRUSTED, hollow=False)) == 12
    assert not len(lines(gamma, TRUSTED, hollow=True))
    points = lines(gamma, TRUSTED, hollow=False)
    np.testing.assert_allclose(points, [(age * 0.5, 2.0) for age in range(12)])


def test_points_that_are_not_recommended_are_marked_with_their_reason(synthetic):
    run = synthetic()
    reasons = ["", "too_slow", "no_contrast", "too_slow", "", "something_new"]
    rows = gamma_rows(run, reasons, final=False)
    figure, _ = drawn(state_of(run, run.publication(0, 30, gamma=rows)))
    gamma = panel(figure, "Γ(t)")
    assert len(lines(gamma, TRUSTED, hollow=True)) == 2
    assert len(lines(gamma, DOUBTED, hollow=True)) == 4
    listed = {text.get_text() for text in gamma.get_legend().texts}
    assert {
        "recommended",
        "not: too slow: upper limit",
        "not: no contrast: lower limit",
        "not: something new",
    } <= listed
    markers = {line.get_marker() for line in gamma.lines if line.get_markeredgecolor() == DOUBTED}
    assert len(markers) == 3, "reasons share a marker"


def test_an_early_row_gives_way_to_the_later_one_of_its_age(synthetic):
    run = synthetic()
    early = gamma_rows(run, ["", "", ""], final=False, source="bayes_early")
    late = gamma_rows(run, ["", ""], final=False).replace(relaxation_rate=5.0)
    table = GammaTable.concatenate([early, late])
    figure, _ = drawn(state_of(run, run.publication(0, 30, gamma=table)))
    points = lines(panel(figure, "Γ(t)"), TRUSTED, hollow=True)
    assert sorted(points[:, 1].tolist()) == [2.0, 5.0, 5.0]


def test_the_title_tells_run_frames_contrast_counts_dose_lag_and_gaps(synthetic):
    run = synthetic(start={"scan_id": 1234, "sample": "silica"})
    labels = np.array([[0, 1], [2, 2]])
    mean = np.array([[99.0, 0.25], [1.0, 3.0]])
    picture = Picture(mean=mean, labels=labels, binning=2, n_frames=5)
    status = Status(
        n_seen=50, n_processed=40, n_skipped=10, lag_s=1.25, contrast=(0.123, 0.2), message="Note."
    )
    news = run.publication(0, 50, picture=picture, status=status)
    _, live = drawn(state_of(run, news), roi=1)
    text = live.words
    for fact in (
        "scan 1234", run.raw_uid[:8], "silica", "50 of 60 frames", "β 0.200", "2 counts/px/frame",
        "dose 80 counts/px", "1.25 s behind the detector", "10 skipped", "Note.", "ROI 2 (2 of 2)",
    ):  # fmt: skip
        assert fact in text
    _, live = drawn(state_of(run, news), roi=0)
    assert "0.25 counts/px/frame" in live.words
    assert "q = 0.01" in live.words


def test_the_end_of_a_run_is_told_and_why(synthetic):
    run = synthetic()
    end = RunEnd(
        raw_exit_status="abort", analysis_exit_status="success", reason="Ctrl-C.", status=Status()
    )
    _, live = drawn(state_of(run, run.publication(0, 30), end))
    assert "failed" in live.words
    assert "Ctrl-C." in live.words


def test_the_picture_shows_the_mean_with_the_chosen_roi_in_its_colour(synthetic):
    run = synthetic()
    labels = np.zeros((20, 30), int)
    labels[3:9, 4:20], labels[12:18, 4:20] = 1, 2
    mean = np.full((20, 30), 0.5)
    mean[0, 0], mean[1, 1] = np.nan, 0.0
    picture = Picture(mean=mean, labels=labels, binning=4, n_frames=17)
    figure, _ = drawn(state_of(run, run.publication(0, 30, picture=picture)), roi=1)
    axes = panel(figure, "Detector, mean of 17 frames")
    image, outline = axes.images
    assert image.get_extent() == [0, 120, 80, 0]
    shown = np.ma.filled(image.get_array(), np.nan)
    assert np.isnan(shown[0, 0])
    assert shown[1, 1] < 0.5, "no count is dark, not unknown"
    colour = 255 * np.array(mpl.colors.to_rgb(TRUSTED))
    orange = np.all(outline.get_array()[..., :3] == np.rint(colour), axis=-1)
    np.testing.assert_array_equal(orange, labels == 2)


def with_rates(run, rates, q):
    """A state whose recommended rows have one rate a ROI."""
    table = gamma_rows(run, [""] * 5, final=False)
    table = table.replace(relaxation_rate=np.repeat(rates, 5))
    state = PlotState(dataclasses.replace(run.info, q_inv_angstrom=q))
    state.add(run.publication(0, 30, gamma=table))
    return state


def test_gamma_against_q_squared_has_its_exponent(synthetic):
    run = synthetic(n_roi=3)
    q = (0.002, 0.003, 0.004)
    state = with_rates(run, 1e6 * np.array(q) ** 2, q)
    figure, _ = drawn(state, roi=2)
    axes = panel(figure, "Γ against q²")
    assert "Γ ∝ qⁿ,  n = 2.00 ± 0.00" in axes.texts[0].get_text()
    np.testing.assert_allclose(
        axes.lines[0].get_xydata(), [(one**2, 1e6 * one**2) for one in q], rtol=1e-6
    )


@pytest.mark.parametrize(
    ("q", "sentence"),
    [
        ((np.nan,) * 3, "q is not known"),
        ((0.1, 0.2, np.nan), "recommended Γ in 2 of 3 ROIs"),
        ((0.1, 0.2), "needs three ROIs"),
    ],
)
def test_a_power_law_that_cannot_be_is_explained(synthetic, q, sentence):
    run = synthetic(n_roi=len(q))
    figure, _ = drawn(with_rates(run, np.ones(len(q)), q))
    assert sentence in panel(figure, "Γ against q²").texts[0].get_text()


def test_g2_so_far_and_its_fit_are_drawn_while_the_run_is_on(synthetic):
    run = synthetic(n_frames=60)
    t = np.arange(60)
    decay = 1 + 0.3 * np.exp(-0.2 * abs(np.subtract.outer(t, t)))
    run.c2 = np.broadcast_to(decay, (2, 60, 60)).astype(np.float32)
    figure, _ = drawn(state_of(run, run.publication(0, 60, bands=())))
    axes = panel(figure, "g2 so far")
    raw, fit = axes.lines[0].get_xydata(), axes.lines[1].get_xydata()
    np.testing.assert_allclose(raw[:, 0], np.arange(1, 60) * 0.5)
    np.testing.assert_allclose(raw[:, 1], 1 + 0.3 * np.exp(-0.4 * raw[:, 0]), rtol=1e-5)
    np.testing.assert_allclose(fit[:, 1], 1 + 0.3 * np.exp(-0.4 * fit[:, 0]), rtol=1e-3)


def test_a_series_that_is_not_denoised_says_so(synthetic):
    run = synthetic(n_expected=200)
    figure, _ = drawn(state_of(run, run.publication(0, 30, bands=(), gamma=None)))
    assert panel(figure, "C2, denoised").texts[0].get_text() == "denoised from 50 frames on"
    figure, _ = drawn(state_of(run, run.result(denoised=False)))
    assert panel(figure, "C2, denoised").texts[0].get_text() == "not denoised"


def test_a_zoom_of_the_user_survives_the_next_update(synthetic):
    run = synthetic(n_frames=60)
    state = state_of(run, run.publication(0, 30))
    figure, live = drawn(state)
    axes = panel(figure, "C2, raw")
    axes.set_xlim(2, 5)
    state.add(run.publication(30, 60))
    live.update(state.snapshot(0))
    assert axes.get_xlim() == (2, 5)


def test_a_saved_picture_holds_everything_that_the_window_shows(synthetic, tmp_path):
    run = synthetic(n_frames=60)
    status = Status(n_processed=60, message="Something to know.")
    state = state_of(run, run.result(), run.publication(0, 60, status=status))
    save_figure(state, 0, tmp_path / "a.png")
    pixels = imread(tmp_path / "a.png")[..., :3].mean(axis=-1)
    inked = pixels < 0.9
    title, numbers, message = inked[20:45, :800], inked[60:85, :800], inked[870:895, :400]
    raw_c2 = inked[150:400, 600:850]
    for part in (title, numbers, message, raw_c2):
        assert part.mean() > 0.02


def test_noise_far_above_the_signal_does_not_hide_it():
    noise = np.random.default_rng(0).normal(1.0, 5.0, (200, 200))
    assert colour_range(noise, 0.2, 1.0) == pytest.approx((0.8, 1.4))
    low, high = colour_range(noise, np.nan, 1.0)
    assert low < -8
    assert high > 8
    assert colour_range(np.full((5, 5), np.nan), 0.2, 1.0) == (0.9, 1.5)


def test_the_choice_of_a_roi_stays_where_a_run_lacks_it():
    choice = RoiChoice()
    assert choice.index((1, 2, 3)) == 1
    choice.step((1, 2, 3), 1)
    assert choice.label == 3
    assert choice.index((1, 2)) == 1
    assert choice.index((1, 2, 3, 4)) == 2
    choice.step((1, 2, 3), 1)
    assert choice.label == 1, "the first follows the last"


def ended(analysis):
    return RunEnd(
        raw_exit_status="success", analysis_exit_status=analysis, reason="", status=Status()
    )


# --- LivePlot and its sinks -----------------------------------------------------------------


def png_size(file):
    data = file.read_bytes()
    assert data.startswith(b"\x89PNG")
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def test_a_run_is_written_into_a_picture_file_besides_the_other_sinks(tmp_path):
    sinks = []

    def memory(info):
        sinks.append(MemorySink(info))
        return sinks[-1]

    rois = RoiMap.from_labels(np.pad(np.ones((10, 40), int), ((2, 18), (0, 0))))
    file = tmp_path / "live.png"
    live = LiveDenoise(
        Settings(detector="cam", frame_time_s=0.01, publish_period_s=0.02),
        rois=rois,
        sinks=[memory],
        plot=str(file),
        ensemble=Fake(),
    )
    _, send, stop = composed_run(live)
    for frame in series(60):
        send(frame)
    stop()
    assert live.wait(60)
    assert png_size(file) == (1500, 900)
    assert [path.name for path in tmp_path.iterdir()] == ["live.png"]
    assert sinks[0].result.picture.n_frames >= 1
    assert live.n_faults == 0
    assert live.close(10)


@pytest.mark.parametrize("name", ["live.gif", "missing/live.png"])
def test_a_file_that_cannot_be_written_is_refused_at_once(tmp_path, name):
    with pytest.raises(InvalidInputError, match=r"\.png file in a folder that exists"):
        LiveDenoise(Settings(detector="cam"), plot=tmp_path / name)


def test_without_qt_there_is_no_window_but_a_line_that_says_what_to_do(synthetic, caplog):
    run = synthetic()
    with caplog.at_level(logging.WARNING):
        plot = LivePlot()
        sink = plot(run.info)
        sink.write(run.publication(0, 30))
        plot(run.info).write(run.result())
    assert plot.window is None
    (line,) = caplog.messages
    assert "%matplotlib qt" in line
    assert "live.png" in line


def test_a_plot_that_fails_is_given_up_and_raises_nothing(synthetic, caplog):
    run = synthetic()

    class Broken:
        def begin(self, state):
            pass

        def changed(self, state):
            raise OSError("no screen")

    sink = PlotSink(run.info, Broken())
    sink.write(run.publication(0, 30))
    sink.write(run.publication(30, 60))
    (line,) = caplog.messages
    assert "the rest goes on" in line


def test_a_file_that_vanishes_under_the_plot_is_told_and_raises_nothing(
    synthetic, tmp_path, caplog
):
    run = synthetic()
    folder = tmp_path / "screens"
    folder.mkdir()
    plot = LivePlot(folder / "live.png")
    folder.rmdir()
    sink = plot(run.info)
    sink.write(run.result())
    sink.finish(
        RunEnd(
            raw_exit_status="success", analysis_exit_status="success", reason="", status=Status()
        )
    )
    (line,) = caplog.messages
    assert "cannot be written" in line


def test_a_run_without_rois_draws_nothing(synthetic, tmp_path):
    run = synthetic()
    plot = LivePlot(tmp_path / "live.png")
    sink = plot(dataclasses.replace(run.info, roi=(), q_inv_angstrom=(), n_pixels=()))
    sink.finish(
        RunEnd(
            raw_exit_status="success", analysis_exit_status="fail", reason="No.", status=Status()
        )
    )
    plot.close()
    assert not list(tmp_path.iterdir())
