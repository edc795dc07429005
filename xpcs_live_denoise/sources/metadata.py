"""Scattering geometry and frame time out of settings and documents, by one precedence.

Settings come before the start document, that before the device's configuration as it was staged,
that before the configuration in the descriptor. CHX's names are understood with and without the
detector's name in front.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from xpcs_live_denoise.errors import short_repr
from xpcs_live_denoise.records.frames import Geometry
from xpcs_live_denoise.records.types import Fields

if TYPE_CHECKING:
    from xpcs_live_denoise.config import GeometrySettings, Settings

# A distance above this many metres is in millimetres: no XPCS beamline is that long.
LONGEST_DISTANCE_M = 100.0
# What every Eiger has; its documents at CHX do not tell.
EIGER_PIXEL_SIZE_M = 75e-6
# Sources that agree within this do not differ: documents round.
RELATIVE_TOLERANCE = 1e-3


def in_metres(distance: float) -> float:
    """Return a distance in m that may be in mm."""
    return distance / 1000 if distance > LONGEST_DISTANCE_M else distance


# A number that documents may hold: what it is, its unit, and its names there, in order.
_Quantity: TypeAlias = tuple[str, str, tuple[str, ...]]
_BEAM_COL: _Quantity = ("beam centre x (column)", "pixels", ("beam_center_x",))
_BEAM_ROW: _Quantity = ("beam centre y (row)", "pixels", ("beam_center_y",))
_WAVELENGTH: _Quantity = ("wavelength", "Angstrom", ("wavelength", "incident_wavelength"))
_DISTANCE: _Quantity = ("detector distance", "m", ("det_distance", "detector_distance"))
_PIXEL_SIZE: _Quantity = ("pixel size", "m", ("x_pixel_size", "y_pixel_size", "pixel_size"))
_FRAME_TIME: _Quantity = ("frame time", "s", ("acquire period", "acquire_period"))
# A source, the key under which it has a number, what stands there, and its value (None: no number).
_Number: TypeAlias = tuple[str, str, Any, float | None]
_QUANTITIES = (_BEAM_ROW, _BEAM_COL, _WAVELENGTH, _DISTANCE, _PIXEL_SIZE, _FRAME_TIME)


def find_geometry(
    settings: GeometrySettings,
    start: Fields,
    device_configuration: Fields | None,
    descriptor_configuration: Fields | None,
    detector: str,
) -> Geometry:
    """Return the geometry: each quantity from the first source that has it.

    `device_configuration` is what the staged device's `read_configuration()` returned, {key:
    {"value": ...}}, None without a device; `descriptor_configuration` is the descriptor's, {device:
    {"data": {...}}}, None before it came.

    None is what no source has. The two coordinates of the beam centre come from one source.
    Without a pixel size, detectors with "eiger" in their name have that of an Eiger.
    """
    sources = _sources(start, device_configuration, descriptor_configuration, detector)

    def first(quantity: _Quantity) -> float | None:
        return _first(_numbers(quantity, sources, detector))

    pixel_size = settings.pixel_size_m or first(_PIXEL_SIZE)
    if pixel_size is None and "eiger" in detector.lower():
        pixel_size = EIGER_PIXEL_SIZE_M
    return Geometry(
        beam_center=settings.beam_center or _beam_center(sources, detector),
        wavelength_angstrom=settings.wavelength_angstrom or first(_WAVELENGTH),
        detector_distance_m=settings.detector_distance_m or first(_DISTANCE),
        pixel_size_m=pixel_size,
    )


def find_frame_time(
    settings_value: float | None,
    start: Fields,
    device_configuration: Fields | None,
    descriptor_configuration: Fields | None,
    detector: str,
) -> float | None:
    """Return the frame period in s (the acquire period, never the exposure); None if unknown."""
    sources = _sources(start, device_configuration, descriptor_configuration, detector)
    return settings_value or _first(_numbers(_FRAME_TIME, sources, detector))


def geometry_conflicts(
    settings: Settings,
    start: Fields,
    device_configuration: Fields | None,
    descriptor_configuration: Fields | None,
    detector: str,
) -> tuple[str, ...]:
    """Return a sentence for every source that says something else than what is used.

    That is a lower source with another value of the geometry or the frame time, and a value that
    is no positive number.
    """
    sources = _sources(start, device_configuration, descriptor_configuration, detector)
    geometry = settings.geometry
    row, col = geometry.beam_center or _beam_center(sources, detector) or (None, None)
    preset = {
        _BEAM_ROW: row,
        _BEAM_COL: col,
        _WAVELENGTH: geometry.wavelength_angstrom,
        _DISTANCE: geometry.detector_distance_m,
        _PIXEL_SIZE: geometry.pixel_size_m,
        _FRAME_TIME: settings.frame_time_s,
    }
    sentences: list[str] = []
    for quantity in _QUANTITIES:
        numbers = list(_numbers(quantity, sources, detector))
        used = preset[quantity] or _first(iter(numbers))
        for source, key, raw, value in numbers:
            subject = f"The {source}'s {key!r} ({quantity[0]}) is"
            if value is None:
                sentences.append(f"{subject} {short_repr(raw)}, no usable number; it was ignored.")
            elif used and not math.isclose(value, used, rel_tol=RELATIVE_TOLERANCE):
                unit = quantity[1]
                sentences.append(f"{subject} {value:.6g} {unit}; {used:.6g} {unit} is used.")
    return tuple(sentences)


def _sources(
    start: Fields,
    device_configuration: Fields | None,
    descriptor_configuration: Fields | None,
    detector: str,
) -> list[tuple[str, Fields]]:
    """Return the documents in order of precedence, each with its name."""
    device = {
        key: reading["value"]
        for key, reading in (device_configuration or {}).items()
        if isinstance(reading, Mapping) and "value" in reading
    }
    return [
        ("start document", start),
        ("device's configuration", device),
        ("descriptor", detector_data(descriptor_configuration, detector)),
    ]


def detector_data(configuration: object, detector: str) -> Fields:
    """Return the data of the detector in a descriptor's configuration; {} where there are none."""
    for part in (detector, "data"):  # of documents that may hold anything
        configuration = configuration.get(part) if isinstance(configuration, Mapping) else None
    return configuration if isinstance(configuration, Mapping) else {}


def _numbers(
    quantity: _Quantity, sources: list[tuple[str, Fields]], detector: str
) -> Iterator[_Number]:
    """Yield, source by source, the first usable number and whatever stood before it."""
    _, unit, names = quantity
    prefixes = (f"{detector}_", f"{detector}_cam_", "")
    keys = [prefix + name for prefix in prefixes for name in names]
    for source, document in sources:
        for key in keys:
            if key not in document:
                continue
            value = _usable(document[key], signed=unit == "pixels")
            in_unit = value if value is None or quantity is not _DISTANCE else in_metres(value)
            yield source, key, document[key], in_unit
            if value is not None:
                break


def _first(numbers: Iterator[_Number]) -> float | None:
    return next((value for *_, value in numbers if value is not None), None)


def _beam_center(sources: list[tuple[str, Fields]], detector: str) -> tuple[float, float] | None:
    """Return (row, col) from the first source that has both."""
    for source in sources:
        row = _first(_numbers(_BEAM_ROW, [source], detector))
        col = _first(_numbers(_BEAM_COL, [source], detector))
        if row is not None and col is not None:
            return row, col
    return None


def _usable(raw: Any, *, signed: bool) -> float | None:
    """Return a finite number above 0, also from text as CHX stores it; None for anything else.

    `signed` ones may be below 0, too: the beam may miss the detector. 0 is what nobody set.
    """
    try:
        value = float(raw)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return None
    return value if math.isfinite(value) and (value > 0 or (signed and value < 0)) else None
