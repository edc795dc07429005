"""How results are found and read again, and the embedded Tiled server."""
