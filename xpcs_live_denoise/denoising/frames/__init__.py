"""Networks that denoise images of few counts."""
