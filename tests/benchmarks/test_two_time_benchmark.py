"""The benchmark itself runs and reports what it is for. What it measures is never asserted."""

import re

from tests.benchmarks import two_time


def test_the_benchmark_reports_frames_per_second_and_ratios(capsys):
    tiny = ["--frames", "12", "--size", "64", "--rings", "2", "--block", "5", "--full"]
    assert two_time.main([*tiny, "--floor", "0"]) == 0
    printed = capsys.readouterr().out
    assert "12 frames of 64 x 64, 2 rings" in printed
    ratios = re.findall(r"([\d.]+) times scikit-beam", printed)
    assert len(ratios) == 2
    assert all(float(ratio) > 0 for ratio in ratios)
    assert two_time.main([*tiny, "--floor", "1e9"]) == 1
    assert "NOT reached" in capsys.readouterr().out


def test_the_rates_and_the_ratio_belong_together():
    rate = two_time.run(n_frames=12, size=64, n_rings=2, block=5, n_skbeam=6)
    for dtype in ("float32", "float64"):
        assert rate[f"ratio {dtype}"] == rate[f"dense {dtype}"] / rate["skbeam"]
