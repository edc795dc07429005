"""What a run shows, whoever draws it: the data of each panel, its words, its colours."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
