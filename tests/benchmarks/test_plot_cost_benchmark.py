"""The benchmark reports what it is for. What it measures is never asserted."""

from tests.benchmarks import plot_cost


def test_the_benchmark_reports_the_ratio_and_the_promise(capsys):
    times = {"streamed": [[4.0, 4.0, 4.2], [4.04, 4.0, 4.2], [8, 9, 9]]}
    assert plot_cost.report(times)
    printed = capsys.readouterr().out
    assert "4.000 s without, 4.040 s with the window (9 draws); ratio 1.0000" in printed
    assert "within 2%: yes" in printed


def test_a_window_that_costs_too_much_is_told(capsys):
    times = {"streamed": [[4.0], [4.2], [9]], "counted": [[1.0], [1.5], [3]]}
    assert not plot_cost.report(times)
    assert "within 2%: NO" in capsys.readouterr().out


def test_the_cost_of_updates_is_told_with_the_period_that_it_allows(capsys):
    plot_cost.report_updates([0.1, 0.3, 0.5])
    assert "an update: 300.0 ms (100.0 to 500.0, 3 updates), so one every 1.20 s" in (
        capsys.readouterr().out
    )
