"""Frame period and geometry in the headers of image files: EDF, CBF, and TIFF of a Pilatus.

What stands there is text that people and programs write by hand: each quantity is taken where it
can be true, and left alone where it cannot.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.records.frames import Geometry

MINI_HEADER = "_array_data.header_contents"  # a CBF's, of lines such as "# Exposure_period 0.1 s"
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?"
_VALUE = re.compile(rf"\(?\s*({_NUMBER})[\s_]*([a-zµåÅ]*)", re.IGNORECASE)
_PAIR = re.compile(rf"\(?\s*({_NUMBER})\s*,\s*({_NUMBER})\s*\)?", re.IGNORECASE)
_LINE = re.compile(r"^#\s*([A-Za-z]\w*)[\s:=]+(.+)$", re.MULTILINE)
# Units, with their size in the unit that is wanted; "" is what the format says.
_LENGTHS = {"": 1.0, "m": 1.0, "cm": 1e-2, "mm": 1e-3, "um": 1e-6, "µm": 1e-6}
_WAVES = {"": 1.0, "a": 1.0, "å": 1.0, "angstrom": 1.0, "angstroms": 1.0, "nm": 10.0, "m": 1e10}
_TIMES = {"": 1.0, "s": 1.0, "ms": 1e-3, "us": 1e-6}
# Quantity -> names in headers (lower case), units, and between what it can be true.
_QUANTITIES = {
    "period": (
        ("exposure_period", "frame_period", "acquire_period", "acq_period", "frame_time"),
        _TIMES,
        (1e-8, 1e5),
    ),
    "wavelength": (("wavelength",), _WAVES, (0.01, 100.0)),
    "distance": (("detector_distance", "sampledistance"), _LENGTHS, (1e-3, 1e3)),
    "pixel": (("pixel_size", "psize_1", "pixelsize_1"), _LENGTHS, (1e-7, 1e-2)),
    "pixel_2": (("psize_2", "pixelsize_2"), _LENGTHS, (1e-7, 1e-2)),
    "column": (("center_1", "beam_x", "beam_center_x"), {"": 1.0}, (-1e5, 1e5)),
    "row": (("center_2", "beam_y", "beam_center_y"), {"": 1.0}, (-1e5, 1e5)),
}  # fmt: skip
METRES = 1e-6  # a wavelength without unit that is shorter than this is in m, as EDF has it
ESRF_CORNER = 0.5  # Center_1, Center_2 count from the corner of a pixel, we from its middle


def header_facts(path: Path) -> tuple[float | None, Geometry]:
    """Return the frame period, s, and the geometry that the header of an image file tells.

    The exposure is no period. Pixels that are not square have no size here.
    """
    fields = {name.lower(): text for name, text in _header(path).items()}
    for name, text in _LINE.findall(fields.pop(MINI_HEADER, "")):
        fields.setdefault(name.lower(), text)
    known = {name: _quantity(fields, name) for name in _QUANTITIES}
    center = None
    pair = _PAIR.match(fields.get("beam_xy", ""))
    if pair and (float(pair[1]), float(pair[2])) != (0, 0):  # 0, 0: nobody set it
        center = (float(pair[2]), float(pair[1]))
    elif known["row"] is not None and known["column"] is not None:
        corner = ESRF_CORNER if "center_1" in fields else 0.0
        center = (known["row"] - corner, known["column"] - corner)
    other = known["pixel_2"]
    is_square = known["pixel"] is None or other is None or abs(other / known["pixel"] - 1) < 0.01
    return known["period"], Geometry(
        beam_center=center,
        wavelength_angstrom=known["wavelength"],
        detector_distance_m=known["distance"],
        pixel_size_m=known["pixel"] if is_square else None,
    )


def _quantity(fields: Mapping[str, str], name: str) -> float | None:
    """Return a number of the header in the unit that is wanted; None where it cannot be true."""
    names, units, (least, most) = _QUANTITIES[name]
    match = _VALUE.match(next((fields[one] for one in names if one in fields), "").strip())
    if match is None:
        return None
    value, unit = float(match[1]), match[2].lower()
    if name == "wavelength" and not unit and 0 < value < METRES:
        unit = "m"
    value *= units.get(unit, units[""])
    return value if least <= value <= most else None


def _header(path: Path) -> dict[str, str]:
    """Return the header of a file as texts by name; empty where it has none that can be read."""
    from .image_files import TIFF, open_by_fabio

    try:
        if path.suffix.lower() in TIFF:
            import tifffile

            with tifffile.TiffFile(path) as file:
                return {MINI_HEADER: str(file.pages.first.description)}
        with open_by_fabio(path) as image:
            return {str(name): str(text) for name, text in image.header.items()}
    except InvalidInputError:
        raise
    except Exception:  # whatever the libraries make of it: the frames count
        return {}
