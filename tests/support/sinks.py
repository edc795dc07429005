"""A sink that keeps what it is given, for tests to look at."""

from xpcs_live_denoise.records.results import Result


class MemorySink:
    """Keeps every record; raises `failures` first, one a call of `write`: a server that is away."""

    def __init__(self, info, *, failures=()):
        self.info = info
        self.publications = []
        self.result = None
        self.end = None
        self.failed = []  # records that met one of the failures
        self._failures = list(failures)

    def write(self, record):
        if self._failures:
            self.failed.append(record)
            raise self._failures.pop(0)
        if isinstance(record, Result):
            self.result = record
        else:
            self.publications.append(record)

    def finish(self, end):
        self.end = end
