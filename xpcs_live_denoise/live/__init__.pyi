"""One run while it is measured: documents in, results delivered, no error into the scan."""

from .callback import LiveDenoise as LiveDenoise
from .outbox import NOT_STORED as NOT_STORED
from .outbox import REFUSED as REFUSED
from .progress import SeriesProgress as SeriesProgress
