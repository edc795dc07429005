"""The exceptions of this package: one tree, each also a builtin.

XpcsError
 +- InvalidInputError (ValueError)        an argument, array, file or setting that cannot be used
 |   +- FrameShapeError                   frames whose shape or dtype does not fit the run
 +- UnreadableFramesError (OSError)       a file or dataset behind a document that cannot be read
 +- UnwritableFileError (OSError)         a file that was asked for and cannot be written
 +- MissingDependencyError (ImportError)  an optional library that a call needs
 +- ResultNotFoundError (LookupError)     nothing was derived from the run that was asked for
 +- TiledUnavailableError (ConnectionError)  the Tiled server does not answer
 +- SpoolInUseError (BlockingIOError)     another process has the spooled run
 +- ResultInUseError (BlockingIOError)    another process computes the same result
"""

import reprlib

_REPR = reprlib.Repr()
_REPR.maxlevel, _REPR.maxstring, _REPR.maxother = 3, 120, 120


def short_repr(value: object) -> str:
    """Return what a message shows of a value from outside: at most 200 characters, never raises."""
    try:
        text = _REPR.repr(value)
    except Exception:  # a __repr__ of anybody's, nesting too deep, an int of too many digits
        text = f"<{type(value).__name__}>"
    return text if len(text) <= 200 else f"{text[:197]}..."


def one_line(text: str, most: int = 2000) -> str:
    """Return at most `most` characters of a text from outside as every terminal and store takes it.

    What cannot be printed becomes "?": terminals obey control characters, JSON in UTF-8 has no half
    of a surrogate pair, and PostgreSQL no null character.
    """
    line = " ".join(text[:most].split())
    return "".join(letter if letter.isprintable() else "?" for letter in line)


def text_of(error: BaseException, most: int = 2000) -> str:
    """Return what an exception says, in one line of at most `most` characters; never raises."""
    try:
        return one_line(str(error), most)
    except Exception:  # as in short_repr
        return "it cannot say what"


def install_line(extra: str) -> str:
    """Return what to type for an extra: the package is installed from a clone, from no index."""
    return f"In a clone of the repository: pip install '.[{extra}]'"


class Once:
    """Which sentences a user has been told: each is told once, and no more than `most` of them.

    Parameters
    ----------
    most
        Different sentences that are told: what goes wrong a thousand ways must not fill the log.
    """

    def __init__(self, most: int = 50) -> None:
        self._most = most
        self._told: set[str] = set()

    def is_news(self, sentence: str) -> bool:
        """Whether it was not told yet; asking counts as telling."""
        if sentence in self._told or len(self._told) >= self._most:
            return False
        self._told.add(sentence)
        return True


class XpcsError(Exception):
    """Base of every exception that this package raises on purpose."""


class InvalidInputError(XpcsError, ValueError):
    """An argument, array, file content or setting that cannot be used."""


class FrameShapeError(InvalidInputError):
    """Frames whose shape or dtype does not fit the ROI map or the frames before them."""


class UnreadableFramesError(XpcsError, OSError):
    """A file or dataset behind a document that cannot be read.

    Attributes
    ----------
    missing_until
        Frame at which reading can go on after those that are missing, counted as the reference
        counts its own; None where nothing more can be read.
    """

    def __init__(self, message: str, *, missing_until: int | None = None) -> None:
        super().__init__(message)
        self.missing_until = missing_until


class UnwritableFileError(XpcsError, OSError):
    """A file that was asked for and cannot be written, on a full disk for example."""


class MissingDependencyError(XpcsError, ImportError):
    """An optional library that a call needs is not installed."""


class ResultNotFoundError(XpcsError, LookupError):
    """No result was derived from the run that was asked for."""


class TiledUnavailableError(XpcsError, ConnectionError):
    """The Tiled server does not answer, or the embedded one did not come up."""


class SpoolInUseError(XpcsError, BlockingIOError):
    """Another process has the spooled run."""


class ResultInUseError(XpcsError, BlockingIOError):
    """Another process computes the same result of the run just now."""
