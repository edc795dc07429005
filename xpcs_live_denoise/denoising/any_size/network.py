"""The network that denoises a C2 of any size: it decides how wide to average, pixel by pixel."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

# Means along the age: each of these many values of the one before it, the first of C2 itself.
AGES = (3, 7, 21, 63, 189)
# And over lags, too: which of the means along the age, from 1, and over how many lags.
LAGS = ((1, 3), (2, 5), (3, 11), (4, 31), (5, 31))
N_MEANS = 1 + len(AGES) + len(LAGS)  # C2 itself is the first
N_FEATURES = len(AGES) + len(LAGS) + 3
CHANNELS = (8, 16)  # of the encoder, and read backwards of the decoder
AVERAGED = sum(width // 2 for width in AGES)  # frames to either side that the widest mean takes
_NOISE_LAGS = 31  # over which the noise of an entry is averaged


class AnySizeNetwork(nn.Module):
    """Decide how wide to average C2 around each of its pixels.

    Encoder: 3x3 convolutions, each followed by batch normalisation and an ELU; decoder: 3x3
    transposed convolutions, the mirror, with nothing after the last: the encoder-decoder of FC-DAE.
    There it gives C2 itself; here it gives the weights of `N_MEANS` means of the measured C2, so
    that what is shown is a mean of what was measured around it, and nothing else can come out.

    Parameters
    ----------
    channels
        Of the encoder.

    References
    ----------
    Nellikunnumel et al., arXiv 2605.29975 (FC-DAE).
    """

    def __init__(self, channels: Sequence[int] = CHANNELS) -> None:
        super().__init__()
        self.channels = tuple(channels)
        layers: list[nn.Module] = []
        up = (N_FEATURES, *channels)
        down = (*channels[::-1], N_MEANS)
        for kind, sizes in ((nn.Conv2d, up), (nn.ConvTranspose2d, down)):
            for before, after in itertools.pairwise(sizes):
                layers += [kind(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ELU()]
        self.layers = nn.Sequential(*layers[:-2])
        for parameter in self.layers.parameters():  # channels last: twice as fast on a CPU
            if parameter.dim() == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)

    def forward(self, c2: Tensor) -> Tensor:
        """Return the denoised C2(t, t + lag), (n, lag, t), of measured ones, which may be NaN.

        Lag 0, the photon noise of single frames, is not used; it gets a value from lags 1 on.
        """
        here = torch.isfinite(c2)
        c2, used = torch.nan_to_num(c2), here.to(c2.dtype)
        means, features = means_and_features(c2, used, scale_of(c2, used))
        return self.mixed(means, features).masked_fill(~here, torch.nan)

    def mixed(self, means: Tensor, features: Tensor) -> Tensor:
        """Return the means, (n, N_MEANS, lag, t), mixed as the network decides."""
        features = features.contiguous(memory_format=torch.channels_last)
        weights = torch.softmax(self.layers(features).masked_fill(means.isnan(), -1e9), dim=1)
        return (weights * means.nan_to_num()).sum(dim=1)


class Scale(NamedTuple):
    """What the network is told of a whole C2, each of (n, 1 or lag, 1)."""

    level: Tensor  # its mean
    noise: Tensor  # of an entry, by lag
    signal: Tensor  # root mean square of what is left of it in wide means


def scale_of(c2: Tensor, here: Tensor) -> Scale:
    """Return level, noise and signal of C2(t, t + lag), (n, lag, t), lag 0 left out."""
    here = without_lag_0(here)
    level = _mean(c2, here)
    total, number = (c2 - level) * here, here
    noise = entry_noise(total, number)
    for age in AGES[:3]:
        total, number = box(total, age, 2), box(number, age, 2)
    return Scale(level, noise, _mean(_ratio(total, number).nan_to_num() ** 2, here).sqrt())


def means_and_features(
    c2: Tensor, here: Tensor, scale: Scale, first_lag: int = 0
) -> tuple[Tensor, Tensor]:
    """Return the means of C2 and what the network sees of them.

    Parameters
    ----------
    c2
        C2(t, t + lag), (n, lag, t), from `first_lag` on.
    here
        Which of them were measured, the same shape, 1 or 0; the others are finite.
    scale
        That of the whole C2, its noise at these lags.

    Returns
    -------
    means
        (n, N_MEANS, lag, t); NaN where there is nothing to average.
    features
        (n, N_FEATURES, lag, t): how much each mean differs from the next wider one, in units of its
        noise (as asinh); the logarithms of the lag and of signal to noise; `here`.
    """
    number = here if first_lag else without_lag_0(here)
    total = (c2 - scale.level) * number
    along, both = [_ratio(total, number)], []
    for index, age in enumerate(AGES, start=1):
        total, number = box(total, age, 2), box(number, age, 2)
        along.append(_ratio(total, number))
        for lag in (lag for of, lag in LAGS if of == index):
            both.append(_ratio(box(total, lag, 1), box(number, lag, 1)))
    if not first_lag and c2.shape[1] > 1:
        for values in along:
            values[:, 0] = values[:, 1]
    relative = [1 / (scale.noise * part) for part in _noise_of_means()]
    apart = [(a - b) * w for a, b, w in zip(along[:-1], along[1:], relative, strict=False)]
    apart += [(along[of] - b) * relative[of] for (of, _), b in zip(LAGS, both, strict=True)]
    lags = torch.log(torch.arange(c2.shape[1], device=c2.device, dtype=c2.dtype) + first_lag + 1)
    strength = torch.log((scale.signal / scale.noise).clamp(1e-3, 1e3))
    others = (lags[:, None].expand_as(c2), strength.expand_as(c2), here)
    features = torch.stack([*(torch.asinh(one.nan_to_num_()) for one in apart), *others], dim=1)
    means = torch.stack([*along, *both], dim=1) + scale.level[:, None]
    return means, features * here[:, None]


def without_lag_0(here: Tensor) -> Tensor:
    """Return a copy of which entries, (n, lag, t), are there, with none at lag 0."""
    here = here.clone()
    here[:, 0] = 0
    return here


def _mean(values: Tensor, used: Tensor) -> Tensor:
    number = used.sum(dim=(1, 2), keepdim=True).clamp_min(1)
    return (values * used).sum(dim=(1, 2), keepdim=True) / number


def entry_noise(total: Tensor, here: Tensor) -> Tensor:
    """Return the noise of an entry by lag, (n, lag, 1), from neighbours along the age."""
    pairs = here[:, :, 1:] * here[:, :, :-1]
    squares = ((total[:, :, 1:] - total[:, :, :-1]) ** 2 * pairs).sum(dim=2, keepdim=True) / 2
    number = pairs.sum(dim=2, keepdim=True)
    local = box(squares, _NOISE_LAGS, 1) / box(number, _NOISE_LAGS, 1).clamp_min(1)
    whole = squares.sum(dim=1, keepdim=True) / number.sum(dim=1, keepdim=True).clamp_min(1)
    return torch.where(local > 0, local, whole).sqrt().clamp_min(1e-9)


def box(values: Tensor, width: int, axis: int) -> Tensor:
    """Return running sums over an odd number of values along an axis; beyond the ends is 0."""
    half = width // 2
    size = values.shape[axis]
    sums = values.cumsum(dim=axis)
    index = torch.arange(size, device=values.device)
    upper = sums.index_select(axis, (index + half).clamp_max(size - 1))
    first = index - half - 1
    inside = (first >= 0).to(values.dtype)
    lower = sums.index_select(axis, first.clamp_min(0))
    return upper - lower * inside.reshape([-1 if k == axis else 1 for k in range(values.dim())])


def _ratio(total: Tensor, number: Tensor) -> Tensor:
    return torch.where(number > 0.5, total / number, torch.nan)


@functools.cache
def _noise_of_means() -> tuple[float, ...]:
    """Return the noise of C2 and of its means along the age, in units of that of an entry."""
    kernel = torch.zeros(2 * sum(AGES) + 1, dtype=torch.float64)
    kernel[len(kernel) // 2] = 1
    found = [1.0]
    for width in AGES:
        kernel = box(kernel[None, None], width, 2)[0, 0] / width
        found.append(math.sqrt(float((kernel**2).sum())))
    return tuple(found)


def by_lag(maps: Tensor) -> Tensor:
    """Return C2(t, t + lag), (n, lag, t), of symmetric maps (n, m, m); NaN beyond the series."""
    size = maps.shape[-1]
    index = torch.arange(size, device=maps.device)
    other = index[:, None] + index  # (lag, t)
    inside = other < size
    values = maps[:, index.expand(size, size), other.clamp_max(size - 1)]
    return torch.where(inside, values, torch.nan)
