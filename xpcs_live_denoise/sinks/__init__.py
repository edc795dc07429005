"""Where the results of a run go: Tiled, the spool on disk, a line in the terminal, memory."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
