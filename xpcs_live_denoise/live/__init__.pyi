"""One run while it is measured: documents in, results delivered, no error into the scan."""

from .callback import LiveDenoise as LiveDenoise
from .outbox import Timings as Timings
from .progress import SeriesProgress as SeriesProgress
