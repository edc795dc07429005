"""Trained networks for images of few counts: load them with their cards, apply them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xpcs_live_denoise.denoising.ensemble import (
    CARD_NAME,
    WEIGHTS_NAME,
    load_with_card,
    save_with_card,
)
from xpcs_live_denoise.errors import InvalidInputError, MissingDependencyError, install_line
from xpcs_live_denoise.numerics.threads import one_thread
from xpcs_live_denoise.records.types import BoolArray, Document, Fields, FloatArray

if TYPE_CHECKING:
    from torch import nn

SHIPPED = Path(__file__).parent / "weights"
LARGE, SMALL = "large", "small"  # the shipped models
# Pixels of an image that the large model denoises within 2 s on two cores.
MOST_FOR_LARGE = 500_000
# Rows that are denoised at once are so many that they have this many pixels; on each side come
# those of which the network sees something.
PIXELS_AT_ONCE, MARGIN = 2**23, 128
# An image of fewer pixels is denoised by one thread: on cores that are busy two take longer.
ONE_THREAD = 2**17
CARD_KEYS = ("name", "network", "sha256", "trained_on", "metrics")


class FrameDenoiser:
    """Says which counts to expect of images of few counts; holds networks and nothing else.

    Made by `load_frame_denoiser`.

    Attributes
    ----------
    info
        JSON-ready, of each network by its name: name, network, sha256 (of the weights), trained_on,
        metrics.
    """

    def __init__(self, networks: dict[str, nn.Module], info: dict[str, Document]) -> None:
        self._networks = networks
        self.info = info

    def name_for(self, shape: tuple[int, ...]) -> str:
        """Return the name of the network that images of this shape (rows, cols) are given to."""
        names = list(self._networks)
        return names[0] if len(names) == 1 or shape[0] * shape[1] <= MOST_FOR_LARGE else names[-1]

    def single(self) -> tuple[nn.Module, str]:
        """Return the one network and its kind, of a model that has no other."""
        ((name, network),) = self._networks.items()
        return network, str(self.info[name]["network"])

    def expected(
        self, counts: FloatArray, valid: BoolArray, center: tuple[float, float] | None = None
    ) -> FloatArray:
        """Return the expected counts of an image.

        Parameters
        ----------
        counts
            Photons, (rows, cols). What is not valid is not read.
        valid
            Which pixels were measured, (rows, cols).
        center
            Row and column of the direct beam, where it is known: rings lie around it.

        Returns
        -------
        numpy.ndarray
            (rows, cols), float32; also where nothing was measured.
        """
        import torch

        from .inputs import expected_counts, inputs_of

        network = self._networks[self.name_for(counts.shape)]
        with torch.inference_mode():
            image = torch.from_numpy(np.where(valid, counts, 0).astype(np.float32))[None]
            known = torch.from_numpy(valid.astype(np.float32))[None]
            beam = None if center is None else torch.tensor([center], dtype=torch.float32)
            if counts.size <= ONE_THREAD:
                with one_thread():
                    return expected_counts(network, image, known, beam)[0].numpy()
            if counts.size <= PIXELS_AT_ONCE:
                return expected_counts(network, image, known, beam)[0].numpy()
            inputs, base = inputs_of(image, known, beam)
            return _in_parts(network, inputs, base)


def _in_parts(network: Any, inputs: Any, base: Any) -> FloatArray:
    """Return the expected counts of an image of many pixels, some rows at a time."""
    import torch

    from .inputs import corrected

    rows, cols = base.shape[-2:]
    step = max(MARGIN, PIXELS_AT_ONCE // cols // 16 * 16)
    made = np.empty((rows, cols), np.float32)
    for start in range(0, rows, step):
        low, high = max(0, start - MARGIN), min(rows, start + step + MARGIN)
        part = corrected(network, inputs[..., low:high, :], base[..., low:high, :])
        stop = min(rows, start + step)
        made[start:stop] = part[0, start - low : stop - low].to(torch.float32).numpy()
    return made


def load_frame_denoiser(path: str | Path | None = None) -> FrameDenoiser:
    """Load what denoises images of few counts.

    Parameters
    ----------
    path
        Folder with weights and model card, as `xpcs-live-denoise train-frames` writes it; or
        "large" or "small", of the shipped networks. None: both of these, the large one for images
        of up to 500,000 pixels, the small one for larger ones: either takes less than 2 s then.

    Raises
    ------
    MissingDependencyError
        When torch or safetensors is not installed.
    InvalidInputError
        When a file is missing or cannot be read, weights and card do not belong together, or are
        those of another kind of model.
    """
    names = (LARGE, SMALL) if path is None else (str(path),)
    networks: dict[str, nn.Module] = {}
    info: dict[str, Document] = {}
    for name in names:
        folder = SHIPPED / name if name in (LARGE, SMALL) else Path(name)
        networks[name], info[name] = _load(folder)
    return FrameDenoiser(networks, info)


def _load(folder: Path) -> tuple[nn.Module, Document]:
    """Return the network in a folder, and what its card says."""
    try:
        import safetensors
        import safetensors.torch
        import torch

        from .networks import NETWORKS
    except ImportError as error:
        raise MissingDependencyError(
            f"load_frame_denoiser: torch and safetensors are needed to denoise images ({error}). "
            f"{install_line('torch')}."
        ) from error
    weights, card = load_with_card(
        "Frame model",
        folder,
        WEIGHTS_NAME,
        card_name=CARD_NAME,
        keys=CARD_KEYS,
        writer="xpcs-live-denoise train-frames",
    )
    if card["network"] not in NETWORKS:
        raise InvalidInputError(
            f"Frame model {folder}: its card names the network {card['network']!r}; expected one "
            f"of {', '.join(NETWORKS)}. It is a model of another kind or of a newer version."
        )
    network = NETWORKS[card["network"]]()
    try:
        stored = safetensors.torch.load(weights)
        network.load_state_dict({name: value.float() for name, value in stored.items()})
    except (safetensors.SafetensorError, RuntimeError) as error:
        raise InvalidInputError(
            f"Frame model {folder}: {WEIGHTS_NAME} does not hold the weights of the network "
            f"{card['network']!r} ({str(error).splitlines()[0]}). Copy the whole folder again."
        ) from error
    network = network.eval().to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    return network, {key: card[key] for key in CARD_KEYS}


def save_frame_network(network: nn.Module, card: Fields, path: str | Path) -> Path:
    """Write a network, in half precision, and its card into a folder that can be loaded.

    The card has at least name, network, trained_on and metrics; the weights' sha256 is added.
    """
    import safetensors.torch

    missing = [key for key in CARD_KEYS if key not in card and key != "sha256"]
    if missing:
        raise InvalidInputError(f"save_frame_network: the card lacks {', '.join(missing)}.")
    state = {
        name: value.detach().cpu().half().contiguous()
        for name, value in network.state_dict().items()
    }
    number = sum(value.numel() for value in state.values())
    return save_with_card(
        path,
        WEIGHTS_NAME,
        safetensors.torch.save(state),
        card_name=CARD_NAME,
        card={**card, "parameters": number},
    )
