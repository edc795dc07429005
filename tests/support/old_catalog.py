"""Runs as a catalog of before 2025 has them."""


class OldRun:
    """A run of a catalog of before 2025: it gives out documents and has no nodes of its own."""

    def __init__(self, documents):
        self.metadata = {"start": documents[0][1], "stop": documents[-1][1]}
        self.specs = []
        self._documents = documents

    def documents(self):
        yield from self._documents
