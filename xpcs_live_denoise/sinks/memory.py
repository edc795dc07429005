"""The in-memory sink: what tests and an embedding program look at instead of a server."""

from __future__ import annotations

from xpcs_live_denoise.records.results import Publication, Result
from xpcs_live_denoise.records.run import RunEnd, RunInfo


class MemorySink:
    """Keeps every record in lists.

    Parameters
    ----------
    info
        The run that is written.
    failures
        Errors to raise, one for each of the next calls of `write`, before anything is kept: a
        server that is away for a while.

    Attributes
    ----------
    publications, result, end
        What was written, in order; None for what has not come yet.
    failed
        Records that met one of the failures, in order.
    """

    def __init__(self, info: RunInfo, *, failures: tuple[Exception, ...] = ()):
        self.info = info
        self.publications: list[Publication] = []
        self.result: Result | None = None
        self.end: RunEnd | None = None
        self.failed: list[Publication | Result] = []
        self._failures = list(failures)

    def write(self, record: Publication | Result) -> None:
        """Keep a record, or raise the next of the failures."""
        if self._failures:
            self.failed.append(record)
            raise self._failures.pop(0)
        if isinstance(record, Result):
            self.result = record
        else:
            self.publications.append(record)

    def finish(self, end: RunEnd) -> None:
        """Keep how the run ended."""
        self.end = end
