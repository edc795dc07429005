"""One run while it is measured: documents in, results delivered, no error into the scan."""

from .callback import LiveDenoise as LiveDenoise
from .progress import SeriesProgress as SeriesProgress
from .timings import Timings as Timings
