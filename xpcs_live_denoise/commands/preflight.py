"""What `serve`, `deliver` and `check` say at their start of what will not work, and how to mend it.

Nothing of it keeps `serve` from analysing: results that cannot be stored wait in the spool.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from xpcs_live_denoise.errors import text_of

if TYPE_CHECKING:
    from xpcs_live_denoise.catalog import Finding
    from xpcs_live_denoise.config import Settings
    from xpcs_live_denoise.sinks import TiledDestination

REDIS = "XPCS_TILED_REDIS"  # where this machine can ask the Redis of the Tiled server, too
PLENTY = 4  # times what must stay free


def tell_findings(settings: Settings, tiled: TiledDestination | None) -> None:
    """Print what will not work, a line each; `tiled` is None where it is away."""
    for finding in findings(settings, tiled):
        word, colour = ("Problem", "red") if finding.problem else ("Note", "yellow")
        typer.echo(f"{typer.style(word, fg=colour)}: {finding.subject}: {finding.text}")


def findings(settings: Settings, tiled: TiledDestination | None) -> Iterator[Finding]:
    """Yield what will not work: server, key, tags, schema, clock, the disk of the spool, Redis."""
    from xpcs_live_denoise.catalog import redis_findings, server_findings
    from xpcs_live_denoise.sinks import default_folder

    if tiled is not None:
        options = settings.tiled
        yield from server_findings(tiled.client(), options.path, options.access_tags)
    yield from _disk(settings.spool or default_folder())
    if uri := os.environ.get(REDIS):
        yield from redis_findings(uri)


def _disk(spool: Path) -> Iterator[Finding]:
    from xpcs_live_denoise.catalog import Finding
    from xpcs_live_denoise.sinks import LEAST_FREE_BYTES

    lost = "what Tiled does not take at once would be kept in memory alone"
    try:
        spool.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=spool) as file:
            file.write(bytes(4096))
        free = shutil.disk_usage(spool).free
    except OSError as error:
        yield Finding(
            subject="spool",
            problem=True,
            text=f"{spool} cannot be written ({text_of(error, 200)}): {lost}. Make room, give this "
            "user the folder, or set `spool` to another one.",
        )
        return
    if free < LEAST_FREE_BYTES * PLENTY:
        yield Finding(
            subject="spool",
            problem=free < LEAST_FREE_BYTES,
            text=f"{free / 2**20:.0f} MiB are free at {spool}, and {LEAST_FREE_BYTES / 2**20:.0f} "
            f"MiB must stay free: {lost}. Make room, or set `spool` to another disk.",
        )
