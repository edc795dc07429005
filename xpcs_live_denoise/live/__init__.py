"""One run while it is measured: documents in, results delivered, no error into the scan."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
