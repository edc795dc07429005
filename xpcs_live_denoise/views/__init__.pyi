"""What a run shows, whoever draws it: the data of each panel, its words, its colours."""

from .state import BAYES as BAYES
from .state import PlotState as PlotState
from .state import Snapshot as Snapshot
