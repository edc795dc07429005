"""The live estimator: sums by age and lag, posteriors on a grid, Gamma(t) with honest errors."""
