"""The CNN encoder-decoder ensemble; the only importer of torch."""
