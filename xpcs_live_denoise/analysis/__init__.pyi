"""The analysis of one series: frames in, C2, g2 and Gamma(t) out."""

from .c2 import C2Analysis as C2Analysis
from .detector_image import DetectorImage as DetectorImage
from .series import Analysis as Analysis
from .series import append_note as append_note
from .series import library_versions as library_versions
from .series import open_ensemble as open_ensemble
from .series import open_picture_denoiser as open_picture_denoiser
