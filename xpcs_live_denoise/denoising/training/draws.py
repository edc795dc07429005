"""Random numbers of what is simulated for a training."""

from __future__ import annotations

import math

import torch


def uniform(low: float, high: float, generator: torch.Generator) -> float:
    """Return a number between two others."""
    draw = torch.rand((), generator=generator, device=generator.device)
    return low + (high - low) * float(draw)


def log_uniform(low: float, high: float, generator: torch.Generator) -> float:
    """Return a number between two others, drawn evenly in the logarithm."""
    return math.exp(uniform(math.log(low), math.log(high), generator))
