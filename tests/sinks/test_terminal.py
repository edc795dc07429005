"""The live line in the terminal."""

import io

import numpy as np
from rich.console import Console

from xpcs_live_denoise.records.run import RunEnd, Status
from xpcs_live_denoise.sinks.terminal import TerminalSink


def sink_and_text(info, *, terminal):
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, width=200)
    return TerminalSink(info, console=console), stream


def end(reason="", message=""):
    return RunEnd(
        raw_exit_status="success",
        analysis_exit_status="success",
        reason=reason,
        status=Status(message=message),
    )


def test_the_line_tells_frames_lag_and_the_newest_rate_of_every_roi(synthetic):
    run = synthetic()
    sink, stream = sink_and_text(run.info, terminal=True)
    status = Status(n_seen=60, n_processed=50, n_skipped=2, lag_s=0.25)
    gamma = run.gamma(range(3), rate=1.0)
    gamma = gamma.replace(relaxation_rate=np.where(gamma.age_frame == 2, 4.5, 1.0))
    sink.write(run.publication(0, 50, status=status, gamma=gamma))
    sink.finish(end())
    text = stream.getvalue()
    assert "seen 60/60  processed 50  skipped 2  lag 0.25 s" in text
    assert "ROI 1 4.5 +- 0.5  ROI 2 4.5 +- 0.5" in text


def test_denoised_rates_are_preferred_and_failed_fits_never_shown(synthetic):
    run = synthetic()
    sink, stream = sink_and_text(run.info, terminal=True)
    raw = run.gamma(range(3), source="raw", rate=1.0)
    sink.write(run.publication(0, 20, gamma=raw))
    denoised = run.gamma(range(3), source="denoised", rate=2.0)
    denoised = denoised.replace(recommended=False, relaxation_rate_error=np.nan)
    failed = run.gamma(range(4, 5), rate=99.0).replace(converged=False)
    sink.write(run.publication(20, 40, gamma=type(raw).concatenate([denoised, failed])))
    sink.finish(end())
    assert "ROI 1 2  ROI 2 2" in stream.getvalue()
    assert "99" not in stream.getvalue()


def test_a_recommended_rate_is_shown_with_its_error_before_all_others(synthetic):
    run = synthetic()
    sink, stream = sink_and_text(run.info, terminal=True)
    bayes = run.gamma(range(3), source="bayes", rate=3.0)
    newer = run.gamma(range(3, 6), source="denoised", rate=2.0).replace(recommended=False)
    sink.write(run.publication(0, 20, gamma=type(bayes).concatenate([bayes, newer])))
    sink.finish(end())
    assert "ROI 1 3 +- 0.5  ROI 2 3 +- 0.5" in stream.getvalue()


def test_where_lines_cannot_be_overwritten_one_comes_every_fifty_frames(synthetic):
    run = synthetic(n_frames=120, n_expected=None)
    sink, stream = sink_and_text(run.info, terminal=False)
    for start in range(0, 120, 10):
        sink.write(run.publication(start, start + 10))
    sink.write(run.result())
    sink.finish(end())
    assert stream.getvalue().count("frames seen") == 2
    assert "frames seen 50  processed 50" in stream.getvalue()


def test_how_a_run_ended_is_said_where_there_is_something_to_say(synthetic):
    sink, stream = sink_and_text(synthetic().info, terminal=False)
    sink.finish(end(reason="The beam is gone.", message="2 frames were skipped."))
    assert "The beam is gone." in stream.getvalue()
    assert "2 frames were skipped." in stream.getvalue()


def test_the_time_left_is_told_at_the_pace_so_far(synthetic, monkeypatch):
    clock = iter([100.0, 104.0, 110.0])
    monkeypatch.setattr("xpcs_live_denoise.sinks.terminal.time.monotonic", lambda: next(clock))
    run = synthetic()
    sink, stream = sink_and_text(run.info, terminal=True)
    for n in (10, 30, 60):
        sink.write(run.publication(0, n, status=Status(n_seen=n, n_processed=n)))
    first, second, last = (line for line in stream.getvalue().split("seen ")[1:])
    assert "left" not in first
    assert "about 6 s left" in second  # 30 more frames at 5 a second
    assert "left" not in last
