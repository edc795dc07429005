"""Where the results of one run go: to Tiled, and on disk as long as Tiled is away."""

from __future__ import annotations

import shlex
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from weakref import WeakSet

from xpcs_live_denoise.config import Settings
from xpcs_live_denoise.records.results import (RunInfo, Sink)

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
    opened
        Gets every spool that is opened; for `what_is_left`.
    """

    def __init__(
        self,
        settings: Settings,
        make_sink: Callable[[RunInfo, str, float], Sink],
        opened: WeakSet[GuardedSpool] | None = None,
    ) -> None:
        self._opened: WeakSet[GuardedSpool] = WeakSet() if opened is None else opened
        self.uid = str(uuid.uuid4())
        self._created = time.time()
        self._settings = settings
        self._make_sink = make_sink

    def __call__(self, info: RunInfo) -> Sink:
        """Return the sink of the run."""
        return self._make_sink(info, self.uid, self._created)

    def open_spool(self, info: RunInfo) -> GuardedSpool:
        """Return the spool of the run. Touches no disk."""
        spool = GuardedSpool(lambda: self._spool(info), info.uid)
        self._opened.add(spool)
        return spool

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


def what_is_left(spools: Iterable[GuardedSpool], unfinished: Sequence[str]) -> list[str]:
    """Return what a session that ends should say of results that are not stored, a line each.

    Parameters
    ----------
    spools
        Those that were opened.
    unfinished
        Uids of raw runs whose stop came but whose results are not delivered yet.
    """
    waiting = [spool for spool in list(spools) if spool.folder is not None]
    lines: list[str] = []
    if waiting and waiting[0].folder is not None:
        root = waiting[0].folder.parent
        runs = "1 run wait" if len(waiting) == 1 else f"{len(waiting)} runs wait"
        lines.append(
            f"Results of {runs} in {root}: `xpcs-live-denoise deliver --config xpcs.yml --spool "
            f"{shlex.quote(str(root))}` stores them when the server is back."
        )
    kept = {spool.uid for spool in waiting if spool.has_end}
    if lost := [uid for uid in unfinished if uid not in kept]:
        lines.append(
            f"Not stored to the end and not on disk: {len(lost)} run(s). `xpcs-live-denoise replay "
            f"{' '.join(lost)} --config xpcs.yml` computes them again."
        )
    return lines
