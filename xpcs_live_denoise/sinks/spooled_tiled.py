"""Where the results of one run go: to Tiled, and on disk as long as Tiled is away."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from pathlib import Path

from xpcs_live_denoise.config import Settings
from xpcs_live_denoise.records import RunInfo, Sink

from .guarded_spool import GuardedSpool
from .spool import RunSpool, default_folder


class SpooledTiled:
    """A sink factory for one run whose spool carries the same derived uid as its sink.

    Parameters
    ----------
    settings
        Where results go, and the folder of the spool.
    make_sink
        Makes the sink from RunInfo, uid and time of the derived run. Imported and connected as
        late as possible, so not by this module.
    """

    def __init__(
        self, settings: Settings, make_sink: Callable[[RunInfo, str, float], Sink]
    ) -> None:
        self.uid = str(uuid.uuid4())
        self._created = time.time()
        self._settings = settings
        self._make_sink = make_sink

    def __call__(self, info: RunInfo) -> Sink:
        """Return the sink of the run."""
        return self._make_sink(info, self.uid, self._created)

    def open_spool(self, info: RunInfo) -> GuardedSpool:
        """Return the spool of the run. Touches no disk."""
        return GuardedSpool(lambda: self._spool(info), info.uid)

    def _spool(self, info: RunInfo) -> RunSpool:
        tiled = self._settings.tiled
        root: Path = self._settings.spool or default_folder()
        return RunSpool(
            root,
            info,
            uid=self.uid,
            time=self._created,
            path=tiled.path,
            raw_path=tiled.raw_path,
            access_tags=tiled.access_tags,
        )
