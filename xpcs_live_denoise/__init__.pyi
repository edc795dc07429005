"""Live two-time XPCS with CNN denoising, from Bluesky documents to derived runs in Tiled."""

from .config import Settings as Settings
from .denoising import Ensemble as Ensemble
from .denoising import FrameDenoiser as FrameDenoiser
from .denoising import denoise_frames as denoise_frames
from .denoising import load_ensemble as load_ensemble
from .denoising import load_frame_denoiser as load_frame_denoiser
from .errors import FrameShapeError as FrameShapeError
from .errors import InvalidInputError as InvalidInputError
from .errors import MissingDependencyError as MissingDependencyError
from .errors import ResultNotFoundError as ResultNotFoundError
from .errors import UnreadableFramesError as UnreadableFramesError
from .errors import XpcsError as XpcsError
from .live import LiveDenoise as LiveDenoise
from .live import serve_metrics as serve_metrics
from .live import stop_when_known as stop_when_known
from .live import until_known as until_known
from .numerics.estimator.model_image import c2_model as c2_model
from .numerics.estimator.model_image import c2_residual as c2_residual
from .numerics.fits import PowerLaw as PowerLaw
from .numerics.fits import fit_ages as fit_ages
from .numerics.fits import fit_g2 as fit_g2
from .numerics.fits import fit_power_law as fit_power_law
from .numerics.rois import RoiMap as RoiMap
from .numerics.simulate import simulate_speckle as simulate_speckle
from .numerics.two_time import TwoTimeAccumulator as TwoTimeAccumulator
from .numerics.windows import denoise_two_time as denoise_two_time
from .offline import Result as Result
from .offline import analyse as analyse
from .offline import analyse_c2 as analyse_c2
from .readers import XPCSResult as XPCSResult
from .readers import compare as compare
from .readers import results as results
from .readers import runs as runs
from .records.results import DenoisedTwoTime as DenoisedTwoTime
from .records.results import GammaTable as GammaTable
from .sources import document_publisher as document_publisher
from .sources import load_rois as load_rois
from .sources import save_rois as save_rois
from .window import LivePlot as LivePlot

__version__: str
