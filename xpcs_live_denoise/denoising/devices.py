"""Where torch computes: a device that this machine has, or a sentence."""

from __future__ import annotations

import torch

from xpcs_live_denoise.errors import InvalidInputError


def usable_device(name: str, subject: str) -> torch.device:
    """Return the device of this name, in torch's words, after a computation on it.

    Raises InvalidInputError for one that cannot be used; `subject` begins the sentence.
    """
    try:
        device = torch.device(name)
        torch.ones(1, device=device).item()
    except (RuntimeError, AssertionError, ImportError) as error:
        raise InvalidInputError(
            f"{subject}: device {name!r} cannot be used ({str(error).splitlines()[0]}). "
            'Expected a device that torch has on this machine; "cpu" is always there.'
        ) from error
    return device
