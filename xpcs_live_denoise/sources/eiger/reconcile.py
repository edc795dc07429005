"""Joins the files that were followed with the documents that announce them: no frame twice."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.records.frames import (
    AssetFrames,
    EigerFrames,
    FrameReference,
    Geometry,
    InlineFrames,
    MissingFrames,
    StartOver,
)
from xpcs_live_denoise.records.types import Fields
from xpcs_live_denoise.sources.assets import positive_int
from xpcs_live_denoise.sources.file_roots import FileRoots

from .follow import EigerFollower, new_masters, numbered_series, staged_series

if TYPE_CHECKING:
    from xpcs_live_denoise.config import Settings

logger = logging.getLogger(__name__)

Followed: TypeAlias = FrameReference | StartOver

# A detector that is stopped writes what it has: how long the end of a run waits for the next file,
# for all of them, and between two looks, s.
LAST_FILE_S, LONGEST_S, POLL_S = 2.0, 10.0, 0.05


class Following:
    """The frames of one run that come from followed files, and what documents add to them.

    Without a `follower` no file is followed: all frames are those of the documents. `poll`,
    `finish`, `reconcile` and `already` consume what they return. `uid` is the run's, for messages;
    `n_expected` are the frames of the whole run, where somebody tells.

    The event names the series that counts. Where others were followed (a run that was paused takes
    its exposure again), a StartOver comes, then all that is of the run from its first frame on.
    """

    def __init__(
        self, follower: EigerFollower | None = None, uid: str = "", n_expected: int | None = None
    ) -> None:
        self._follower = follower
        self._uid = uid
        self._n_expected = n_expected
        # By their real paths, in order: the series of the run, frames [0, stop) of each handed out.
        self._handed_out: dict[str, EigerFrames] = {}
        self._announced: set[str] = set()  # series that an event named
        self._documents_only = follower is None
        self._n_dropped = 0

    @property
    def n_expected(self) -> int | None:
        """Frames of the whole run, None if unknown."""
        return self._n_expected or (self._follower and self._follower.n_images)

    @property
    def frame_time_s(self) -> float | None:
        """Frame period that a master file gives, s; None before."""
        return self._follower and self._follower.frame_time_s

    @property
    def geometry(self) -> Geometry:
        """Scattering geometry as far as a master file gives it."""
        return Geometry() if self._follower is None else self._follower.geometry

    @property
    def _newest_is_announced(self) -> bool:
        return next(reversed(self._handed_out), "") in self._announced

    def poll(self, is_current: Callable[[], bool] = lambda: True) -> tuple[Followed, ...]:
        """Return the frames that have become complete on disk.

        `is_current` tells whether all documents that have come were looked at.
        """
        if self._follower is None or self._documents_only:
            return ()
        if not self._newest_is_announced:
            self._follower.look_further(is_current)
        return self._hand_out(self._follower.poll())

    def finish(self) -> tuple[Followed, ...]:
        """Return what is left on disk of a run that is over; nothing of series that events named.

        What an event named was read when it came, or is missing. Without an event (the series was
        stopped) the last file is still to come: waits LAST_FILE_S after each that came.
        """
        follower = self._follower
        if follower is None or self._documents_only or self._newest_is_announced:
            return ()
        found = follower.finish()
        until, latest = (time.monotonic() + wait_s for wait_s in (LAST_FILE_S, LONGEST_S))
        while follower.waits and time.monotonic() < min(until, latest):
            time.sleep(POLL_S)
            if more := follower.finish():
                found, until = found + more, time.monotonic() + LAST_FILE_S
        return self._hand_out(found)

    def reconcile(self, reference: FrameReference) -> tuple[Followed, ...]:
        """Return what is left to read of frames that a document announces.

        Frames that cannot be told apart from followed ones are an InvalidInputError.
        """
        if self._follower is not None and isinstance(reference, EigerFrames):
            return self._reconcile_series(reference, self._follower)
        came = not isinstance(reference, MissingFrames)
        n_known = self.already(reference.n_frames, came=came)
        if not n_known:
            return (reference,)
        if n_known == reference.n_frames:
            return ()
        if isinstance(reference, AssetFrames):
            raise InvalidInputError(self._mixed("frames of a legacy asset"))
        if isinstance(reference, MissingFrames):
            rest = reference.n_frames - n_known
            return (MissingFrames(n_frames=rest, reason=reference.reason),)
        if isinstance(reference, InlineFrames):
            return (InlineFrames(frames=reference.frames[n_known:]),)
        return (dataclasses.replace(reference, start=reference.start + n_known),)

    def already(self, n_frames: int, *, came: bool = False) -> int:
        """Return how many of the next announced frames were followed already. Consumes those.

        `came`: the document brings them or says where they are, so that documents win from now on.
        """
        self._documents_only = self._documents_only or came
        n_known = max(0, min(n_frames, self._n_handed_out(self._handed_out) - self._n_dropped))
        self._n_dropped += n_known
        return n_known

    def _n_handed_out(self, series: Iterable[str]) -> int:
        return sum(self._handed_out[name].n_frames for name in series)

    def _hand_out(self, found: list[EigerFrames | StartOver]) -> tuple[Followed, ...]:
        new: list[Followed] = []
        for reference in found:
            if isinstance(reference, StartOver):
                new += self._leave(self._unannounced()[-1:], reference.reason)
                continue
            name = os.path.realpath(reference.series)
            known = self._handed_out.get(name)
            start = max(reference.start, 0 if known is None else known.n_frames)
            if start < (reference.stop or 0):  # else an event brought them
                self._handed_out[name] = dataclasses.replace(reference, start=0)
                new.append(dataclasses.replace(reference, start=start))
        return tuple(new)

    def _unannounced(self) -> list[str]:
        return [name for name in self._handed_out if name not in self._announced]

    def _leave(self, names: list[str], reason: str) -> tuple[Followed, ...]:
        """Return what a run without these series begins anew with; nothing if there are none."""
        if not names:
            return ()
        for name in names:
            del self._handed_out[name]
        rest = (one for one in self._handed_out.values() if one.n_frames)
        return (StartOver(reason=reason), *rest)

    def _reconcile_series(
        self, reference: EigerFrames, follower: EigerFollower
    ) -> tuple[Followed, ...]:
        name = os.path.realpath(reference.series)
        # What was followed before the named one and never named is not of the run.
        before = itertools.takewhile(lambda known: known != name, self._handed_out)
        left = [known for known in before if known not in self._announced]
        again = self._leave(left, _taken_again(reference, left))
        is_new = name not in self._handed_out
        if is_new:
            self._handed_out[name] = dataclasses.replace(reference, start=0, stop=0)
        follower.settle(
            len(self._handed_out) if is_new or left else None, reference if is_new else None
        )
        self._announced.add(name)
        n_read = self._handed_out[name].n_frames
        start = max(reference.start, n_read)
        stop, followed = reference.stop, follower.n_images
        if stop is None or (reference.open_ended and stop < (followed or 0)):
            stop = followed
        if stop is None:  # nobody knows where the series ends: from here on documents tell
            self._documents_only = True
        else:
            follower.pass_over(reference.series, stop)
            self._handed_out[name] = dataclasses.replace(reference, start=0, stop=max(start, stop))
        self._n_dropped = max(
            self._n_dropped, self._n_handed_out(self._announced & self._handed_out.keys())
        )
        is_newest = name == next(reversed(self._handed_out))
        if not is_newest or (stop is not None and start >= stop):
            return again
        return (*again, dataclasses.replace(reference, start=start, stop=stop))

    def _mixed(self, announced: str) -> str:
        followed = ", ".join(self._handed_out[name].series for name in self._unannounced())
        return (
            f"The documents announce {announced}, but the files of {followed} were followed; "
            "expected the same series. Nothing of the two is mixed. Compute the run again with: "
            f"xpcs-live-denoise replay {self._uid} --config xpcs.yml"
        )


def _taken_again(named: EigerFrames, left: list[str]) -> str:
    names = ", ".join(Path(name).name for name in left)
    return (
        f"The event names the series {Path(named.series).name}: the frames of {names}, which were "
        "followed before, are left out. A run that is paused takes its exposure again."
    )


def follow(device: Any, settings: Settings, start: Fields, roots: FileRoots) -> Following | None:
    """Return what follows the detector's files during a run; None where nothing tells them.

    Call it when the start document comes: the device is staged then and its files are still to
    come. A device that tells its files comes before the setting `follow`; a run that does not list
    the detector is not followed.
    """
    detectors = start.get("detectors")
    if not isinstance(detectors, (list, tuple)) or settings.detector not in detectors:
        return None
    n_points = positive_int(start.get("num_points")) or 1
    staged = None if device is None else staged_series(device)
    if staged is not None:
        follower = EigerFollower(
            numbered_series(staged.prefix, staged.sequence_id),
            images_per_file=staged.images_per_file,
            n_images=staged.n_frames,
            n_series=n_points,
            roots=roots,
        )
        return Following(follower, str(start.get("uid")), staged.n_frames * n_points)
    if settings.follow is not None:
        names = new_masters(settings.follow.folder, settings.follow.prefix)
        follower = EigerFollower(names, n_series=n_points, roots=roots)
        return Following(follower, str(start.get("uid")))
    return None
