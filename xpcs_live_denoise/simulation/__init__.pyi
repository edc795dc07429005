"""Simulated detectors, the files they write, and the plans that run them."""

from .demo_series import DemoSeries as DemoSeries
from .demo_series import recorded_series as recorded_series
from .demo_series import simulated_series as simulated_series
from .detectors import SIMULATED_GEOMETRY as SIMULATED_GEOMETRY
from .detectors import FrameFactory as FrameFactory
from .detectors import SimulatedCamera as SimulatedCamera
from .detectors import SimulatedEiger as SimulatedEiger
from .detectors import fly_series as fly_series
from .detectors import recorded as recorded
from .eiger import SimulatedClassicEiger as SimulatedClassicEiger
