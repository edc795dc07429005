"""Roots for readers whose tests are about something else."""

from xpcs_live_denoise.sources import FileRoots

ANYWHERE = FileRoots(None)
