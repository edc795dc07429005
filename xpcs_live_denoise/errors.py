"""The exceptions of this package: one tree, each also a builtin.

XpcsError
 +- InvalidInputError (ValueError)        an argument, array, file or setting that cannot be used
 |   +- FrameShapeError                   frames whose shape or dtype does not fit the run
 +- UnreadableFramesError (OSError)       a file or dataset behind a document that cannot be read
 +- MissingDependencyError (ImportError)  an optional library that a call needs
 +- ResultNotFoundError (LookupError)     nothing was derived from the run that was asked for
 +- TiledUnavailableError (ConnectionError)  the Tiled server does not answer
 +- ServerStartError (RuntimeError)       the embedded Tiled server did not come up
"""


class XpcsError(Exception):
    """Base of every exception that this package raises on purpose."""


class InvalidInputError(XpcsError, ValueError):
    """An argument, array, file content or setting that cannot be used."""


class FrameShapeError(InvalidInputError):
    """Frames whose shape or dtype does not fit the ROI map or the frames before them."""


class UnreadableFramesError(XpcsError, OSError):
    """A file or dataset behind a document that cannot be read."""


class MissingDependencyError(XpcsError, ImportError):
    """An optional library that a call needs is not installed."""


class ResultNotFoundError(XpcsError, LookupError):
    """No result was derived from the run that was asked for."""


class TiledUnavailableError(XpcsError, ConnectionError):
    """The Tiled server does not answer."""


class ServerStartError(XpcsError, RuntimeError):
    """The embedded Tiled server did not come up."""
