"""Sharing weights along diagonals changes neither the architecture nor, by its kernel, a number."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from xpcs_live_denoise.denoising.ensemble import load_ensemble, save_ensemble
from xpcs_live_denoise.denoising.inference import (
    FusedMembers,
    TiedKernel,
    compiled_encoder,
    fuse,
    is_tied,
    stack_members,
)
from xpcs_live_denoise.denoising.model import (
    LAG,
    TRIANGLE_SHAPE,
    CnnEncoderDecoder,
    TiedEncoderDecoder,
    mirrored,
    to_triangle,
    to_windows,
)

CPU = torch.device("cpu")


def tied(seed: int) -> TiedEncoderDecoder:
    """Return a network none of whose weights is 0."""
    generator = torch.Generator().manual_seed(seed)
    made = TiedEncoderDecoder(generator=generator)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return made


def triangles(n: int) -> torch.Tensor:
    return 1.5 + torch.randn(n, 1275, generator=torch.Generator().manual_seed(1))


def test_an_untied_network_does_the_same():
    network, x = tied(0), triangles(5)
    with torch.no_grad():
        curves = network(x)
        pixels = network.untied()(x.unsqueeze(1)).squeeze(1)
    assert curves.std() > 0.1
    torch.testing.assert_close(pixels, curves[:, LAG], atol=1e-5, rtol=1e-5)


def test_the_order_along_a_diagonal_is_not_seen():
    network, x = tied(0), triangles(1)
    order = np.random.default_rng(0).permutation(1275)
    shuffled = torch.empty_like(x)
    shuffled[:, np.argsort(LAG, kind="stable")] = x[:, order[np.argsort(LAG[order], kind="stable")]]
    assert not torch.equal(shuffled, x)
    with torch.no_grad():
        torch.testing.assert_close(network(shuffled), network(x), atol=1e-5, rtol=1e-5)


def test_it_starts_with_the_spread_of_the_untied_network():
    network = TiedEncoderDecoder(generator=torch.Generator().manual_seed(0))
    plain = CnnEncoderDecoder(generator=torch.Generator().manual_seed(0))
    ours = {"compress": network.compress, "expand": network.expand, "conv2": network.conv2}
    for name, weight in ours.items():
        theirs = plain.get_parameter(f"{name}.weight")
        assert weight.std().item() == pytest.approx(theirs.std().item(), rel=0.1), name


def test_only_members_that_share_their_weights_are_tied():
    stacked = stack_members([tied(0).untied(), tied(1).untied()])
    assert is_tied(stacked)
    assert not is_tied(stack_members([CnnEncoderDecoder(TRIANGLE_SHAPE)]))
    for name in ("compress.weight", "expand.weight", "expand.bias"):
        changed = {key: value.clone() for key, value in stacked.items()}
        changed[name].view(-1)[-2] += 1e-3
        assert not is_tied(changed), name


@pytest.mark.parametrize("n", [0, 1, 7])
def test_the_compiled_members_equal_a_loop_over_modules_for_whole_windows(n: int):
    members = [tied(seed).untied() for seed in range(3)]
    kernel = fuse(stack_members(members), CPU)
    assert isinstance(kernel, TiedKernel)
    x = triangles(n)
    windows = torch.from_numpy(to_windows(x.numpy()))
    with torch.no_grad():
        each = np.stack([to_triangle(mirrored(m)(windows).numpy()) for m in members])
    mean, spread = kernel(x)
    np.testing.assert_allclose(mean, each.mean(axis=0), atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(spread, each.std(axis=0), atol=1e-5, rtol=1e-5)


def test_members_that_are_not_tied_are_fused_by_products():
    stacked = stack_members([CnnEncoderDecoder(TRIANGLE_SHAPE)])
    assert isinstance(fuse(stacked, CPU), FusedMembers)


def test_without_numba_the_products_give_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    card = {"name": "test", "trained_on": {}, "metrics": {}}
    folder = save_ensemble([tied(0).untied()], card, tmp_path)
    windows = to_windows(triangles(3).numpy())
    compiled = load_ensemble(folder).denoise(windows)[0]
    compiled_encoder.cache_clear()
    monkeypatch.setitem(sys.modules, "numba", None)
    try:
        stacked = stack_members([tied(0).untied()])
        assert isinstance(fuse(stacked, CPU), FusedMembers)
        plain = load_ensemble(folder).denoise(windows)[0]
    finally:
        compiled_encoder.cache_clear()
    np.testing.assert_allclose(plain, compiled, atol=1e-5, rtol=1e-5)
