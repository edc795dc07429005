"""`python -m xpcs_live_denoise` is the command line."""

from .app import main

main()
