"""The stream `image` of a derived run: the detector as it looks so far, and its ROIs."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from xpcs_live_denoise.records.results import Picture

from .tiled_arrays import TiledArray

PERIOD_S = 2.0  # least time between two pictures of a live run


class TiledPicture:
    """Overwrites one picture with the next; a live one waits while the last is too young.

    Parameters
    ----------
    array
        Returns the array of a name, "image" or "roi_labels", of the stream.
    """

    def __init__(self, array: Callable[[str], TiledArray]) -> None:
        self._array = array
        self._waiting: Picture | None = None
        self._written: Picture | None = None
        self._not_before = float("-inf")

    def offer(self, picture: Picture | None, *, last: bool = False) -> None:
        """Write a picture, or the one that waits; may be repeated after a failure.

        Parameters
        ----------
        picture
            None: there is no newer one.
        last
            No other comes: write it now.
        """
        self._waiting = picture or self._waiting
        if self._waiting is None or (not last and time.monotonic() < self._not_before):
            return
        newest, before = self._waiting, self._written
        if before is None or not np.array_equal(newest.labels, before.labels):
            self._array("roi_labels").replace(newest.labels)
        image = self._array("image")
        image.replace(newest.mean)
        image.describe({"binning": newest.binning, "n_frames": newest.n_frames})
        self._waiting, self._written = None, newest
        self._not_before = time.monotonic() + PERIOD_S
