"""LivePlot without a screen: picture files, faults, and the choice of the ROI."""

import dataclasses
import logging

import matplotlib as mpl
import numpy as np
import pytest

from tests.support.live_runs import Fake, composed_run, series
from xpcs_live_denoise import LiveDenoise, LivePlot, RoiMap, Settings
from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.records.run import RunEnd, Status
from xpcs_live_denoise.sinks.memory import MemorySink
from xpcs_live_denoise.window.run_view import ShownRun


@pytest.fixture(autouse=True)
def agg():
    mpl.use("Agg")


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
        def begin(self, run):
            pass

        def changed(self, run):
            raise OSError("no screen")

    sink = ShownRun(run.info, Broken())
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


def test_a_run_that_failed_before_its_rois_were_known_is_shown_with_its_reason(synthetic, tmp_path):
    run = synthetic()
    plot = LivePlot(tmp_path / "live.png")
    sink = plot(dataclasses.replace(run.info, roi=(), q_inv_angstrom=(), n_pixels=()))
    sink.finish(
        RunEnd(
            raw_exit_status="success", analysis_exit_status="fail", reason="No.", status=Status()
        )
    )
    plot.close()
    assert png_size(tmp_path / "live.png") == (1500, 900)
    view = sink.view(0)
    assert view.title.endswith("failed")
    assert (view.message, view.roi, view.detector) == ("No.", "", None)
