"""What people type: one file a command."""

from .cli import main as main
