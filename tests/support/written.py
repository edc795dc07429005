"""Writes records to a Tiled sink as a worker does, for tests of what reads them meanwhile."""

import time

import httpx

from xpcs_live_denoise.records.run import RunEnd


def publish(sink, record):
    """Write, and again if the server failed: the caller of a sink offers what it did not take."""
    for delay_s in (0.2, 0.5, 1, 2, 4):
        try:
            return sink.write(record)
        except httpx.HTTPError:
            time.sleep(delay_s)
    return sink.write(record)


def end(sink, result):
    """Write the final result, and close the run."""
    publish(sink, result)
    sink.finish(
        RunEnd(
            raw_exit_status="success",
            analysis_exit_status="success",
            reason="",
            status=result.status,
        )
    )
