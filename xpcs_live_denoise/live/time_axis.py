"""The time axis of one run: what a frame is in seconds, decided once and again at the end."""

from __future__ import annotations

import dataclasses

from xpcs_live_denoise.records.results import Publication, Result
from xpcs_live_denoise.records.run import RunInfo
from xpcs_live_denoise.sources import FrameTime, choose_frame_time

from .worker import Begin

FIRST = FrameTime(period_s=None)


class TimeAxis:
    """Gives seconds to what an analysis says in frames.

    Nothing is published while the events of the first frames may still tell how far apart these
    are (`is_held`). What `decide` finds then holds until the end, where all events are asked.
    """

    def __init__(self, begin: Begin, setting_s: float | None) -> None:
        self.begin = begin
        self.is_decided = False
        self.found = FIRST
        self._setting_s = setting_s

    @property
    def is_held(self) -> bool:
        """Whether events that tell are still to come."""
        documents = self.begin.documents
        return not self.is_decided and documents is not None and documents.times.undecided

    def decide(self) -> None:
        """Ask documents, followed files and the events so far."""
        begin = self.begin.with_files()
        known = (self._setting_s, begin.frame_time_s, begin.exposure_s)
        documents = begin.documents
        self.found = (
            choose_frame_time(*known, None) if documents is None else documents.frame_time(*known)
        )
        self.is_decided = True

    def info(self, info: RunInfo) -> RunInfo:
        """Return what is known of the run, with the axis."""
        period_s = self.found.period_s
        return dataclasses.replace(
            info,
            frame_time_s=period_s or 1.0,
            time_unit="frame" if period_s is None else "s",
        )

    def publication(self, per_frame: Publication) -> Publication:
        """Return a publication in seconds."""
        gamma = per_frame.gamma
        return dataclasses.replace(
            per_frame, gamma=gamma and gamma.with_frame_time(self.found.period_s)
        )

    def result(self, per_frame: Result) -> Result:
        """Return a result in seconds."""
        return per_frame.with_frame_time(self.found.period_s)
