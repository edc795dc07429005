"""Settings: everything a user can choose, from keywords or a YAML file."""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, cast, get_args
from urllib.parse import urlsplit

import numpy as np
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from .errors import InvalidInputError
from .numerics.rois import RoiMap
from .numerics.two_time import MAP_FRAMES
from .numerics.windows import STEP, WINDOW
from .records.types import Array

Positive = Annotated[float, Field(gt=0)]
# Settings of earlier versions that do nothing any more.
_NO_LONGER_NEEDED = frozenset({"c2_bytes", "history_bytes"})


def _ascends(given: tuple[int, int]) -> tuple[int, int]:
    if given[1] <= given[0]:
        raise ValueError("expected the first frame (or lag), and a larger one after the last")
    return given


FrameRange = Annotated[
    tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(gt=0)]], AfterValidator(_ascends)
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plausible:
    """What a quantity can be: from `low` to `high` in its `unit`, called `what`.

    `others` are units in which people have it by mistake, with their size in `unit`.
    """

    what: str
    unit: str
    low: float
    high: float
    others: Mapping[str, float]

    def why_not(self, value: float) -> str:
        """Return what is wrong with a value and what was probably meant; "" if it can be."""
        if self.low <= value <= self.high:
            return ""
        expected = f"expected the {self.what} in {self.unit}, {self.low:g} to {self.high:g}"
        for unit, size in self.others.items():
            if self.low <= (meant := float(f"{value * size:.12g}")) <= self.high:
                return f"{expected}. It looks like {unit}: write {meant:g}"
        return expected

    def check(self, value: float) -> float:
        """Return a value, or raise a ValueError that says why it cannot be."""
        if why_not := self.why_not(value):
            raise ValueError(why_not)
        return value


WAVELENGTH = Plausible(
    what="wavelength", unit="Angstrom", low=0.05, high=100.0, others={"m": 1e10, "pm": 0.01}
)
DISTANCE = Plausible(
    what="distance", unit="m", low=0.01, high=100.0, others={"mm": 1e-3, "um": 1e-6}
)
PIXEL_SIZE = Plausible(
    what="edge of a pixel", unit="m", low=1e-6, high=2e-3, others={"um": 1e-6, "mm": 1e-3}
)
FRAME_TIME = Plausible(what="frame period", unit="s", low=1e-7, high=1e5, others={"ns": 1e-9})
# Farther than any beam is from the edge of a detector; a NaN is no position either.
BEAM_CENTER = Plausible(what="beam center", unit="pixels", low=-1e5, high=1e5, others={})
Pixels = Annotated[float, AfterValidator(BEAM_CENTER.check)]
OneOrMore = BeforeValidator(lambda given: (given,) if isinstance(given, str | Path) else given)


def _is_power_of_two(step: int) -> int:
    if step < 1 or step & (step - 1):
        raise ValueError("expected auto or a power of two: 1, 2, 4, 8 ...")
    return step


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    @field_validator("*", mode="before")
    @classmethod
    def _is_a_word_and_no_boolean(cls, given: Any, info: ValidationInfo) -> Any:
        """Take YAML 1.1's booleans for the words that were written, where such words fit."""
        if not isinstance(given, bool):
            return given
        words = get_args(cls.model_fields[info.field_name or ""].annotation)
        fitting = [word for word in (("on", "yes") if given else ("off", "no")) if word in words]
        return fitting[0] if fitting else given


class TiledSettings(_Model):
    """Where the derived runs go."""

    uri: str = "http://127.0.0.1:8000"
    """Address of the Tiled server."""
    path: str = "processed"
    """Container for derived runs, "/" between levels. Never the one that holds the raw runs."""
    raw_path: str | None = None
    """Container that holds the raw runs; stored with the result so that readers find them."""
    api_key_env: str = "TILED_API_KEY"
    """Environment variable that holds the API key. The key itself is never a setting."""
    api_key_file: Path | None = None
    """File that holds the API key and nothing else; used where the variable is not set."""
    access_tags: Annotated[tuple[str, ...], OneOrMore] = ()
    """Access tags for every node that is created, on a server with access control.
    "{data_session}" stands for that key of the run's start document, so that each proposal sees its
    own runs. Empty: the `tiled_access_tags` of the start document, if it has any."""

    @field_validator("uri")
    @classmethod
    def _is_an_address_without_a_key(cls, uri: str) -> str:
        parts = urlsplit(uri)
        if "api_key" in parts.query or parts.username or parts.password:
            raise ValueError(
                "it holds a key or a password, which logs and every result would show; expected "
                "the address alone, and the key where api_key_env or api_key_file say"
            )
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("it is no address of a server; expected http://host:port")
        return uri

    @field_validator("path")
    @classmethod
    def _names_a_container(cls, path: str) -> str:
        if not path.strip("/ "):
            raise ValueError('expected the name of a container, for example "processed"')
        return path

    @field_validator("raw_path")
    @classmethod
    def _is_not_where_results_go(cls, raw_path: str | None, info: ValidationInfo) -> str | None:
        if raw_path is not None and raw_path.strip("/ ") == info.data.get("path", "").strip("/ "):
            raise ValueError("expected another container than tiled.path, where results go")
        return raw_path


class GeometrySettings(_Model):
    """Scattering geometry; what is not set here comes from the documents."""

    beam_center: tuple[Pixels, Pixels] | None = None
    """Direct beam as (row, col), in pixels of the frames that the documents deliver."""
    wavelength_angstrom: Annotated[Positive, AfterValidator(WAVELENGTH.check)] | None = None
    """X-ray wavelength, Angstrom."""
    detector_distance_m: Annotated[Positive, AfterValidator(DISTANCE.check)] | None = None
    """Distance from sample to detector, m."""
    pixel_size_m: Annotated[Positive, AfterValidator(PIXEL_SIZE.check)] | None = None
    """Edge of a detector pixel, m."""


class OrientationSettings(_Model):
    """How the frames of the documents are turned before ROIs and mask fit them.

    Flips come first, then the rotation. At CHX frames are flipped along the rows, and those of the
    500K are also rotated by 90 degrees.
    """

    flip_rows: bool = False
    """Turn upside down, as `frame[::-1]`."""
    flip_cols: bool = False
    """Mirror left and right, as `frame[:, ::-1]`."""
    rotate: Literal[0, 90, 180, 270] = 0
    """Degrees, counterclockwise, as `numpy.rot90`."""

    def turn(self, image: Array) -> Array:
        """Return an image (rows, cols) of the documents as ROIs and mask see it; a view."""
        image = image[::-1] if self.flip_rows else image
        image = image[:, ::-1] if self.flip_cols else image
        return np.rot90(image, self.rotate // 90)

    def turn_back(self, image: Array) -> Array:
        """Undo `turn`; a view."""
        image = np.rot90(image, -(self.rotate // 90))
        image = image[:, ::-1] if self.flip_cols else image
        return image[::-1] if self.flip_rows else image


class FollowSettings(_Model):
    """Where an Eiger writes its series, for following them without the device (`serve`)."""

    folder: str
    """Folder of the master files; strftime fields such as %Y/%m/%d are filled in at the start."""
    prefix: str = "*"
    """Pattern of the file names before "_<sequence id>_master.h5"."""


class Settings(_Model):
    """Settings of a live analysis. Only `detector` is required.

    Raises
    ------
    InvalidInputError
        For an unknown, missing or impossible setting; the message names it and says what fits.
    """

    detector: str
    """Name of the detector as documents spell it, for example "eiger4m_single"."""
    rois: Path | dict[str, Path] | None = None
    """The ROI file (.npz or .json, see `save_rois`, or a q-map of the APS). Or several by the names
    that `analysis` in start documents may have: {iso: rings.npz, qphi: sectors.npz}. Not needed
    where a RoiMap is passed to LiveDenoise."""
    image_key: str | None = None
    """Data key that holds the frames. Default: "<detector>_image"."""
    stream: str | None = None
    """Stream with the series, where several have the data key. Default: "primary", or the only one;
    dark frames, baseline and monitors come last."""
    mask: Path | None = None
    """Pixel mask (.npy, .npz, .tif, .edf, .h5), 1 or True = keep; on top of the ROI file. Or an
    array on the server of `tiled`, by its path: tiled:chx/sandbox/eiger4m_mask."""
    flat_field: Path | None = None
    """Sensitivity of the pixels (.npy, .npz, .tif, .h5, or in Tiled), an image as large as the mask
    and turned like it; frames are divided by it. Pixels where it is 0, negative or NaN are left
    out."""
    profile: Literal["auto", "off"] = "auto"
    """Divide the pixels of each ROI by the smooth profile of its intensity in the first window, or
    not: unless divided out, intensity that varies inside a ROI looks like a static part."""
    threshold: Annotated[int, Field(ge=1)] | None = None
    """Which threshold to analyse, from 1, where a detector counts above several at once and frames
    come as (n, thresholds, rows, cols), or events as (thresholds, rows, cols). Default: the first,
    with a note; there may be only one. Events of shape (k, rows, cols) then hold k frames."""
    frame_time_s: Annotated[Positive, AfterValidator(FRAME_TIME.check)] | None = None
    """Frame period (the acquire period, never the exposure), s. Default: from the documents."""
    geometry: GeometrySettings = GeometrySettings()
    """Scattering geometry, for q where the ROI file has none."""
    orientation: OrientationSettings = OrientationSettings()
    """How ROIs and mask are turned against the frames of the documents."""
    file_roots: Annotated[tuple[Path, ...] | None, OneOrMore] = None
    """Folders below which files that documents name may be read, symlinks resolved. Default: any
    regular file, for documents of the same process; `serve` does not start without."""
    follow: FollowSettings | None = None
    """Where to look for an Eiger's files while they are written. Default: what `device` says."""
    outliers: Literal["mask", "flag", "off"] = "mask"
    """What becomes of frames that do not belong to the series (beam dumps, cosmic hits, frames
    written twice): gaps in C2, or a note only, or nobody looks."""
    mode: Literal["nonequilibrium", "equilibrium"] = "nonequilibrium"
    """How windows are scaled: Eq. 7 (ageing samples) or Eq. 5 of Konstantinova et al. 2021."""
    window: Annotated[int, Field(ge=2)] = WINDOW
    """Window of the denoiser, frames. The shipped ensemble needs its default."""
    step: Annotated[int, Field(ge=1, validate_default=True)] = STEP
    """Step of the sliding window, frames."""
    baseline_lags: FrameRange | None = None
    """Lags whose mean is baseline*, frames. Default: derived from the series' length."""
    contrast_frames: FrameRange | None = None
    """Quiet frames whose lag-1 mean gives beta*. Default: derived from the series' length."""
    denoiser: Literal["windows", "any_size"] = "windows"
    """What denoises C2: networks for windows of 50 frames along its diagonal ("windows"), or those
    for C2 of any size, which denoise long lags, too ("any_size"): the band while frames come, the
    whole C2 at the end."""
    weights: Path | None = None
    """Folder with an ensemble's weights and model card, of the kind that `denoiser` says. Default:
    the shipped ensemble."""
    denoise: bool = True
    """False computes C2, g2 and raw Gamma(t) only."""
    engine: Literal["auto", "dense", "events", "skbeam"] = "auto"
    """How C2 is computed: all pixels ("dense"), those that hold counts ("events"), or whichever is
    faster for each ROI ("auto"); "skbeam" is scikit-beam's own, slower code."""
    precision: Literal["float32", "float64"] = "float32"
    """Precision of C2."""
    seed: int = 0
    """Seed of the values that replace the diagonal of each window."""
    block_bytes: Annotated[int, Field(ge=1)] = 64 * 2**20
    """Most bytes of frames that are read at once."""
    queue_bytes: Annotated[int, Field(ge=1)] = 2**30
    """Most bytes of pixels that may wait for the worker; frames beyond it become gaps."""
    map_frames: Annotated[int, Field(ge=2, multiple_of=2)] = MAP_FRAMES
    """Most bins of the map of C2 a side, an even number; never fewer than a window has frames. A
    bin is a frame while the series fits; later neighbours are averaged in pairs, again and again,
    and contrast and baseline stay those of the first `map_frames` frames."""
    age_step: Literal["auto"] | Annotated[int, AfterValidator(_is_power_of_two)] = "auto"
    """Frames from one age in the rows of Gamma(t) to the next. "auto": 1 up to 2,000 ages, then 2,
    4, 8 ... A number (2, 4, 8 ...) is the least step: fewer rows where the dynamics are slow."""
    spool: Path | None = None
    """Folder that keeps results while the Tiled server is away. Default: a folder
    xpcs-live-denoise/spool for states of programs in the user's home."""
    publish_period_s: Positive = 0.5
    """Least time between two publications of a live run, s."""
    tiled: TiledSettings = TiledSettings()
    """The Tiled server that results go to."""

    def __init__(self, **fields: Any) -> None:
        if unused := sorted(_NO_LONGER_NEEDED & fields.keys()):
            fields = {name: value for name, value in fields.items() if name not in unused}
            warnings.warn(
                f"Settings: no longer needed: {', '.join(unused)}. A series may have any number of "
                "frames now; take the setting out.",
                stacklevel=2,
            )
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise InvalidInputError(_explain(error)) from error

    @field_validator("step")
    @classmethod
    def _fits_the_window(cls, step: int, info: ValidationInfo) -> int:
        if step > (window := info.data.get("window", step)):
            raise ValueError(f"expected at most {window}, the window, or frames lie in no window")
        return step

    @property
    def data_key(self) -> str:
        """The data key that holds the frames."""
        return self.image_key or f"{self.detector}_image"

    @property
    def least_age_step(self) -> int:
        """Least frames from one age to the next, `age_step` as a number."""
        return 1 if self.age_step == "auto" else self.age_step

    @classmethod
    def load(cls, path: str | Path) -> Settings:
        """Read settings from a YAML file.

        Relative paths in the file are relative to the file.

        Raises
        ------
        InvalidInputError
            When the file is missing, no YAML mapping, or has settings that do not fit.
        """
        import yaml

        path = Path(path)
        try:
            fields = yaml.safe_load(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise InvalidInputError(
                f"Settings file {path}: cannot be read ({error.strerror}). Expected a YAML file; "
                "`xpcs-live-denoise init` writes one."
            ) from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise InvalidInputError(f"Settings file {path}: not valid YAML ({error}).") from error
        if not isinstance(fields, dict):
            raise InvalidInputError(
                f"Settings file {path}: got {type(fields).__name__}, expected a mapping that has "
                'at least "detector: <name>".'
            )
        named = {str(name): value for name, value in cast("dict[Any, Any]", fields).items()}

        def beside(value: Any) -> Any:
            if isinstance(value, list):
                return [beside(item) for item in cast("list[Any]", value)]
            if isinstance(value, dict):
                return {key: beside(item) for key, item in cast("dict[Any, Any]", value).items()}
            if not isinstance(value, str) or node_in_tiled(Path(value)) is not None:
                return value
            return path.parent / Path(value).expanduser()

        for name in {"rois", "mask", "flat_field", "weights", "spool", "file_roots"} & named.keys():
            named[name] = beside(named[name])
        if isinstance(tiled := cast("Any", named.get("tiled")), dict) and "api_key_file" in tiled:
            named["tiled"] = {**tiled, "api_key_file": beside(tiled["api_key_file"])}
        return cls(**named)


def node_in_tiled(path: Path) -> str | None:
    """Return the node that a setting names in the place of a file, None where it names a file."""
    text = path.as_posix()
    return text.removeprefix(IN_TILED).strip("/") if text.startswith(IN_TILED) else None


IN_TILED = "tiled:"
# Settings that change where frames and results lie or what a computer has to hold, and no number.
NO_NUMBER = frozenset(
    {"tiled", "spool", "follow", "file_roots", "publish_period_s", "block_bytes", "queue_bytes"}
)
# Settings that name files: what is in them counts, not what they are called.
_FILES = ("rois", "mask", "flat_field", "weights")


def settings_hash(settings: Settings, rois: RoiMap | None = None) -> str:
    """Return the same text for settings that give the same numbers, else another one.

    What the files hold counts, and `rois` where a ROI map is used instead of the file.
    """
    fields = settings.model_dump(mode="json", exclude=set(NO_NUMBER | set(_FILES)))
    digest = hashlib.sha256(json.dumps(fields, sort_keys=True).encode())
    for name in _FILES:
        digest.update(f"\n{name}\n".encode())
        if name == "rois" and rois is not None:
            for array in (rois.label_array, rois.q_inv_angstrom, rois.phi_deg):
                digest.update(b"" if array is None else np.ascontiguousarray(array).tobytes())
        elif (given := getattr(settings, name)) is not None:
            many = cast("Mapping[str, Path]", given if isinstance(given, Mapping) else {"": given})
            for path in many.values():
                if (node := node_in_tiled(path)) is not None:  # registries keep what they hold
                    digest.update(node.encode())
                    continue
                files = sorted(path.glob("*")) if path.is_dir() else [path]
                for file in files:
                    with contextlib.suppress(OSError):  # who opens it says what is wrong with it
                        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


_NAMES = [
    *Settings.model_fields,
    *(f"tiled.{name}" for name in TiledSettings.model_fields),
    *(f"geometry.{name}" for name in GeometrySettings.model_fields),
    *(f"orientation.{name}" for name in OrientationSettings.model_fields),
    *(f"follow.{name}" for name in FollowSettings.model_fields),
]


def _explain(error: ValidationError) -> str:
    """Return a sentence for every setting that does not fit: what was got, what was expected."""
    lines: list[str] = []
    unheard_of: list[str] = []
    for detail in error.errors():
        name = ".".join(str(part) for part in detail["loc"])
        message = detail["msg"].removeprefix("Value error, ")
        if detail["type"] == "extra_forbidden":
            if near := _near(name):
                lines.append(f"Setting {name!r} is unknown; did you mean {near!r}?")
            else:
                unheard_of.append(name)
        elif detail["type"] == "missing":
            lines.append(f"Setting {name!r} is missing; it is required.")
        elif name in ("tiled", "tiled.uri"):  # it may hold a key
            lines.append(f"Setting {name!r}: {message}.")
        else:
            lines.append(f"Setting {name!r}: got {detail['input']!r}; {message}.")
    if unheard_of:
        sections = {name.rpartition(".")[0] for name in unheard_of}
        known = sorted(name for name in _NAMES if name.rpartition(".")[0] in sections)
        lines.append(f"Unknown: {', '.join(unheard_of)}; expected some of: {', '.join(known)}.")
    return " ".join(lines)


def _near(name: str) -> str:
    """Return the setting that is spelled like an unknown one, wherever it belongs; "" if none."""
    by_last_part = {known.rpartition(".")[2]: known for known in _NAMES}
    near = difflib.get_close_matches(name.rpartition(".")[2].lower(), by_last_part, 1, 0.65)
    return by_last_part[near[0]] if near else ""
