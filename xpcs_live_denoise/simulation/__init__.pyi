"""Simulated detectors, the files they write, and the plans that run them."""

from .camera import SIMULATED_GEOMETRY as SIMULATED_GEOMETRY
from .camera import FrameFactory as FrameFactory
from .camera import SimulatedCamera as SimulatedCamera
from .camera import recorded as recorded
from .demo_series import DemoSeries as DemoSeries
from .demo_series import recorded_series as recorded_series
from .demo_series import simulated_series as simulated_series
from .eiger import SimulatedClassicEiger as SimulatedClassicEiger
from .stream import SimulatedEiger as SimulatedEiger
from .stream import fly_series as fly_series
