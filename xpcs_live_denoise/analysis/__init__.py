"""The analysis of one series: frames in, C2, g2 and Gamma(t) out."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
