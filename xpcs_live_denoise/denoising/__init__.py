"""The networks, for C2 and for images of few counts; the only importer of torch."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
