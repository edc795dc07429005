"""Simulated detector images of several classes: expected counts, and which pixels are measured."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from .draws import log_uniform, uniform

CLASSES = ("peaks", "texture", "rings", "arcs", "mixture")
Beam: TypeAlias = tuple[float, float]  # row, column
COUNTS = (0.02, 10.0)  # mean counts of a pixel, drawn evenly in the logarithm


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """Images of n exposures."""

    rate: Tensor  # (n, rows, cols): expected counts
    valid: Tensor  # (n, rows, cols): 1 where a pixel is measured, 0 in gaps and dead pixels
    center: Tensor  # (n, 2): row and column of the direct beam


def simulate_images(
    n: int,
    size: int,
    *,
    generator: torch.Generator,
    classes: tuple[str, ...] = CLASSES,
    counts: tuple[float, float] = COUNTS,
) -> Images:
    """Simulate expected counts of images, size x size pixels, of all classes in turn.

    `counts`: the lowest and the highest mean of a pixel, drawn evenly in the logarithm.
    """
    device = generator.device
    rate = torch.empty((n, size, size), device=device)
    center = torch.empty((n, 2), device=device)
    for index in range(n):
        beam = uniform(-0.5, 1.5, generator) * size, uniform(-0.5, 1.5, generator) * size
        center[index] = torch.tensor(beam, device=device)
        image = _image(classes[index % len(classes)], size, beam, generator)
        rate[index] = image / image.mean() * log_uniform(*counts, generator)
    valid = torch.ones_like(rate)
    for index in range(n):
        if uniform(0, 1, generator) < 0.3:  # gaps between modules
            for _ in range(1 + int(uniform(0, 2, generator))):
                at, width = int(uniform(0, size, generator)), int(log_uniform(1, 16, generator))
                if uniform(0, 1, generator) < 0.5:
                    valid[index, at : at + width] = 0
                else:
                    valid[index, :, at : at + width] = 0
        if uniform(0, 1, generator) < 0.3:
            draw = torch.rand((size, size), generator=generator, device=device)
            valid[index] *= draw > 0.002
    return Images(rate=rate, valid=valid, center=center)


def photons(images: Images, generator: torch.Generator) -> Tensor:
    """Return Poisson counts of images, (n, rows, cols), 0 where nothing is measured."""
    return torch.poisson(images.rate, generator=generator) * images.valid


def _image(kind: str, size: int, beam: Beam, generator: torch.Generator) -> Tensor:
    """Return one image, (size, size), in any unit."""
    smooth = _rings(size, beam, generator, n_rings=0)
    if kind == "rings":
        return _rings(size, beam, generator, n_rings=1 + int(uniform(0, 5, generator)))
    if kind == "arcs":
        return smooth * _arcs(size, beam, generator)
    if kind == "texture":
        return smooth * _texture(size, generator)
    if kind == "peaks":
        return smooth / smooth.mean() + _peaks(size, generator)
    parts = _rings(size, beam, generator, n_rings=2) * _texture(size, generator)
    return parts / parts.mean() + _peaks(size, generator) * uniform(0, 1, generator)


def _grid(size: int, beam: Beam, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return rows and columns from the beam, each (size, size)."""
    at = torch.arange(size, device=device, dtype=torch.float32)
    return (at[:, None] - beam[0]).expand(size, size), (at[None] - beam[1]).expand(size, size)


def _rings(size: int, beam: Beam, generator: torch.Generator, *, n_rings: int) -> Tensor:
    """Return scattering that falls from the beam on as a power of q, with rings in it."""
    rows, cols = _grid(size, beam, generator.device)
    radius = torch.sqrt(rows**2 + cols**2) + 1
    knee = log_uniform(2, 2 * size, generator)
    image = (1 + (radius / knee) ** 2) ** (-uniform(0.0, 2.0, generator))
    image = image + log_uniform(1e-3, 1.0, generator)
    low, high = float(radius.min()), float(radius.max())
    for _ in range(n_rings):
        at, width = uniform(low, high, generator), log_uniform(1.0, size / 5, generator)
        height = log_uniform(0.1, 10.0, generator)
        image = image + height * float(image.mean()) * torch.exp(-(((radius - at) / width) ** 2))
    return image


def _arcs(size: int, beam: Beam, generator: torch.Generator) -> Tensor:
    """Return a factor that depends on the azimuth, as of aligned samples."""
    rows, cols = _grid(size, beam, generator.device)
    phi = torch.atan2(rows, cols) - uniform(0, math.pi, generator)
    sharp = log_uniform(0.5, 60.0, generator)
    return 0.05 + torch.exp(sharp * (torch.cos(2 * phi) - 1))


def _texture(size: int, generator: torch.Generator) -> Tensor:
    """Return a lognormal field, or speckle that was averaged, with grains of some pixels."""
    grain = log_uniform(0.8, 6.0, generator)
    frequency = torch.fft.fftfreq(size, device=generator.device)
    power = torch.exp(-0.5 * (2 * math.pi * grain / 2.35 * frequency) ** 2)
    shape = (size, size)

    def field() -> Tensor:
        white = torch.randn(shape, generator=generator, device=generator.device)
        made = torch.fft.ifft2(torch.fft.fft2(white) * power[:, None] * power).real
        return made / made.std()

    if uniform(0, 1, generator) < 0.5:
        return torch.exp(log_uniform(0.1, 1.2, generator) * field())
    modes = 1 + int(log_uniform(1, 30, generator))
    return sum((field() ** 2 for _ in range(2 * modes)), torch.zeros(shape, device=power.device))


def _peaks(size: int, generator: torch.Generator) -> Tensor:
    """Return peaks of any shape and height on nothing."""
    device = generator.device
    at = torch.arange(size, device=device, dtype=torch.float32)
    image = torch.zeros((size, size), device=device)
    shared = log_uniform(0.7, 4.0, generator)
    for _ in range(int(log_uniform(1, 40, generator))):
        row, col = uniform(0, size, generator), uniform(0, size, generator)
        alike = uniform(0, 1, generator) < 0.7
        width = shared if alike else log_uniform(0.7, 8.0, generator)
        long = width * log_uniform(1.0, 3.0, generator)
        turn = uniform(0, math.pi, generator)
        rows, cols = at[:, None] - row, at[None] - col
        u = (rows * math.cos(turn) + cols * math.sin(turn)) / width
        v = (cols * math.cos(turn) - rows * math.sin(turn)) / long
        distance = u**2 + v**2
        lorentz = uniform(0, 1, generator) < 0.3
        shape = 1 / (1 + distance) ** 1.5 if lorentz else torch.exp(-distance / 2)
        image = image + log_uniform(0.3, 100.0, generator) * shape
    return image
