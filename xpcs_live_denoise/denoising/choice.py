"""Which trained networks make the ensemble: validation data, divided by experiment."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch

from .data import WindowData
from .ensemble import Ensemble, denoise_triangles
from .metrics import errors, summary
from .model import CnnEncoderDecoder, forward_by_products

CHUNK = 64  # inputs in one pass: bounds the memory


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Validation data, divided by experiment: one half chooses the members, the other reports.

    Attributes
    ----------
    all_data, choosing
        Every experiment, and every second one.
    held_out
        The others; None where there is but one experiment.
    """

    all_data: WindowData
    choosing: WindowData
    held_out: WindowData | None

    @classmethod
    def of(cls, data: WindowData) -> Choice:
        """Divide validation data."""
        experiments = np.unique(data.experiment[data.target_index])
        others = experiments[1::2]
        held_out = data.of_experiments(others) if len(others) else None
        choosing = data.of_experiments(experiments[::2])
        return cls(all_data=data, choosing=choosing, held_out=held_out)

    def description(self) -> dict[str, Any]:
        """Return how members are chosen, for the model card."""
        return {
            "by": "MSE(1TCF) of each candidate on every second validation experiment",
            "validation_sha256": self.all_data.sha256,
            "experiments": experiments_of(self.choosing),
        }

    def score(self, network: CnnEncoderDecoder) -> float:
        """Return the MSE(1TCF) of a network on the experiments that choose."""
        with torch.inference_mode():
            parts = torch.from_numpy(self.choosing.c2).split(CHUNK)
            output = torch.cat([forward_by_products(network, part) for part in parts])
        return float(errors(output.numpy(), self.choosing)[1].mean())

    def metrics(self, ensemble: Ensemble) -> dict[str, Any]:
        """Return the ensemble's figures, raw ones beside them, on each part of the data."""
        parts = {"all": self.all_data, "held_out": self.held_out, "choosing": self.choosing}
        return {
            part: {
                "experiments": experiments_of(data),
                "raw": summary(data.c2, data),
                "cnn": summary(denoise_triangles(ensemble, data.c2), data),
            }
            for part, data in parts.items()
            if data is not None
        }


def experiments_of(data: WindowData) -> list[int]:
    """Return the experiments that have inputs."""
    return np.unique(data.experiment[data.target_index]).tolist()
