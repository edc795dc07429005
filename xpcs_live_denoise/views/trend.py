"""Gamma of many runs against what was set: a temperature, a concentration, any number."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from xpcs_live_denoise.records.types import Array, FloatArray

GAS_CONSTANT = 8.314462618e-3  # kJ/(mol K)
ZERO_CELSIUS = 273.15  # K
LEAST_KELVIN = 150.0  # a series all above it is taken as K: samples are not measured at 150 degC
LEAST_POINTS, LEAST_TEMPERATURES = 3, 3
_LEAST_ERROR = 1e-6  # of ln Gamma
CURVE_POINTS = 50
# "T_sample", "temperature", "Temp (C)", "sample.T", "LakeShore temp"; not an attenuator's "T1".
_TEMPERATURE = re.compile(r"(^|[._\s])(t|temp|temperature|tsample|tset)($|[._\s(\[])|temperature")
_KELVIN = re.compile(r"(^|[._\s(\[])(k|kelvin)([)\]]|$)")
_CELSIUS = re.compile(r"(^|[._\s(\[])(c|degc|°c|celsius)([)\]]|$)")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrendView:
    """Typical Gamma against a key of the start documents.

    Attributes
    ----------
    x, rate, error
        Shape (n_points,): the value of the key, Gamma and its standard error.
    roi
        Shape (n_points,): label of the ROI.
    line_x, line_rate
        The Arrhenius line of each ROI, one behind the other with NaN between them; empty without.
    words
        What the line tells and what was taken for granted, or why there is none.
    """

    x: FloatArray
    rate: FloatArray
    error: FloatArray
    roi: Array
    line_x: FloatArray
    line_rate: FloatArray
    words: str


def is_temperature(key: str) -> bool:
    """Whether the name of a key is that of a temperature."""
    return _TEMPERATURE.search(key.lower()) is not None


def kelvin(key: str, values: FloatArray) -> tuple[FloatArray, str]:
    """Return temperatures in K, and in which unit they were taken to be: "K" or "°C".

    The name of the key tells, else the values.
    """
    name = key.lower()
    if _KELVIN.search(name):
        unit = "K"
    elif _CELSIUS.search(name):
        unit = "°C"
    else:
        known = values[np.isfinite(values)]
        unit = "K" if known.size and known.min() >= LEAST_KELVIN else "°C"
    return (values if unit == "K" else values + ZERO_CELSIUS), unit


def trend_view(
    key: str, values: ArrayLike, rate: ArrayLike, error: ArrayLike, roi: ArrayLike
) -> TrendView:
    """Return what is drawn of Gamma against a key; of a temperature with the Arrhenius line.

    ln Gamma = a(roi) - E / (R T) is fitted, one E for all ROIs, each point weighted by its own
    error; where points scatter more than their errors say, that of E is as much wider.
    """
    x, gamma, sigma = (np.asarray(one, np.float64) for one in (values, rate, error))
    labels = np.asarray(roi)
    good = np.isfinite(x) & np.isfinite(gamma) & (gamma > 0)
    x, gamma, sigma, labels = x[good], gamma[good], sigma[good], labels[good]
    line_x, line_rate, words = _arrhenius(key, x, gamma, sigma, labels)
    return TrendView(
        x=x, rate=gamma, error=sigma, roi=labels, line_x=line_x, line_rate=line_rate, words=words
    )


def _arrhenius(
    key: str, x: FloatArray, rate: FloatArray, error: FloatArray, roi: Array
) -> tuple[FloatArray, FloatArray, str]:
    """Return the lines through the points of each ROI, and what they tell."""
    nothing = np.empty(0)
    if not len(x):
        return nothing, nothing, f"no run with a rate has a number for {key}"
    if not is_temperature(key):
        return nothing, nothing, ""
    temperature, unit = kelvin(key, x)
    known = np.isfinite(error) & (temperature > 0)
    labels, at = np.unique(roi[known], return_inverse=True)
    if known.sum() < LEAST_POINTS or len(np.unique(x[known])) < LEAST_TEMPERATURES:
        return nothing, nothing, f"Arrhenius: needs {LEAST_TEMPERATURES} temperatures"
    inverse, log = 1 / temperature[known], np.log(rate[known])
    weight = 1 / np.maximum(error[known] / rate[known], _LEAST_ERROR) ** 2
    total = np.bincount(at, weight)
    middle = np.bincount(at, weight * inverse) / total
    level = np.bincount(at, weight * log) / total
    away = inverse - middle[at]
    square = float(weight @ away**2)
    freedom = len(log) - len(labels) - 1
    if square <= 0 or freedom < 0:
        return nothing, nothing, "Arrhenius: each ROI needs more temperatures"
    slope = float(weight @ (away * (log - level[at]))) / square
    chi_square = float(weight @ (log - level[at] - slope * away) ** 2)
    wider = max(1.0, chi_square / freedom) if freedom else 1.0
    energy, its_error = -GAS_CONSTANT * slope, GAS_CONSTANT * float(np.sqrt(wider / square))
    span = np.linspace(x[known].min(), x[known].max(), CURVE_POINTS)
    inverse_span = 1 / kelvin("K" if unit == "K" else "C", span)[0]
    line_x = np.tile(np.r_[span, np.nan], len(labels))
    curves = np.exp(level[:, np.newaxis] + slope * (inverse_span - middle[:, np.newaxis]))
    line_rate = np.column_stack([curves, np.full(len(labels), np.nan)]).ravel()
    words = f"E = {energy:.3g} ± {its_error:.1g} kJ/mol; {key} taken as {unit}"
    return line_x, line_rate, words
