"""Where the derived runs of a session go: a container in Tiled, with a spool in front of it."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from xpcs_live_denoise.config import Settings
from xpcs_live_denoise.records.run import RunInfo
from xpcs_live_denoise.records.types import Fields

from .spool import Spool, default_folder

if TYPE_CHECKING:
    from xpcs_live_denoise.catalog import Node

    from .run import TiledSink


class TiledDestination:
    """The container for derived runs that settings name, and one connection for all of its sinks.

    Making it connects to nothing and imports no Tiled, which takes a second. Without a `client` the
    first sink that writes connects to `settings.tiled.uri`; the server may then take `request_s`
    for an answer.
    """

    def __init__(
        self, settings: Settings, client: Node | None = None, *, request_s: float = 10.0
    ) -> None:
        self._settings = settings
        self._client = client
        self._is_ours = client is None
        self._request_s = request_s

    @property
    def path(self) -> str:
        """The container, "/" between levels."""
        return self._settings.tiled.path

    def spool(self, info: RunInfo) -> Spool:
        """Return the spool of a new derived run. Touches no disk."""
        tiled = self._settings.tiled
        return Spool(
            self._settings.spool or default_folder(),
            info,
            uid=str(uuid.uuid4()),
            time=time.time(),
            path=tiled.path,
            raw_path=tiled.raw_path,
            access_tags=access_tags(tiled.access_tags, info.start),
        )

    def sink(
        self, spool: Spool, *, path: str | None = None, access_tags: Sequence[str] = ()
    ) -> TiledSink:
        """Return the sink of the derived run that a spool is for.

        `path` and `access_tags` are used instead of those that the spool has. Connects to nothing;
        raises InvalidInputError for the container of the raw runs.
        """
        from .run import TiledSink

        return TiledSink(
            spool.info,
            client=self.client,
            path=spool.path if path is None else path,
            raw_path=spool.raw_path,
            access_tags=access_tags or spool.access_tags,
            uid=spool.uid,
            created=spool.time,
        )

    def client(self) -> Node:
        """Return the client of the root; connects if nobody has yet."""
        from xpcs_live_denoise.catalog import connect

        if self._client is None:
            self._client = connect(self._settings.tiled, request_s=self._request_s)
        return self._client

    def probe(self) -> None:
        """Raise unless the server answers."""
        from xpcs_live_denoise.catalog import probe

        probe(self.client())

    def check(self) -> None:
        """Connect, and raise unless the container may take results: none that holds raw runs."""
        from xpcs_live_denoise.catalog import refuse_raw_runs, results_path

        tiled = self._settings.tiled
        segments = results_path(tiled.path, tiled.raw_path)
        refuse_raw_runs(self.client(), segments)

    def close(self) -> None:
        """Close the connection if it was made here; a client that was passed stays open."""
        if self._is_ours and self._client is not None:
            self._client.context.close()
            self._client = None


_KEY = re.compile(r"\{([^{}]+)\}")


def access_tags(wanted: Sequence[str], start: Fields) -> tuple[str, ...]:
    """Return the access tags of the result of a run.

    "{name}" in a wanted one stands for that key of the start document. A key that is not there
    stays as it was written: the server refuses such a tag, and the result waits in the spool, seen
    by nobody that should not. Without wanted ones they are those that the raw run was given.
    """
    if not wanted:
        given = start.get("tiled_access_tags")
        if isinstance(given, str):
            return (given,)
        return tuple(map(str, cast("list[Any]", given))) if isinstance(given, list | tuple) else ()

    def value(match: re.Match[str]) -> str:
        found = start.get(match[1])
        return str(found) if isinstance(found, str | int) and found != "" else match[0]

    return tuple(dict.fromkeys(_KEY.sub(value, tag) for tag in wanted))
