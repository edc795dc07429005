"""The benchmark itself runs and reports what it is for. What it measures is never asserted."""

from tests.benchmarks import fits


def test_the_benchmark_reports_fits_per_second_and_ratios(capsys):
    fits.main(["--curves", "6", "--lags", "20", "30", "--reference", "2"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "20 lags, beta fixed",
        "20 lags, beta free",
        "30 lags, beta fixed",
        "30 lags, beta free",
    ]
    assert all("times a curve_fit loop" in line for line in lines)


def test_the_rates_and_the_ratio_belong_together():
    rates = fits.run(n_curves=4, n_lag=20, noise=0.03, n_reference=2)
    for name in ("beta fixed", "beta free"):
        assert rates[f"ratio, {name}"] == rates[f"ours, {name}"] / rates[f"scipy, {name}"]
