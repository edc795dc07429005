"""Settings: everything a user can choose, from keywords or a YAML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, cast
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from .errors import InvalidInputError
from .numerics.windows import STEP, WINDOW

Positive = Annotated[float, Field(gt=0)]
FrameRange = Annotated[
    tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(gt=0)]],
    Field(description="First frame (or lag), and the one after the last."),
]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


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
    access_tags: tuple[str, ...] = ()
    """Access tags for every node that is created; NSLS-II's server asks for them."""

    @field_validator("uri")
    @classmethod
    def _holds_no_key(cls, uri: str) -> str:
        parts = urlsplit(uri)
        if "api_key" in parts.query or parts.username or parts.password:
            raise ValueError(
                "it holds a key or a password, which logs and every result would show; expected "
                "the address alone, and the key where api_key_env or api_key_file say"
            )
        return uri


class GeometrySettings(_Model):
    """Scattering geometry; what is not set here comes from the documents."""

    beam_center: tuple[float, float] | None = None
    """Direct beam as (row, col), in pixels of the frames that the documents deliver."""
    wavelength_angstrom: Positive | None = None
    """X-ray wavelength, Angstrom."""
    detector_distance_m: Positive | None = None
    """Distance from sample to detector, m."""
    pixel_size_m: Positive | None = None
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

    def turn(self, image: NDArray[Any]) -> NDArray[Any]:
        """Return an image (rows, cols) of the documents as ROIs and mask see it; a view."""
        image = image[::-1] if self.flip_rows else image
        image = image[:, ::-1] if self.flip_cols else image
        return np.rot90(image, self.rotate // 90)

    def turn_back(self, image: NDArray[Any]) -> NDArray[Any]:
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
    rois: Path | None = None
    """The ROI file (.npz, see `save_rois`). Not needed where a RoiMap is passed to LiveDenoise."""
    image_key: str | None = None
    """Data key that holds the frames. Default: "<detector>_image"."""
    mask: Path | None = None
    """Pixel mask (.npy or .npz), 1 or True = keep; applied on top of the ROI file."""
    frame_time_s: Positive | None = None
    """Frame period (the acquire period, never the exposure), s. Default: from the documents."""
    geometry: GeometrySettings = GeometrySettings()
    """Scattering geometry, for q where the ROI file has none."""
    orientation: OrientationSettings = OrientationSettings()
    """How ROIs and mask are turned against the frames of the documents."""
    file_roots: tuple[Path, ...] | None = None
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
    step: Annotated[int, Field(ge=1)] = STEP
    """Step of the sliding window, frames."""
    baseline_lags: FrameRange | None = None
    """Lags whose mean is baseline*, frames. Default: derived from the series' length."""
    contrast_frames: FrameRange | None = None
    """Quiet frames whose lag-1 mean gives beta*. Default: derived from the series' length."""
    weights: Path | None = None
    """Folder with an ensemble's weights and model card. Default: the shipped ensemble."""
    denoise: bool = True
    """False computes C2, g2 and raw Gamma(t) only."""
    engine: Literal["auto", "dense", "skbeam"] = "auto"
    """How C2 is computed; "skbeam" is scikit-beam's own, slower code."""
    precision: Literal["float32", "float64"] = "float32"
    """Precision of C2."""
    seed: int = 0
    """Seed of the values that replace the diagonal of each window."""
    block_bytes: Annotated[int, Field(ge=1)] = 64 * 2**20
    """Most bytes of frames that are read at once."""
    queue_bytes: Annotated[int, Field(ge=1)] = 2**30
    """Most bytes of pixels that may wait for the worker; frames beyond it become gaps."""
    c2_bytes: Annotated[int, Field(ge=1)] = 4 * 2**30
    """Most bytes of C2 of all ROIs, n_roi n_frames^2 numbers of `precision`; frames for which it
    has no room are not analysed. While C2 grows the old one is there beside the new, and the final
    result needs three times as much again: a copy, the denoised C2 and its spread; the sums for
    Gamma(t) need about as much."""
    history_bytes: Annotated[int, Field(ge=1)] = 32 * 2**30
    """Most bytes of ROI pixels that are kept to be multiplied with later frames, a number of
    `precision` for each pixel and frame; frames beyond are not analysed."""
    spool: Path | None = None
    """Folder that keeps results while the Tiled server is away. Default: a folder
    xpcs-live-denoise/spool for states of programs in the user's home."""
    publish_period_s: Positive = 0.5
    """Least time between two publications of a live run, s."""
    tiled: TiledSettings = TiledSettings()
    """The Tiled server that results go to."""

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise InvalidInputError(_explain(error)) from error

    @model_validator(mode="after")
    def _step_fits_window(self) -> Settings:
        if self.step > self.window:
            raise ValueError(
                f"step is {self.step} and window {self.window}; expected step <= window, "
                "otherwise frames lie in no window."
            )
        return self

    @property
    def data_key(self) -> str:
        """The data key that holds the frames."""
        return self.image_key or f"{self.detector}_image"

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
                "the README's section on settings shows one."
            ) from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise InvalidInputError(f"Settings file {path}: not valid YAML ({error}).") from error
        if not isinstance(fields, dict):
            raise InvalidInputError(
                f"Settings file {path}: got {type(fields).__name__}, expected a mapping that has "
                'at least "detector: <name>".'
            )
        named = {str(name): value for name, value in cast("dict[Any, Any]", fields).items()}
        for name in ("rois", "mask", "weights", "spool"):
            if isinstance(named.get(name), str):
                named[name] = path.parent / Path(named[name]).expanduser()
        if isinstance(named.get("file_roots"), list):
            named["file_roots"] = [
                path.parent / Path(root).expanduser() if isinstance(root, str) else root
                for root in cast("list[Any]", named["file_roots"])
            ]
        if isinstance(named.get("tiled"), dict):
            tiled = cast("dict[str, Any]", named["tiled"])
            if isinstance(tiled.get("api_key_file"), str):
                key_file = path.parent / Path(tiled["api_key_file"]).expanduser()
                named["tiled"] = {**tiled, "api_key_file": key_file}
        return cls(**named)


_NESTED: dict[str, type[BaseModel]] = {
    "tiled": TiledSettings,
    "geometry": GeometrySettings,
    "orientation": OrientationSettings,
    "follow": FollowSettings,
}


def _explain(error: ValidationError) -> str:
    """Return a sentence for every setting that does not fit: what was got, what was expected."""
    lines: list[str] = []
    for detail in error.errors():
        name = ".".join(str(part) for part in detail["loc"]) or "settings"
        if detail["type"] == "extra_forbidden":
            model = _NESTED.get(str(detail["loc"][0]), Settings)
            known = ", ".join(sorted(model.model_fields))
            lines.append(f"Setting {name!r} is unknown; expected one of: {known}.")
        elif detail["type"] == "missing":
            lines.append(f"Setting {name!r} is missing; it is required.")
        elif name.endswith("uri"):  # it may hold a key
            lines.append(f"Setting {name!r}: {detail['msg']}.")
        else:
            lines.append(f"Setting {name!r}: got {detail['input']!r}; {detail['msg']}.")
    return " ".join(lines)
