"""The CNN encoder-decoder ensemble; the only importer of torch."""

from .ensemble import Ensemble as Ensemble
from .ensemble import load_ensemble as load_ensemble
from .evaluation.evaluate import evaluate as evaluate
from .evaluation.maps import MapEvaluation as MapEvaluation
from .evaluation.maps import evaluate_maps as evaluate_maps
from .evaluation.maps import gaussian_map as gaussian_map
from .evaluation.published import load_published as load_published
from .training.any_size import train_any_size as train_any_size
from .training.recipes import recipe_of as recipe_of
from .training.train import Epoch as Epoch
from .training.train import train as train
from .training.train import training_data as training_data
