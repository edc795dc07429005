"""Draws runs for a browser: access, the list of runs, one run followed live."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
