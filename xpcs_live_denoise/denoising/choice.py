"""Which trained networks make the ensemble: validation data, divided by experiment."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .data import WindowData
from .ensemble import Ensemble, denoise_triangles
from .metrics import errors, summary


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
            "by": "epochs by cost, members by MSE(1TCF), on every second validation experiment",
            "validation_sha256": self.all_data.sha256,
            "experiments": experiments_of(self.choosing),
        }

    def score(self, output: NDArray[np.float32]) -> tuple[float, float]:
        """Return cost and MSE(1TCF) of denoised triangles of the experiments that choose."""
        cost, mse_g2 = errors(output, self.choosing)
        return float(cost.mean()), float(mse_g2.mean())

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
