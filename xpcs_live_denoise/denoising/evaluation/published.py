"""The published members of FC-DAE: a rival to measure against, whose weights are not shipped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.numerics.arrays import as_stack
from xpcs_live_denoise.records.types import Document

_LAYERS = 5


class PublishedMembers:
    """Denoises C2 of any size as FC-DAE does: z-scored, the diagonal the mean of its neighbours.

    Reference: Nellikunnumel et al., arXiv 2605.29975. `info` names it as `Ensemble.info` does.
    """

    def __init__(self, networks: list[nn.Sequential], name: str) -> None:
        self._networks = networks
        self.info: Document = {
            "name": name,
            "sha256": "",
            "n_members": len(networks),
            "trained_on": {},
        }

    @torch.inference_mode()
    def denoise(self, c2: ArrayLike) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return mean and spread over the members, of the shape of C2, (m, m) or (n, m, m)."""
        values = np.asarray(c2, np.float32)
        filled = _with_smooth_diagonal(as_stack(values).astype(np.float32))
        found = np.empty((2, *filled.shape), np.float32)
        for index, one in enumerate(filled):
            mean, scale = one.mean(), one.std() or 1.0
            scaled = torch.from_numpy((one - mean) / scale)[None, None]
            outputs = torch.cat([network(scaled)[0] for network in self._networks]).numpy()
            found[0, index] = outputs.mean(axis=0) * scale + mean
            found[1, index] = outputs.std(axis=0) * scale
        return found[0].reshape(values.shape), found[1].reshape(values.shape)


def load_published(path: str | Path) -> PublishedMembers:
    """Read the members from an .npz of their state dicts, as arrays `<member>/<name>`."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: torch.from_numpy(file[name]) for name in file.files}
        numbers = sorted({int(name.partition("/")[0]) for name in arrays})
        networks = [_network(arrays, number) for number in numbers]
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise InvalidInputError(
            f"Published members {path}: cannot be read ({error}). Expected an .npz with the state "
            "dicts of FC-DAE as arrays <member>/<name>."
        ) from error
    return PublishedMembers(networks, Path(path).name)


def _network(arrays: dict[str, Tensor], number: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for part in ("encoder", "decoder"):
        for index in range(_LAYERS):
            weight = arrays[f"{number}/{part}.f_conv.{index}.weight"]
            first, second = weight.shape[:2]
            layer: Any = (
                nn.Conv2d(second, first, 3, padding=1)
                if part == "encoder"
                else nn.ConvTranspose2d(first, second, 3, padding=1)
            )
            layer.load_state_dict(
                {"weight": weight, "bias": arrays[f"{number}/{part}.f_conv.{index}.bias"]}
            )
            layers.append(layer)
            if part == "encoder" or index < _LAYERS - 1:
                width = second if part == "decoder" else first
                norm = nn.BatchNorm2d(width)
                prefix = f"{number}/{part}.conv2_bn.{index}."
                names = [name for name in norm.state_dict() if f"{prefix}{name}" in arrays]
                norm.load_state_dict({name: arrays[f"{prefix}{name}"] for name in names})
                layers += [norm, nn.ELU()]
    return nn.Sequential(*layers).eval()


def _with_smooth_diagonal(stack: NDArray[np.float32]) -> NDArray[np.float32]:
    filled = stack.copy()
    for one in filled:
        neighbours = np.diagonal(one, 1)
        padded = np.concatenate([neighbours[:1], neighbours, neighbours[-1:]])
        np.fill_diagonal(one, (padded[1:] + padded[:-1]) / 2)
    return filled
