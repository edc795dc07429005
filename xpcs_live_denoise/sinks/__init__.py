"""Where results go: Tiled, or memory for tests."""
