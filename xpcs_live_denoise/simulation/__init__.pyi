"""Simulated detectors, the files they write, and the plans that run them."""

from .camera import SIMULATED_GEOMETRY as SIMULATED_GEOMETRY
from .camera import FrameFactory as FrameFactory
from .camera import SimulatedCamera as SimulatedCamera
from .camera import recorded as recorded
from .eiger import SimulatedClassicEiger as SimulatedClassicEiger
from .stream import SimulatedEiger as SimulatedEiger
from .stream import fly_series as fly_series
