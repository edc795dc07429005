"""`python -m xpcs_live_denoise` is the command line."""

from xpcs_live_denoise.commands import main

main()
