"""Raw runs in Tiled, as the documents and frames that they were."""
