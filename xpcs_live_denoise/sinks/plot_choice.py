"""Which ROI is shown: chosen by a user, kept from run to run."""

from __future__ import annotations


class RoiChoice:
    """The label of the ROI that is shown.

    Parameters
    ----------
    label
        The first choice; None takes the middle ROI of each run until somebody chooses.

    Attributes
    ----------
    label
        The choice; a run without this ROI shows its middle one and leaves the choice alone.
    """

    def __init__(self, label: int | None = None) -> None:
        self.label = label

    def index(self, labels: tuple[int, ...]) -> int:
        """Return the index of the choice among the labels of a run."""
        return labels.index(self.label) if self.label in labels else len(labels) // 2

    def step(self, labels: tuple[int, ...], by: int) -> None:
        """Choose the ROI `by` places on; the first follows the last."""
        self.label = labels[(self.index(labels) + by) % len(labels)]
