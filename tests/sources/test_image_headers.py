"""What headers of image files tell of the frame period and the geometry."""

import fabio
import numpy as np
import pytest
import tifffile

from xpcs_live_denoise.records.frames import Geometry
from xpcs_live_denoise.sources.image_headers import header_facts

FRAME = np.ones((5, 6), np.int32)
# As a Pilatus writes it, with Windows' ends of lines.
PILATUS = "\r\n".join(
    [
        "# Detector: PILATUS 2M, S/N 24-0107",
        "# Pixel_size 172e-6 m x 172e-6 m",
        "# Exposure_time 0.0990 s",
        "# Exposure_period 0.1000 s",
        "# Wavelength 1.0332 A",
        "# Detector_distance 2.06 m",
        "# Beam_xy (738.20, 830.10) pixels",
    ]
)
OF_PILATUS = Geometry(
    beam_center=(830.1, 738.2),
    wavelength_angstrom=1.0332,
    detector_distance_m=2.06,
    pixel_size_m=172e-6,
)
EDF = {
    "Center_1": "3.5",
    "Center_2": "2.5 pixel",
    "PSize_1": "7.5e-05_m",
    "PSize_2": "7.5e-05_m",
    "SampleDistance": "5 m",
    "WaveLength": "1.24e-10",
    "ExposureTime": "0.1",
}


def as_cbf(path, header):
    header = {"_array_data.header_contents": header}
    fabio.cbfimage.CbfImage(data=FRAME, header=header).write(str(path := path / "a.cbf"))
    return path


def as_tiff(path, header):
    tifffile.imwrite(path / "a.tif", FRAME, description=header)
    return path / "a.tif"


def as_edf(path, header):
    fabio.edfimage.EdfImage(data=FRAME, header=header).write(str(path := path / "a.edf"))
    return path


@pytest.mark.parametrize("write", [as_cbf, as_tiff])
def test_period_and_geometry_of_a_pilatus_come_from_its_header(tmp_path, write):
    assert header_facts(write(tmp_path, PILATUS)) == (0.1, OF_PILATUS)
    shorter = PILATUS.replace("(738.20, 830.10)", "(0.00, 0.00)").replace("1.0332 A", "0 A")
    frame_time_s, geometry = header_facts(write(tmp_path, shorter))
    assert (frame_time_s, geometry.beam_center, geometry.wavelength_angstrom) == (0.1, None, None)


def test_an_edf_tells_its_geometry_in_metres_and_from_the_corner_of_a_pixel(tmp_path):
    frame_time_s, geometry = header_facts(as_edf(tmp_path, EDF))
    assert frame_time_s is None  # the exposure is no period
    assert geometry.beam_center == (2.0, 3.0)
    assert geometry.wavelength_angstrom == pytest.approx(1.24)
    assert (geometry.detector_distance_m, geometry.pixel_size_m) == (5.0, 7.5e-5)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"WaveLength": "none"}, "wavelength_angstrom"),
        ({"SampleDistance": "-1"}, "detector_distance_m"),
        ({"PSize_2": "1e-4"}, "pixel_size_m"),  # not square
        ({"PSize_1": "75"}, "pixel_size_m"),
        ({"Center_2": ""}, "beam_center"),
    ],
)
def test_what_cannot_be_true_is_left_alone_and_the_rest_is_taken(tmp_path, change, field):
    _, geometry = header_facts(as_edf(tmp_path, EDF | change))
    unknown = {name for name in Geometry.__slots__ if getattr(geometry, name) is None}
    assert unknown == {field}


def test_a_file_without_a_header_tells_nothing(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", FRAME)
    assert header_facts(tmp_path / "a.tif") == (None, Geometry())
    assert header_facts(as_edf(tmp_path, {})) == (None, Geometry())
