"""What a run has to tell: each sentence once, in the log and for the status."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from .errors import one_line

logger = logging.getLogger(__name__)

# Sentences that a run keeps: a detector that fails a thousand times must not fill the log.
MOST_NOTES = 20
# Of a sentence: what documents hold may be long.
MOST_CHARACTERS = 2000


class Notes:
    """The sentences of one run, in order; iterating consumes nothing.

    Parameters
    ----------
    uid
        Of the run, for the log.

    Attributes
    ----------
    why_missing
        The first sentence that told of missing frames, "" if none did.
    """

    def __init__(self, uid: str) -> None:
        self.why_missing = ""
        self._uid = uid
        self._sentences: list[str] = []

    def add(self, sentence: str, *, missing: bool = False) -> None:
        """Log and keep a sentence, cut to MOST_CHARACTERS, once, and unless MOST_NOTES were.

        `missing`: it tells of frames that could not be had.
        """
        sentence = one_line(sentence, MOST_CHARACTERS)
        if missing:
            self.why_missing = self.why_missing or sentence
        if sentence in self._sentences or len(self._sentences) > MOST_NOTES:
            return
        if len(self._sentences) == MOST_NOTES:
            sentence = "There was more to tell; only the beginning is kept."
        self._sentences.append(sentence)
        logger.warning("Run %s: %s", self._uid, sentence)

    def __iter__(self) -> Iterator[str]:
        return iter(self._sentences)
