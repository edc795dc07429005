"""The CNN encoder-decoder ensemble; the only importer of torch."""

from .ensemble import Ensemble as Ensemble
from .ensemble import load_ensemble as load_ensemble
from .evaluation.evaluate import evaluate as evaluate
from .training.recipes import recipe_of as recipe_of
from .training.train import Epoch as Epoch
from .training.train import train as train
from .training.train import training_data as training_data
