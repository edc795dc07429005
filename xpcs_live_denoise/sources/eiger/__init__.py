"""The files of a DECTRIS Eiger: read, followed while they grow, joined with their documents."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
