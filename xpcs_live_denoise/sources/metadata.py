"""Scattering geometry and frame time out of settings and documents, by one precedence.

Settings come before the start document, that before the device's configuration as it was staged,
that before the configuration in the descriptor. Names are understood with and without the
detector's name in front, as classic ophyd (`<det>_cam_acquire_period`) and ophyd-async spell them
(`<det>-driver-acquire_period`): see `_rank`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from xpcs_live_denoise.config import DISTANCE, PIXEL_SIZE, WAVELENGTH
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
_FRAME_TIME: _Quantity = (
    "frame time",
    "s",
    (
        *("acquire_period", "acquisition_period", "frame_period", "frame_time"),
        *("frame_rate", "acquisition_rate", "frames_per_second"),  # the last ones: _RATES
    ),
)
# Names of a frame rate, in Hz, by the place of the name; asked where no period is told.
_RATES = range(4, 7)
_EXPOSURE: _Quantity = (
    "exposure",
    "s",
    ("acquire_time", "acquisition_time", "exposure_time", "count_time"),
)
_START = "start document"
# Keys that are longer are no names.
MOST_CHARACTERS = 200
# What quantities can be, by their name.
_POSSIBLE = {
    _WAVELENGTH[0]: WAVELENGTH,
    _DISTANCE[0]: DISTANCE,
    _PIXEL_SIZE[0]: PIXEL_SIZE,
}
# A source, the key under which it has a number, what stands there, and its value (None: no number).
_Number: TypeAlias = tuple[str, str, Any, float | None]
_QUANTITIES = (_BEAM_ROW, _BEAM_COL, _WAVELENGTH, _DISTANCE, _PIXEL_SIZE, _FRAME_TIME)
# Parts of a detector that may stand between its name and that of a quantity.
_READ_BACK = re.compile(r"(rbv|readback)$")
_PARTS = re.compile(
    r"(cam(era)?\d*|driver|drv|detector|det|controller|control|ctrl|io|acquisition|acq|timing)*"
)
# A period below the exposure cannot be; documents round.
EXPOSURE_TOLERANCE = 0.01


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
    """Return the frame period in s (the acquire period, never the exposure); None if unknown.

    A period below the exposure cannot be, and is passed over.
    """
    sources = _sources(start, device_configuration, descriptor_configuration, detector)
    return settings_value or _first(
        number for number, exposure_s in _periods(sources, detector) if exposure_s is None
    )


def find_exposure(
    start: Fields,
    device_configuration: Fields | None,
    descriptor_configuration: Fields | None,
    detector: str,
) -> float | None:
    """Return the exposure of a frame in s; None if no document tells it."""
    sources = _sources(start, device_configuration, descriptor_configuration, detector)
    return _first(_numbers(_EXPOSURE, sources, detector))


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
    impossible = {
        number[:2]: exposure_s
        for number, exposure_s in _periods(sources, detector)
        if exposure_s is not None
    }
    preset[_FRAME_TIME] = preset[_FRAME_TIME] or find_frame_time(
        None, start, device_configuration, descriptor_configuration, detector
    )
    sentences: list[str] = []
    for quantity in _QUANTITIES:
        numbers = list(_numbers(quantity, sources, detector))
        used = preset[quantity] or (None if quantity is _FRAME_TIME else _first(iter(numbers)))
        for source, key, raw, value in numbers:
            subject = f"The {source}'s {key!r} ({quantity[0]}) is"
            if value is None:
                sentences.append(f"{subject} {short_repr(raw)}, no usable number; it was ignored.")
            elif quantity is _FRAME_TIME and (source, key) in impossible:
                sentences.append(
                    f"{subject} {value:.6g} s, below the exposure of "
                    f"{impossible[source, key]:.6g} s, which cannot be; it was ignored."
                )
            elif used and not math.isclose(value, used, rel_tol=RELATIVE_TOLERANCE):
                unit = quantity[1]
                which = f"{used:.6g} {unit} is used."
                if quantity is _FRAME_TIME:  # the times of events may still tell another one
                    which = f"{used:.6g} {unit}, of a setting or another document, goes first."
                sentences.append(f"{subject} {value:.6g} {unit}; {which}")
    return tuple(sentences)


def is_below(period_s: float | None, exposure_s: float | None) -> bool:
    """Whether a period cannot be."""
    if period_s is None or exposure_s is None:
        return False
    return period_s < exposure_s * (1 - EXPOSURE_TOLERANCE)


def _periods(
    sources: list[tuple[str, Fields]], detector: str
) -> Iterator[tuple[_Number, float | None]]:
    """Yield the frame periods, each with the exposure that it is below, None if it can be."""
    anywhere = _first(_numbers(_EXPOSURE, sources, detector))
    for source in sources:
        exposure_s = _first(_numbers(_EXPOSURE, [source], detector)) or anywhere
        for number in _numbers(_FRAME_TIME, [source], detector):
            yield number, exposure_s if is_below(number[3], exposure_s) else None


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
        (_START, start),
        ("device's configuration", device),
        ("descriptor", detector_data(descriptor_configuration, detector)),
    ]


def detector_data(configuration: object, detector: str) -> Fields:
    """Return the data of the detector in a descriptor's configuration; {} where there are none.

    A part of the detector, such as its driver, may be a device of its own.
    """
    if not isinstance(configuration, Mapping):  # documents may hold anything
        return {}
    prefix, found = _letters(detector), {}
    for name, device in configuration.items():
        is_part = isinstance(name, str) and 0 < len(name) <= MOST_CHARACTERS and name != detector
        letters = _letters(name) if is_part else ""
        if name != detector and not (
            prefix and letters.startswith(prefix) and _PARTS.fullmatch(letters, len(prefix))
        ):
            continue
        data = device.get("data") if isinstance(device, Mapping) else None
        if isinstance(data, Mapping):
            found = {**found, **data} if name == detector else {**data, **found}
    return found


def _numbers(
    quantity: _Quantity, sources: list[tuple[str, Fields]], detector: str
) -> Iterator[_Number]:
    """Yield, source by source, the first usable number and whatever stood before it.

    Of frame periods all: the first need not be possible.
    """
    _, unit, names = quantity
    every = quantity is _FRAME_TIME  # what cannot be does not hide what can
    for source, document in sources:
        is_own = source != _START
        ranked = [(_rank(key, names, detector, is_own=is_own), key) for key in document]
        known = sorted((rank, key) for rank, key in ranked if rank is not None)
        if every and (periods := [one for one in known if one[0][2] not in _RATES]):
            known = periods
        for rank, key in known:
            value = _usable(document[key], signed=unit == "pixels")
            if value is not None and every and rank[2] in _RATES:
                value = _usable(1 / value, signed=False)
            if value is not None and quantity is _DISTANCE:
                value = in_metres(value)
            possible = _POSSIBLE.get(quantity[0])
            if value is not None and possible is not None and possible.why_not(value):
                value = None  # a number in another unit would put q off by orders of magnitude
            yield source, key, document[key], value
            if value is not None and not every:
                break


def _rank(
    key: object, names: tuple[str, ...], detector: str, *, is_own: bool
) -> tuple[int, int, int] | None:
    """Return how well a key is one of the names, lower is better; None for another one.

    A name is spelled with any separators and in any case. Before it may stand the detector's name,
    and behind that, or in a document of the detector alone (`is_own`), parts of the detector.
    """
    if not isinstance(key, str) or len(key) > MOST_CHARACTERS:
        return None
    letters, prefix = _READ_BACK.sub("", _letters(key)), _letters(detector)
    for number, name in enumerate(map(_letters, names)):
        if not letters.endswith(name):
            continue
        before = letters[: -len(name)]
        part = before.removeprefix(prefix)
        if prefix and before.startswith(prefix) and _PARTS.fullmatch(part):
            return (0, len(part), number)
        if not before or (is_own and _PARTS.fullmatch(before)):
            return (1, len(before), number)
    return None


def _letters(text: str) -> str:
    """Return a name without what separates its words, in lower case."""
    return "".join(letter for letter in text.lower() if letter.isalnum())


def _first(numbers: Iterable[_Number]) -> float | None:
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
    """Return a finite number above 0, also from text or a list of one; None for anything else.

    `signed` ones may be below 0, too: the beam may miss the detector. 0 is what nobody set.
    """
    while type(raw) in {list, tuple} and len(raw) == 1:
        raw = raw[0]
    if getattr(raw, "shape", ()) and getattr(raw, "size", 0) == 1:  # an array of one
        raw = raw.item()
    try:
        value = float(raw)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return None
    return value if math.isfinite(value) and (value > 0 or (signed and value < 0)) else None
