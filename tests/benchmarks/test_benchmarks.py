"""Every benchmark that can be small still runs. What it measures is never asserted."""

import importlib
import logging
import re

import pytest


@pytest.fixture(autouse=True)
def _logging_on_again():
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize(
    ("name", "arguments", "line", "count"),
    [
        (
            "fits",
            "--curves 4 --lags 20 --reference 1",
            r"20 lags, beta \w+:.* times a curve_fit loop",
            2,
        ),
        (
            "inference",
            "--windows 1 --repeats 1 --members 1",
            r"1 windows:.* times a loop over modules",
            1,
        ),
        ("runengine_thread", "--events 3", r"median [\d.]+ ms", 3),
        (
            "two_time",
            "--frames 12 --size 64 --rings 2 --block 5 --full --floor 0",
            r"[\d.]+ times scikit-beam",
            2,
        ),
    ],
)
def test_a_benchmark_reports_what_it_is_for(capsys, name, arguments, line, count):
    importlib.import_module(f"tests.benchmarks.{name}").main(arguments.split())
    assert len(re.findall(line, capsys.readouterr().out)) == count


def test_a_benchmark_fails_below_its_floor(capsys):
    from tests.benchmarks import two_time

    tiny = ["--frames", "6", "--size", "64", "--rings", "1", "--block", "5", "--floor", "1e9"]
    assert two_time.main(tiny) == 1
    assert "NOT reached" in capsys.readouterr().out


def test_a_window_that_costs_too_much_fails_its_benchmark(capsys):
    from tests.benchmarks import plot_cost

    assert plot_cost.report({"streamed": [[4.0, 4.0, 4.2], [4.04, 4.0, 4.2], [8, 9, 9]]})
    assert "ratio 1.0000" in capsys.readouterr().out
    assert not plot_cost.report({"streamed": [[4.0], [4.2], [9]]})
    assert "within 2%: NO" in capsys.readouterr().out
