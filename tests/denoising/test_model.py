"""The network is the paper's, and its forms for windows and triangles agree."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tests.support.networks import mirrored, tied
from xpcs_live_denoise.denoising.model import (
    TRIANGLE_SHAPE,
    CnnEncoderDecoder,
    TiedEncoderDecoder,
)
from xpcs_live_denoise.numerics.windows import LAG, to_triangle, to_windows


def network(shape: tuple[int, int], seed: int = 0) -> CnnEncoderDecoder:
    generator = torch.Generator().manual_seed(seed)
    made = CnnEncoderDecoder(shape, generator=generator)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(std=0.1, generator=generator)
    return made.eval()


def triangles(n: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return 1.5 + torch.randn(n, 1275, generator=generator)


def test_the_parameters_have_the_sizes_of_the_paper():
    shapes = {name: tuple(p.shape) for name, p in CnnEncoderDecoder().named_parameters()}
    assert shapes == {
        "conv1.weight": (10, 1, 1, 1),
        "conv1.bias": (10,),
        "conv2.weight": (10, 10, 1, 1),
        "conv2.bias": (10,),
        "compress.weight": (8, 25_000),
        "compress.bias": (8,),
        "expand.weight": (25_000, 8),
        "expand.bias": (25_000,),
        "deconv1.weight": (10, 10, 1, 1),
        "deconv1.bias": (10,),
        "deconv2.weight": (10, 1, 1, 1),
        "deconv2.bias": (1,),
    }


def test_the_forward_pass_is_the_one_of_the_paper():
    net = network((50, 50))
    window = to_windows(triangles(1).numpy())[0].astype(np.float64)
    p = {name: value.detach().numpy().astype(float) for name, value in net.named_parameters()}

    features = np.zeros((10, 50, 50))
    for row in range(50):
        for col in range(50):
            h = np.maximum(p["conv1.weight"][:, 0, 0, 0] * window[row, col] + p["conv1.bias"], 0)
            features[:, row, col] = np.maximum(
                p["conv2.weight"][:, :, 0, 0] @ h + p["conv2.bias"], 0
            )
    latent = p["compress.weight"] @ features.ravel() + p["compress.bias"]
    back = (p["expand.weight"] @ latent + p["expand.bias"]).reshape(10, 50, 50)
    expected = np.zeros((50, 50))
    for row in range(50):
        for col in range(50):  # a transposed convolution's weight is (in, out)
            h = p["deconv1.weight"][:, :, 0, 0].T @ back[:, row, col] + p["deconv1.bias"]
            expected[row, col] = (p["deconv2.weight"][:, 0, 0, 0] @ np.maximum(h, 0)).item()
    expected += p["deconv2.bias"]

    with torch.no_grad():
        got = net(torch.from_numpy(window[None].astype(np.float32)))[0].numpy()
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_weights_start_xavier_uniform_and_biases_zero():
    net = CnnEncoderDecoder(generator=torch.Generator().manual_seed(3))
    bound = math.sqrt(6 / (25_000 + 8))
    weight = net.compress.weight.detach()
    assert weight.abs().max() <= bound
    assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.01)
    assert all(not p.any() for name, p in net.named_parameters() if name.endswith("bias"))


def test_the_same_generator_gives_the_same_network():
    first = network(TRIANGLE_SHAPE, seed=5)(triangles(2).unsqueeze(1))
    again = network(TRIANGLE_SHAPE, seed=5)(triangles(2).unsqueeze(1))
    other = network(TRIANGLE_SHAPE, seed=6)(triangles(2).unsqueeze(1))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)


def test_a_network_for_triangles_equals_the_mirrored_one_for_windows():
    net = network(TRIANGLE_SHAPE)
    x = triangles(4)
    with torch.no_grad():
        expected = to_windows(net(x.unsqueeze(1)).squeeze(1).numpy())
        whole = mirrored(net)(torch.from_numpy(to_windows(x.numpy()))).numpy()
    np.testing.assert_allclose(whole, expected, atol=1e-5)
    np.testing.assert_array_equal(whole, whole.transpose(0, 2, 1))


def test_the_forward_pass_by_products_has_the_same_output_and_gradients():
    net = network(TRIANGLE_SHAPE)
    x = triangles(3)
    outputs, gradients = [], []
    for forward in (lambda: net(x.unsqueeze(1)).squeeze(1), lambda: net.denoise(x)):
        net.zero_grad()
        out = forward()
        (out**2).mean().backward()
        outputs.append(out.detach())
        gradients.append({name: p.grad.clone() for name, p in net.named_parameters()})
    torch.testing.assert_close(outputs[1], outputs[0], atol=1e-5, rtol=0)
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-5, rtol=1e-4, msg=name)


def test_triangles_and_windows_are_two_forms_of_one_thing():
    windows = np.random.default_rng(0).normal(size=(3, 50, 50))
    windows += windows.transpose(0, 2, 1)
    np.testing.assert_array_equal(to_windows(to_triangle(windows)), windows)
    np.testing.assert_array_equal(to_triangle(windows)[1, :50], windows[1, 0])  # row by row


def test_an_untied_network_does_the_same():
    network, x = tied(0), triangles(5)
    with torch.no_grad():
        curves, whole = network(x), network.denoise(x)
        pixels = network.untied()(x.unsqueeze(1)).squeeze(1)
    assert curves.std() > 0.1
    torch.testing.assert_close(pixels, curves[:, LAG], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(whole, curves[:, LAG])


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
    for name in ("compress", "expand", "conv2"):
        weight, theirs = network.weight[name], plain.get_parameter(f"{name}.weight")
        assert weight.std().item() == pytest.approx(theirs.std().item(), rel=0.1), name
