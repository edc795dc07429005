"""Speckle on a ring whose intensity varies, with a part of the field that may stand still."""

import functools

import numpy as np

from xpcs_live_denoise.numerics.rois import RoiMap

SHAPE, CENTER, EDGES = (80, 80), (39.6, 39.2), [(24.0, 34.0)]
RING = RoiMap.rings(SHAPE, CENTER, EDGES)


def ring_profile(*, power=0.0, cos_2_phi=0.0, white=0.0, seed=0):
    """r^-power (1 + cos_2_phi cos 2 phi) times a white flat field, one value a pixel, mean 1."""
    row, col = np.divmod(RING.pixels, SHAPE[1])
    y, x = row - CENTER[0], col - CENTER[1]
    values = np.hypot(x, y) ** -power * (1 + cos_2_phi * np.cos(2 * np.arctan2(y, x)))
    noise = np.random.default_rng([seed, 3]).standard_normal(values.size)
    values *= np.clip(1 + white * noise, 0.2, None)
    return values / values.mean()


@functools.cache
def intensities(seed, *, n_frames=150, rate=0.1, n_mode=5, still=0.0, size=2.0):
    """Intensities of the ring's pixels, (n_frames, n_pixels), mean 1; read-only.

    `still` is the share of the field that stands still, `size` the FWHM of the speckle, pixels.
    """
    rng = np.random.default_rng([seed, 11])
    n = SHAPE[0] + 16
    distance = np.minimum(np.arange(n), n - np.arange(n))
    power = np.fft.fft(np.exp(-2 * np.log(2) * (distance / size) ** 2)).real.clip(0)
    amplitude = np.sqrt(np.multiply.outer(power, power) / power.mean() ** 2)

    def field(white):
        smooth = np.fft.ifft2(white * amplitude, norm="ortho")
        return smooth[: SHAPE[0], : SHAPE[1]].ravel()[RING.pixels]

    def white():
        return (rng.normal(size=(n, n)) + 1j * rng.normal(size=(n, n))) / np.sqrt(2)

    memory = np.exp(-rate)
    total = np.zeros((n_frames, len(RING.pixels)))
    for _ in range(n_mode):
        moving, standing = white(), field(white())
        for frame in range(n_frames):
            both = np.sqrt(1 - still) * field(moving) + np.sqrt(still) * standing
            total[frame] += np.abs(both) ** 2 / n_mode
            moving = memory * moving + np.sqrt(1 - memory**2) * white()
    total.flags.writeable = False
    return total


def frames_of(intensity, profile, counts, seed=0):
    """Return frames (n, rows, cols) of counts: `counts` a pixel of the ring in the mean."""
    drawn = np.random.default_rng([seed, 5]).poisson(counts * profile * intensity)
    frames = np.zeros((len(drawn), SHAPE[0] * SHAPE[1]), np.uint16)
    frames[:, RING.pixels] = drawn
    return frames.reshape(-1, *SHAPE)
