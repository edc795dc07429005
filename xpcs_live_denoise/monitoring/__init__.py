"""How a service that runs for weeks shows that it is well: counts, metrics, health."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
