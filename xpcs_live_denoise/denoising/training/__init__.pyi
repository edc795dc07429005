"""Trains the networks of an ensemble, and keeps the best."""

from .data import WindowData as WindowData
from .data import load_windows as load_windows
