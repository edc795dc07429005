"""The denoiser for C2 of any size: networks loaded from weights and a model card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from xpcs_live_denoise.denoising.ensemble import CARD_NAME, WEIGHTS_NAME, save_with_card
from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.numerics.any_size import maps_of_rows, rows_of_maps
from xpcs_live_denoise.numerics.arrays import as_stack
from xpcs_live_denoise.numerics.threads import one_thread, spread
from xpcs_live_denoise.records.types import Document, Fields, FloatArray

from .network import AVERAGED, LAGS, AnySizeNetwork, Scale, means_and_features, scale_of

KIND = "any_size"
INFO_KEYS = ("name", "kind", "sha256", "n_members", "trained_on", "metrics")
COUNTER = "num_batches_tracked"  # of the batch normalisation: only training needs it
LEAST_FRAMES = 8
STRIP = 128  # lags that are computed at once: of all lags the features would need gigabytes


class AnySizeEnsemble:
    """Denoises C2 of any size with all networks, and holds their weights and nothing else.

    Made by `load_ensemble`.

    Attributes
    ----------
    info
        JSON-ready: name, kind ("any_size"), sha256 (of the weights), n_members, trained_on,
        metrics.
    least_frames
        The shortest series that can be denoised.
    reach
        Frames around a pair of frames on which its denoised value depends.
    """

    least_frames = LEAST_FRAMES

    def __init__(
        self, networks: Sequence[AnySizeNetwork], info: Document, device: torch.device
    ) -> None:
        self._networks, self._device = list(networks), device
        self._n_layers = max(2 * len(network.channels) for network in networks)
        self.reach = AVERAGED + self._n_layers
        self.info = info

    def denoise(self, c2: ArrayLike) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Denoise C2 of any size.

        Parameters
        ----------
        c2
            Shape (m, m) or (n, m, m), symmetric, of any contrast and baseline. Only its upper
            triangle is read. NaN marks what was not measured.

        Returns
        -------
        mean, spread
            Two arrays of that shape, float32, symmetric: mean and (population) standard deviation
            over the networks. NaN where C2 is. The spread says how far the networks disagree; as an
            error bar it is too small. That of one network is NaN.

        Raises
        ------
        InvalidInputError
            For a C2 of another shape, of fewer than `least_frames` frames, without
            floating-point numbers, or with infinite ones.
        """
        values = np.asarray(c2)
        stack = as_stack(values)
        if values.dtype.kind != "f":
            raise InvalidInputError(
                f"Any-size denoiser: C2 has dtype {values.dtype}; expected float32 or float64."
            )
        if stack.shape[-1] < LEAST_FRAMES:
            raise InvalidInputError(
                f"Any-size denoiser: C2 has shape {values.shape}; expected at least {LEAST_FRAMES} "
                "frames a side. Wait for more frames."
            )
        mean, deviation = self.denoise_rows(rows_of_maps(stack))
        shape = values.shape
        return maps_of_rows(mean).reshape(shape), maps_of_rows(deviation).reshape(shape)

    def denoise_rows(self, rows: FloatArray) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Denoise rows of the band of C2.

        Parameters
        ----------
        rows
            C2(t, t - lag), (n, k, width), of consecutive frames; NaN before the series and in gaps.

        Returns
        -------
        mean, spread
            As of `denoise`, of the shape of the rows.
        """
        if np.isinf(rows).any():
            raise InvalidInputError(
                "Any-size denoiser: C2 has infinite values; expected finite ones, or NaN for what "
                "was not measured."
            )
        # (n, lag, t) with C2(t, t + lag), as networks know it, is that of the series backwards.
        turned = np.ascontiguousarray(rows[:, ::-1].swapaxes(1, 2), dtype=np.float32)
        found = np.full((2, *turned.shape), np.nan, np.float32)
        whole = [torch.from_numpy(one[None]).to(self._device) for one in turned]
        scales = spread(_scale, whole)
        parts = [
            (index, first)
            for first in range(0, turned.shape[1], STRIP)
            for index in range(len(turned))
        ]

        def denoise(part: tuple[int, int]) -> None:
            index, first = part
            with one_thread():
                strip = self._strip(whole[index], scales[index], first)
            found[:, index, first : first + STRIP, : strip.shape[-1]] = strip

        spread(denoise, parts)
        found[:, ~np.isfinite(turned)] = np.nan
        mean, deviation = found.swapaxes(2, 3)[:, :, ::-1]
        return np.ascontiguousarray(mean), np.ascontiguousarray(deviation)

    @torch.inference_mode()
    def _strip(self, c2: Tensor, scale: Scale, first: int) -> NDArray[np.float32]:
        """Return mean and spread, (2, lag, t), at `STRIP` lags from `first` on of one C2."""
        n_lag = c2.shape[1]
        halo = max(lag for _, lag in LAGS) // 2 + self._n_layers
        begin, end = max(0, first - halo), min(n_lag, first + STRIP + halo)
        some = c2[:, begin:end]
        here = torch.isfinite(some)
        # Of pairs of frames far apart there are fewer: the last columns may be empty.
        filled = here.any(dim=1)[0].nonzero()
        n = (int(filled[-1]) if len(filled) else 0) + 1 + self._n_layers
        some, here = some[..., :n], here[..., :n].to(some.dtype)
        of_strip = Scale(scale.level, scale.noise[:, begin:end], scale.signal)
        means, features = means_and_features(torch.nan_to_num(some), here, of_strip, begin)
        kept = slice(first - begin, min(first + STRIP, n_lag) - begin)
        mixed = torch.stack([network.mixed(means, features)[0, kept] for network in self._networks])
        of_one = torch.full_like(mixed[0], torch.nan)
        spread = mixed.std(dim=0, correction=0) if len(mixed) > 1 else of_one
        return torch.stack([mixed.mean(dim=0), spread]).cpu().numpy()


@torch.inference_mode()
def _scale(c2: Tensor) -> Scale:
    with one_thread():
        return scale_of(torch.nan_to_num(c2), torch.isfinite(c2).to(c2.dtype))


def save_any_size(networks: Sequence[AnySizeNetwork], card: Fields, path: str | Path) -> Path:
    """Write networks and their model card into a folder that `load_ensemble` reads.

    The card has at least name, trained_on and metrics. Weights are stored with 16 bits; statistics
    of the batch normalisation keep 32.
    """
    import safetensors.torch

    tensors = {
        f"{index}/{name}": (value.half() if "running" not in name else value).contiguous()
        for index, network in enumerate(networks)
        for name, value in network.state_dict().items()
        if not name.endswith(COUNTER)
    }
    return save_with_card(
        path,
        WEIGHTS_NAME,
        safetensors.torch.save(tensors),
        card_name=CARD_NAME,
        card={
            **card,
            "kind": KIND,
            "n_members": len(networks),
            "channels": list(networks[0].channels),
            "parameters_per_member": sum(p.numel() for p in networks[0].parameters()),
        },
    )


def open_any_size(
    folder: Path, tensors: Mapping[str, Tensor], card: Fields, device: torch.device
) -> AnySizeEnsemble:
    """Return the ensemble of weights and card that `save_any_size` wrote.

    Raises InvalidInputError for weights that are not those of the card.
    """
    channels, n_members = card.get("channels", ()), card["n_members"]
    networks: list[AnySizeNetwork] = []
    try:
        for index in range(n_members):
            network, prefix = AnySizeNetwork(channels), f"{index}/"
            state = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
            expected = {n for n in network.state_dict() if not n.endswith(COUNTER)}
            if state.keys() != expected:
                raise ValueError(f"network {index} has other weights than this architecture")
            network.load_state_dict(state, strict=False)
            networks.append(network)
        if not networks or len({n.partition("/")[0] for n in tensors}) != n_members:
            raise ValueError("it has another number of networks")
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidInputError(
            f"Ensemble {folder}: {WEIGHTS_NAME} does not fit its card, which says {n_members} "
            f"networks of channels {channels} ({str(error).splitlines()[0]}). Copy the whole "
            "folder again."
        ) from error
    placed = [network.to(device).eval() for network in networks]
    return AnySizeEnsemble(placed, {key: card[key] for key in INFO_KEYS}, device)
