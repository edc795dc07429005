"""Draws a run with matplotlib: in a Qt window, into a picture file, or as a figure."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
