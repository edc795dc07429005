"""Simulated C2 of many kinds of dynamics, with the noise of pixels and photons, and their truth."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .draws import log_uniform, uniform

KINDS = ("constant", "ageing", "steps", "oscillation", "bursts")
# Ranges of what is simulated, each drawn evenly in its logarithm.
RATE = (1e-3, 0.5)  # Gamma per frame
EXPONENT = (0.5, 2.0)  # alpha
CONTRAST = (0.04, 1.0)  # beta
PIXELS = (100, 20_000)
COUNTS = (0.02, 20.0)  # a pixel and frame
MOST_FIELDS = 60_000  # complex fields of one series: pixels times modes
LEAST_PHOTONS = 100  # of all pixels together in a frame
_JITTER = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedMaps:
    """C2 of n series of m frames, with their truth."""

    c2: Tensor  # (n, m, m)
    truth: Tensor  # (n, m, m)
    contrast: Tensor  # (n,): beta of the truth
    rate: Tensor  # (n, m): Gamma per frame


def simulate_maps(
    n: int, n_frames: int, *, generator: torch.Generator, kinds: tuple[str, ...] = KINDS
) -> SimulatedMaps:
    """Simulate C2 as a detector would measure it, one series after the other.

    The fields of independent modes are Gaussian processes with the prescribed correlation
    g1(t1, t2) = f + (1 - f) exp(-|x|^alpha), x the integral of Gamma between the frames and f a
    static share; counts are Poisson; pixels differ in brightness and frames in intensity. The truth
    is C2 = c (1 + beta g1^2), c the brightness's mean square over its squared mean.
    """
    device = generator.device
    c2 = torch.empty((n, n_frames, n_frames), device=device)
    truth, rates = torch.empty_like(c2), torch.empty((n, n_frames), device=device)
    contrast = torch.empty(n, device=device)
    for index in range(n):
        kind = kinds[index % len(kinds)]
        rates[index] = rate_curve(kind, n_frames, generator)
        c2[index], truth[index], contrast[index] = _one(rates[index], generator)
    return SimulatedMaps(c2=c2, truth=truth, contrast=contrast, rate=rates)


def rate_curve(kind: str, n_frames: int, generator: torch.Generator) -> Tensor:
    """Return Gamma per frame, (n_frames,), of one kind of dynamics."""
    device = generator.device
    time = torch.linspace(0, 1, n_frames, device=device)
    ln_rate = torch.full_like(time, math.log(log_uniform(*RATE, generator)))
    if kind == "ageing":
        total = uniform(-3.0, 3.0, generator)  # change of ln Gamma over the series
        sharp = log_uniform(0.3, 30.0, generator)
        course = torch.log1p(sharp * time) / math.log1p(sharp)
        ln_rate = ln_rate + total * (course if uniform(0, 1, generator) < 0.5 else time)
    elif kind == "steps":
        for _ in range(1 + int(uniform(0, 3, generator))):
            at = uniform(0.1, 0.9, generator)
            ln_rate = ln_rate + uniform(-2.3, 2.3, generator) * (time > at)
    elif kind == "oscillation":
        period = log_uniform(20 / n_frames, 1.0, generator)
        phase = uniform(0, 2 * math.pi, generator)
        depth = uniform(0.2, 1.2, generator)
        ln_rate = ln_rate + depth * torch.sin(2 * math.pi * time / period + phase)
    elif kind == "bursts":
        for _ in range(1 + int(uniform(0, 4, generator))):
            at = int(uniform(0, n_frames, generator))
            length = int(log_uniform(1.0, 30.0, generator))
            ln_rate[at : at + length] += uniform(0.7, 3.5, generator)
    return ln_rate.exp().clamp(1e-4, 3.0)


def _one(rate: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, float]:
    """Return C2 and its truth, (m, m), and beta, of one series."""
    device, m = generator.device, len(rate)
    alpha = log_uniform(*EXPONENT, generator)
    static = 0.0 if uniform(0, 1, generator) < 0.6 else uniform(0.05, 0.9, generator)
    modes = max(1, round(1 / log_uniform(*CONTRAST, generator)))
    pixels = int(min(log_uniform(*PIXELS, generator), MOST_FIELDS / modes))
    counts = max(log_uniform(*COUNTS, generator), LEAST_PHOTONS / pixels)

    double = rate.double()
    clock = torch.cumsum((double + torch.roll(double, 1)) / 2, 0)
    moving = torch.exp(-((clock[:, None] - clock).abs() ** alpha))
    root = torch.linalg.cholesky(moving + _JITTER * torch.eye(m, device=device)).float()
    intensity = torch.zeros((m, pixels), device=device)
    at_once = max(1, MOST_FIELDS // (2 * pixels))
    for first in range(0, modes, at_once):
        some = min(at_once, modes - first)
        for _ in ("real", "imaginary"):
            shape = (m, some * pixels)
            field = root @ torch.randn(shape, generator=generator, device=device)
            if static:
                fixed = torch.randn(shape[1:], generator=generator, device=device)
                field = math.sqrt(1 - static) * field + math.sqrt(static) * fixed
            intensity += (field**2).view(m, some, pixels).sum(dim=1) / (2 * modes)
    uneven = uniform(0.0, 0.25, generator) if uniform(0, 1, generator) < 0.5 else 0.0
    brightness = torch.exp(uneven * torch.randn(pixels, generator=generator, device=device))
    beam = torch.exp(0.05 * torch.randn((m, 1), generator=generator, device=device))
    photons = torch.poisson(counts * intensity * brightness * beam, generator=generator)
    mean = photons.mean(dim=1, keepdim=True).clamp_min(1 / pixels)
    normal = photons / mean
    c2 = normal @ normal.T / pixels
    g1 = static + (1 - static) * moving.float()
    level = float((brightness**2).mean() / brightness.mean() ** 2)
    return c2, level * (1 + g1**2 / modes), level / modes
