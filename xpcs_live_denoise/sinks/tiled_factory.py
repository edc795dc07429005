"""Makes the Tiled sink of each run; all of them share one connection."""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from typing import Any

from xpcs_live_denoise.config import TiledSettings
from xpcs_live_denoise.records.results import RunInfo

from .tiled import TiledSink
from xpcs_live_denoise.catalog.connection import connect
from xpcs_live_denoise.catalog.nodes import (refuse_raw_runs, results_path)


class TiledSinkFactory:
    """Call it with the RunInfo of a run to get its sink.

    Parameters
    ----------
    settings
        Where results go.
    client
        Tiled client of the root. Default: the first write of the first run connects to
        `settings.uri` with the key in the environment variable `settings.api_key_env`, else in
        the file `settings.api_key_file`.
    """

    def __init__(self, settings: TiledSettings, client: Any | None = None) -> None:
        self._settings = settings
        self._client = client
        self._is_ours = client is None

    def __call__(
        self, info: RunInfo, *, uid: str | None = None, created: float | None = None
    ) -> TiledSink:
        """Return the sink of a run, with `uid` and time of the derived run. Connects to nothing."""
        return TiledSink(
            info,
            client=self._connected,
            path=self._settings.path,
            raw_path=self._settings.raw_path,
            access_tags=self._settings.access_tags,
            uid=uid,
            created=created,
        )

    def connect(self) -> None:
        """Connect now, so that the first run does not wait for it.

        Raises
        ------
        TiledUnavailableError
            When the server does not answer; the first run tries again.
        InvalidInputError
            When there is no key or the server refuses it, or the container holds raw runs.
        """
        segments = results_path(self._settings.path, self._settings.raw_path)
        refuse_raw_runs(self._connected(), segments)

    def close(self) -> None:
        """Close the connection if it was made here; a client that was passed stays open."""
        if self._is_ours and self._client is not None:
            self._client.context.close()
            self._client = None

    def _connected(self) -> Any:
        if self._client is None:
            self._client = connect(self._settings)
        return self._client
