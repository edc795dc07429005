"""How a service that runs for weeks shows that it is well: counts, metrics, health."""

from .metrics import METRICS as METRICS
from .metrics import Counts as Counts
from .metrics import Health as Health
from .metrics import Metric as Metric
from .metrics import Monitored as Monitored
from .server import MetricsServer as MetricsServer
from .server import serve_monitored as serve_monitored
