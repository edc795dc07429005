"""The denoiser: an ensemble of CNN encoder-decoders, loaded from weights and a model card."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, overload

import numpy as np
from numpy.typing import NDArray

from xpcs_live_denoise.errors import InvalidInputError, MissingDependencyError, install_line
from xpcs_live_denoise.numerics.windows import WINDOW, Denoiser, to_triangle, to_windows
from xpcs_live_denoise.records.types import Array, Document, Fields, FloatArray

if TYPE_CHECKING:
    from torch import Tensor

    from .any_size.ensemble import AnySizeEnsemble
    from .inference import Members
    from .model import CnnEncoderDecoder

SHIPPED = Path(__file__).parent / "weights"
WEIGHTS_NAME = "weights.safetensors"
CARD_NAME = "model_card.json"
INFO_KEYS = ("name", "sha256", "n_members", "window", "trained_on", "metrics")
COMMON_KEYS = tuple(key for key in INFO_KEYS if key != "window")
# Denoisers, by the name of the setting, and where the weights are that come with this package.
KINDS = {"windows": SHIPPED, "any_size": SHIPPED.parent / "any_size" / "weights"}


class Ensemble:
    """Denoises scaled windows with all members at once; holds their weights and nothing else.

    Made by `load_ensemble`.

    Attributes
    ----------
    info
        JSON-ready: name, sha256 (of the weights), n_members, window, trained_on, metrics.
    """

    def __init__(self, members: Members, info: Document) -> None:
        self._members = members
        self.info = info

    def denoise(self, windows: FloatArray) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Denoise windows of a two-time correlation function.

        Parameters
        ----------
        windows
            Shape (n, 50, 50), symmetric, scaled to contrast 1 over a baseline of 1, the diagonal
            replaced, all finite; float32 (other floating types are converted). Only the upper
            triangle is read.

        Returns
        -------
        mean, spread
            Two arrays of that shape, float32, symmetric, in the windows' scale: mean and
            (population) standard deviation over the members' outputs. The spread says how far
            the members disagree; as an error bar it is much too small. That of one member is NaN.

        Raises
        ------
        InvalidInputError
            When the windows have another shape, are no floating-point numbers, or hold NaN or
            infinite values.
        """
        import torch

        windows = np.asarray(windows)
        _check_windows(windows)
        triangles = np.ascontiguousarray(to_triangle(windows), dtype=np.float32)
        bad = int((~np.isfinite(triangles)).any(axis=1).sum())
        if bad:
            raise InvalidInputError(
                f"Ensemble.denoise: {bad} of {len(windows)} windows have NaN or infinite values; "
                "expected finite ones: fill missing values from the same lag first."
            )
        mean, spread = self._members(torch.from_numpy(triangles))
        if self.info["n_members"] == 1:
            spread = torch.full_like(spread, torch.nan)
        return to_windows(mean.cpu().numpy()), to_windows(spread.cpu().numpy())


def denoise_triangles(ensemble: Denoiser, c2: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the ensemble's mean output for triangles (n, 1275)."""
    return to_triangle(np.asarray(ensemble.denoise(to_windows(c2))[0], np.float32))


@overload
def load_ensemble(
    path: str | Path | None = None,
    *,
    device: str = "cpu",
    denoiser: Literal["windows"] | None = None,
) -> Ensemble: ...


@overload
def load_ensemble(
    path: str | Path | None = None, *, device: str = "cpu", denoiser: Literal["any_size"]
) -> AnySizeEnsemble: ...


def load_ensemble(
    path: str | Path | None = None, *, device: str = "cpu", denoiser: str | None = None
) -> Ensemble | AnySizeEnsemble:
    """Load an ensemble.

    Parameters
    ----------
    path
        Folder with the weights and the model card, as `xpcs-live-denoise train` writes it.
        None: the ensemble in this package.
    device
        Where to compute, in torch's words: "cpu", "cuda", ...
    denoiser
        Which kind it must be: "windows", which denoises windows of 50 frames, or "any_size", C2 of
        any size. Default: "windows" without a path, else what the folder holds.

    Raises
    ------
    MissingDependencyError
        When torch or safetensors is not installed.
    InvalidInputError
        When a file is missing or cannot be read, weights and card do not belong together, are of
        the other kind, or the device cannot be used.
    """
    if denoiser not in (None, *KINDS):
        raise InvalidInputError(
            f"load_ensemble: got denoiser {denoiser!r}; expected one of {list(KINDS)}."
        )
    folder = KINDS[denoiser or "windows"] if path is None else Path(path)
    try:
        import safetensors
        import safetensors.torch
        import torch  # noqa: F401 - by name, for the sentence

        from .any_size.ensemble import open_any_size
        from .devices import usable_device
        from .inference import fuse
    except ImportError as error:
        raise MissingDependencyError(
            f"load_ensemble: torch and safetensors are needed to denoise ({error}). "
            f"{install_line('torch')}."
        ) from error
    weights, card = load_with_card(
        "Ensemble",
        folder,
        WEIGHTS_NAME,
        card_name=CARD_NAME,
        keys=COMMON_KEYS,
        writer="xpcs-live-denoise train",
    )
    try:
        stacked = safetensors.torch.load(weights)
    except safetensors.SafetensorError as error:
        raise InvalidInputError(
            f"Ensemble {folder}: {WEIGHTS_NAME} is no safetensors file ({error})."
        ) from error
    kind = card.get("kind", "windows")
    if denoiser is not None and kind != denoiser:
        raise InvalidInputError(
            f"Ensemble {folder}: its weights are for the denoiser {kind!r}; expected some for "
            f"{denoiser!r}. Set `denoiser: {kind}`, or another folder as `weights`."
        )
    if kind not in KINDS:
        raise InvalidInputError(
            f"Ensemble {folder}: {CARD_NAME} says kind {kind!r}; expected one of {list(KINDS)}. A "
            "newer version of this package may know it."
        )
    if kind == "windows":
        _check_shapes(folder, card, stacked)
    where = usable_device(device, "load_ensemble")
    if kind == "any_size":
        return open_any_size(folder, stacked, card, where)
    return Ensemble(fuse(stacked, where), {key: card[key] for key in INFO_KEYS})


def save_ensemble(members: Sequence[CnnEncoderDecoder], card: Fields, path: str | Path) -> Path:
    """Write members for triangles and their model card into a folder that `load_ensemble` reads.

    The card has at least name, trained_on and metrics. Number of members, window, number of
    parameters and the weights' sha256 are added.
    """
    import safetensors.torch

    from .inference import stack_members
    from .model import TRIANGLE_SHAPE

    shapes = {member.shape for member in members}
    if shapes != {TRIANGLE_SHAPE}:
        raise InvalidInputError(
            f"save_ensemble: members for inputs of shapes {sorted(shapes)}; expected at least one "
            f"member, all for triangles, {TRIANGLE_SHAPE}."
        )
    missing = [key for key in ("name", "trained_on", "metrics") if key not in card]
    if missing:
        raise InvalidInputError(f"save_ensemble: the card lacks {', '.join(missing)}.")
    return save_with_card(
        path,
        WEIGHTS_NAME,
        safetensors.torch.save(stack_members(members)),
        card_name=CARD_NAME,
        card={
            **card,
            "n_members": len(members),
            "window": WINDOW,
            "parameters_per_member": sum(p.numel() for p in members[0].parameters()),
        },
    )


def _check_windows(windows: Array) -> None:
    if windows.ndim != 3 or windows.shape[1:] != (WINDOW, WINDOW):
        raise InvalidInputError(
            f"Ensemble.denoise: windows have shape {windows.shape}; expected (n, {WINDOW}, "
            f"{WINDOW}), which is what the network was trained for."
        )
    if windows.dtype.kind != "f":
        raise InvalidInputError(
            f"Ensemble.denoise: windows have dtype {windows.dtype}; expected float32."
        )


def _check_shapes(folder: Path, card: Fields, stacked: Mapping[str, Tensor]) -> None:
    from .inference import expected_shapes

    expected = expected_shapes(card["n_members"])
    got = {name: tuple(tensor.shape) for name, tensor in stacked.items()}
    if got != expected:
        name = min(n for n in got.keys() | expected if got.get(n) != expected.get(n))
        raise InvalidInputError(
            f"Ensemble {folder}: {WEIGHTS_NAME} holds {name} of shape {got.get(name)}; expected "
            f"{expected.get(name)} for {card['n_members']} members of this architecture."
        )


def save_with_card(
    path: str | Path, name: str, content: bytes, *, card_name: str, card: Fields
) -> Path:
    """Write a file and its card, with the file's hash, into a folder; return the folder."""
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    whole = {**card, "sha256": hashlib.sha256(content).hexdigest()}
    (folder / card_name).write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")
    return folder


def load_with_card(
    subject: str, folder: Path, name: str, *, card_name: str, keys: Sequence[str], writer: str
) -> tuple[bytes, Document]:
    """Return the content of a file and its card, which must have all keys and the file's hash.

    `subject` says in errors what the folder holds, `writer` what writes such folders.
    """
    texts: dict[str, bytes] = {}
    for file in (card_name, name):
        try:
            texts[file] = (folder / file).read_bytes()
        except OSError as error:
            raise InvalidInputError(
                f"{subject} {folder}: {file} cannot be read ({error.strerror}). Expected a folder "
                f"with {name} and {card_name}, as `{writer}` writes it."
            ) from error
    try:
        card = json.loads(texts[card_name].decode("utf-8"))
    except ValueError as error:
        raise InvalidInputError(f"{subject} {folder}: {card_name} is no JSON ({error}).") from error
    missing = [key for key in keys if not isinstance(card, dict) or key not in card]
    if missing:
        raise InvalidInputError(f"{subject} {folder}: {card_name} lacks {', '.join(missing)}.")
    digest = hashlib.sha256(texts[name]).hexdigest()
    if card["sha256"] != digest:
        raise InvalidInputError(
            f"{subject} {folder}: {name} has sha256 {digest}, {card_name} names "
            f"{card['sha256']}. The two do not belong together; copy the whole folder again."
        )
    return texts[name], card
