"""Every benchmark that can be small still runs. What it measures is never asserted."""

import re


def test_a_benchmark_reports_what_it_is_for(capsys):
    from tests.benchmarks import inference

    inference.main(["--windows", "1", "--repeats", "1", "--members", "1"])
    found = re.findall(r"1 windows:.* times a loop over modules", capsys.readouterr().out)
    assert len(found) == 1


def test_a_window_that_costs_too_much_fails_its_benchmark(capsys):
    from tests.benchmarks import plot_cost

    assert plot_cost.report({"streamed": [[4.0, 4.0, 4.2], [4.04, 4.0, 4.2], [8, 9, 9]]})
    assert "ratio 1.0000" in capsys.readouterr().out
    assert not plot_cost.report({"streamed": [[4.0], [4.2], [9]]})
    assert "within 2%: NO" in capsys.readouterr().out
