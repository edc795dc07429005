"""The web page: what `xpcs-live-denoise view` serves."""
