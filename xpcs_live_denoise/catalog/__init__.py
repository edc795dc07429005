"""What speaks to Tiled and is neither a source nor a sink: connection, nodes, schema, server."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
