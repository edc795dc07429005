"""The benchmark itself runs and reports what it is for. What it measures is never asserted."""

import pytest

from tests.benchmarks import inference


def test_the_benchmark_reports_times_and_ratios(capsys):
    inference.main(["--windows", "1", "3", "--repeats", "1", "--members", "2"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["1 windows", "3 windows"]
    assert all("times a loop over modules" in line for line in lines)


def test_both_give_the_same_and_the_ratio_belongs_to_the_times():
    got = inference.run(n_windows=2, repeats=1, n_members=2)
    assert got["difference"] < 1e-5
    assert got["ratio"] == pytest.approx(got["loop"] / got["ours"])
