"""The denoiser for C2 of any size."""
