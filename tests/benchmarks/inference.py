"""Time of the ensemble's inference, and its ratio to a loop over unfused modules in the same run.

    python -m tests.benchmarks.inference [--windows 1 10 20 100] [--repeats 15] [--members 10]

The loop calls each member as the paper's network, a `CnnEncoderDecoder` for whole 50x50 windows,
and takes the mean; one thread for both. Weights are random, of the shipped ensemble's form.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from tests.support.networks import mirrored
from xpcs_live_denoise.denoising.ensemble import Ensemble, load_ensemble, save_ensemble
from xpcs_live_denoise.denoising.model import CnnEncoderDecoder, TiedEncoderDecoder

CARD = {"name": "benchmark", "trained_on": {}, "metrics": {}}


def members(count: int) -> list[CnnEncoderDecoder]:
    """Return networks for triangles with random weights, shared along diagonals."""
    generator = torch.Generator().manual_seed(0)
    networks = [TiedEncoderDecoder(generator=generator) for _ in range(count)]
    with torch.no_grad():  # Xavier weights alone give outputs near 0, in which nothing differs
        for parameter in (p for network in networks for p in network.parameters()):
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return [network.untied() for network in networks]


def loop(modules: Sequence[CnnEncoderDecoder], windows: np.ndarray[Any, Any]) -> Any:
    """Return the mean of the modules' outputs, one module after another."""
    pixels = torch.from_numpy(windows)
    with torch.inference_mode():
        return torch.stack([module(pixels) for module in modules]).mean(dim=0).numpy()


def seconds(call: Callable[[], Any], repeats: int) -> float:
    """Return the least time of a call, after one that warms up: the rest is other processes."""
    call()
    times: list[float] = []
    for _ in range(repeats):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return min(times)


def run(n_windows: int, repeats: int, n_members: int) -> dict[str, float]:
    """Return both times in s, their ratio and the largest difference of the outputs."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    networks = members(n_members)
    with tempfile.TemporaryDirectory() as folder:
        ensemble: Ensemble = load_ensemble(save_ensemble(networks, CARD, folder))
    modules = [mirrored(network) for network in networks]
    noise = np.random.default_rng(0).normal(1.5, 0.5, (n_windows, 50, 50))
    windows = ((noise + noise.transpose(0, 2, 1)) / 2).astype(np.float32)
    try:
        ours = seconds(lambda: ensemble.denoise(windows), repeats)
        theirs = seconds(lambda: loop(modules, windows), repeats)
        difference = np.abs(ensemble.denoise(windows)[0] - loop(modules, windows)).max()
    finally:
        torch.set_num_threads(threads)
    return {
        "ours": ours,
        "loop": theirs,
        "ratio": theirs / ours,
        "difference": float(difference),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--windows", type=int, nargs="+", default=[1, 10, 20, 100])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--members", type=int, default=10)
    options = parser.parse_args(arguments)
    for count in options.windows:
        got = run(count, options.repeats, options.members)
        print(
            f"{count} windows: {got['ours'] * 1e3:.2f} ms, {got['ratio']:.1f} times a loop over "
            f"modules ({got['loop'] * 1e3:.1f} ms), largest difference {got['difference']:.1e}"
        )


if __name__ == "__main__":
    main()
