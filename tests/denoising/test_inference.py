"""The members of an ensemble as one network give what they give one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.support.networks import mirrored, tied
from xpcs_live_denoise.denoising.inference import (
    fuse,
    fused_members,
    is_tied,
    stack_members,
    tied_members,
)
from xpcs_live_denoise.denoising.model import TRIANGLE_SHAPE, CnnEncoderDecoder
from xpcs_live_denoise.numerics.windows import to_triangle, to_windows

CPU = torch.device("cpu")


def triangles(n: int) -> torch.Tensor:
    return 1.5 + torch.randn(n, 1275, generator=torch.Generator().manual_seed(1))


def test_only_members_that_share_their_weights_are_tied():
    stacked = stack_members([tied(0).untied(), tied(1).untied()])
    assert is_tied(stacked)
    assert not is_tied(stack_members([CnnEncoderDecoder(TRIANGLE_SHAPE)]))
    for name in ("compress.weight", "expand.weight", "expand.bias"):
        changed = {key: value.clone() for key, value in stacked.items()}
        changed[name].view(-1)[-2] += 1e-3
        assert not is_tied(changed), name


@pytest.mark.parametrize("n", [0, 1, 7, 47])  # 47: on several threads
def test_the_compiled_members_equal_a_loop_over_modules_for_whole_windows(n: int):
    members = [tied(seed).untied() for seed in range(3)]
    kernel = fuse(stack_members(members), CPU)
    assert kernel.func is tied_members(stack_members(members)).func
    x = triangles(n)
    windows = torch.from_numpy(to_windows(x.numpy()))
    with torch.no_grad():
        each = np.stack([to_triangle(mirrored(m)(windows).numpy()) for m in members])
    mean, spread = kernel(x)
    np.testing.assert_allclose(mean, each.mean(axis=0), atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(spread, each.std(axis=0), atol=1e-5, rtol=1e-5)


def test_members_that_are_not_tied_are_fused_by_products():
    stacked = stack_members([CnnEncoderDecoder(TRIANGLE_SHAPE)])
    assert fuse(stacked, CPU).func is fused_members(stacked, CPU).func


def test_the_products_give_what_the_kernel_gives():
    stacked = stack_members([tied(0).untied(), tied(1).untied()])
    x = triangles(5)
    forms = fused_members(stacked, CPU), tied_members(stacked)
    for got, expected in zip(*(form(x) for form in forms), strict=True):
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)
