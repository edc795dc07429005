"""One run while it is measured: documents in, results delivered, no error into the scan."""

from .callback import LiveDenoise as LiveDenoise
from .known import KnownRates as KnownRates
from .monitor import LiveMonitor as LiveMonitor
from .monitor import serve_metrics as serve_metrics
from .outbox import Timings as Timings
from .progress import SeriesProgress as SeriesProgress
from .until_known import stop_when_known as stop_when_known
from .until_known import until_known as until_known
