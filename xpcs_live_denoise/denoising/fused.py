"""The members of an ensemble as one network: batched products instead of a loop over modules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from .model import CHANNELS, LATENT, TRIANGLE_SHAPE, CnnEncoderDecoder
from .tied_kernel import TiedKernel, compiled_encoder, is_tied
from .triangle import N_PIXELS

# Windows in one pass. On a CPU the features of ten members then take 1 MB, which stay in the cache
# and are not given back to the system between two products; a GPU wants large products.
CPU_CHUNK = 2
GPU_CHUNK = 256


def stack_members(members: Sequence[CnnEncoderDecoder]) -> dict[str, Tensor]:
    """Return the members' parameters by name, stacked along a new first axis."""
    states = [member.state_dict() for member in members]
    return {name: torch.stack([state[name] for state in states]) for name in states[0]}


def expected_shapes(n_members: int) -> dict[str, tuple[int, ...]]:
    """Return the shape of every stacked parameter of an ensemble."""
    with torch.device("meta"):  # shapes only: no memory, and no random numbers drawn
        state = CnnEncoderDecoder(TRIANGLE_SHAPE).state_dict()
    return {name: (n_members, *tensor.shape) for name, tensor in state.items()}


def fuse(stacked: Mapping[str, Tensor], device: torch.device) -> FusedMembers | TiedKernel:
    """Return the fastest form of the members on this device; all forms give the same numbers."""
    if device.type == "cpu" and is_tied(stacked):
        compiled = compiled_encoder()
        if compiled is not None:
            return TiedKernel(stacked, compiled)
    return FusedMembers(stacked, device)


class FusedMembers:
    """m members that denoise the same triangles at once.

    Between the decoder's linear layer and its first transposed convolution lies no ReLU, so the
    two are folded into one linear layer, once.

    Parameters
    ----------
    stacked
        The members' parameters, as `stack_members` gives them.
    device
        Where to compute.
    """

    def __init__(self, stacked: Mapping[str, Tensor], device: torch.device) -> None:
        p = {name: tensor.to(device, torch.float32) for name, tensor in stacked.items()}
        self.n_members = m = len(p["conv1.weight"])
        self.device = device
        self.chunk = CPU_CHUNK if device.type == "cpu" else GPU_CHUNK
        self._conv1 = p["conv1.weight"].reshape(m, CHANNELS, 1)
        self._conv1_bias = p["conv1.bias"].reshape(m, CHANNELS, 1)
        self._conv2 = p["conv2.weight"].reshape(m, CHANNELS, CHANNELS)
        self._conv2_bias = p["conv2.bias"].reshape(m, CHANNELS, 1)
        compress = p["compress.weight"].reshape(m, LATENT, CHANNELS, N_PIXELS)
        # (m * 10, 1275, 8): one product for every channel, the channels are summed after.
        self._compress = compress.permute(0, 2, 3, 1).reshape(m * CHANNELS, N_PIXELS, LATENT)
        self._compress_bias = p["compress.bias"].reshape(m, 1, LATENT)
        deconv1 = p["deconv1.weight"].reshape(m, CHANNELS, CHANNELS)  # (m, in, out)
        expand = p["expand.weight"].reshape(m, CHANNELS, N_PIXELS, LATENT)
        folded = torch.einsum("mio,mipk->mokp", deconv1, expand)  # (m, 10, 8, 1275)
        self._expand = folded.reshape(m, CHANNELS, LATENT, N_PIXELS).contiguous()
        expand_bias = p["expand.bias"].reshape(m, CHANNELS, N_PIXELS)
        bias = torch.einsum("mio,mip->mop", deconv1, expand_bias)
        self._expand_bias = bias + p["deconv1.bias"].reshape(m, CHANNELS, 1)  # (m, 10, 1275)
        self._deconv2 = p["deconv2.weight"].reshape(m, 1, CHANNELS)
        self._deconv2_bias = p["deconv2.bias"].reshape(m, 1, 1)

    @torch.inference_mode()
    def __call__(self, triangles: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and population standard deviation over the members, each (n, 1275)."""
        mean = torch.empty_like(triangles)
        spread = torch.empty_like(triangles)
        for start in range(0, len(triangles), self.chunk):
            part = slice(start, start + self.chunk)
            output = self.outputs(triangles[part])  # (m, k, 1275)
            mean[part] = output.mean(dim=0)
            # torch.std does the same in three times the time.
            spread[part] = (output - mean[part]).square_().mean(dim=0).sqrt_()
        return mean, spread

    def outputs(self, triangles: Tensor) -> Tensor:
        """Return every member's output, shape (m, k, 1275), for triangles (k, 1275)."""
        m, k = self.n_members, len(triangles)
        pixels = triangles.reshape(1, 1, k * N_PIXELS)
        x = torch.relu_(self._conv1_bias + self._conv1 * pixels)  # (m, 10, k * 1275)
        x = torch.baddbmm(self._conv2_bias, self._conv2, x).relu_()  # (m, 10, k * 1275)
        x = torch.bmm(x.view(m * CHANNELS, k, N_PIXELS), self._compress)  # (m * 10, k, 8)
        latent = x.view(m, CHANNELS, k, LATENT).sum(dim=1) + self._compress_bias  # (m, k, 8)
        x = torch.matmul(latent.unsqueeze(1), self._expand)  # (m, 10, k, 1275)
        x = x.add_(self._expand_bias.unsqueeze(2)).relu_().view(m, CHANNELS, k * N_PIXELS)
        x = torch.baddbmm(self._deconv2_bias, self._deconv2, x)  # (m, 1, k * 1275)
        return x.view(m, k, N_PIXELS)
