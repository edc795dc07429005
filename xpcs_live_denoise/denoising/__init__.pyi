"""The networks, for C2 and for images of few counts; the only importer of torch."""

from .ensemble import Ensemble as Ensemble
from .ensemble import load_ensemble as load_ensemble
from .evaluation.evaluate import evaluate as evaluate
from .evaluation.frames import compare_measured as compare_measured
from .evaluation.frames import compare_simulated as compare_simulated
from .evaluation.maps import MapEvaluation as MapEvaluation
from .evaluation.maps import evaluate_maps as evaluate_maps
from .evaluation.maps import gaussian_map as gaussian_map
from .evaluation.published import load_published as load_published
from .frames.denoise import check_shape as check_shape
from .frames.denoise import denoise_frames as denoise_frames
from .frames.denoise import denoise_sum as denoise_sum
from .frames.denoise import picture_denoiser as picture_denoiser
from .frames.denoiser import FrameDenoiser as FrameDenoiser
from .frames.denoiser import load_frame_denoiser as load_frame_denoiser
from .training.any_size import train_any_size as train_any_size
from .training.frames import FrameProgress as FrameProgress
from .training.frames import FrameRecipe as FrameRecipe
from .training.frames import train_frames as train_frames
from .training.image_pairs import MeasuredImages as MeasuredImages
from .training.image_pairs import SimulatedImages as SimulatedImages
from .training.recipes import recipe_of as recipe_of
from .training.train import Epoch as Epoch
from .training.train import train as train
from .training.train import training_data as training_data
