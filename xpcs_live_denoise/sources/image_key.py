"""What a descriptor says of the data key that holds the frames."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from xpcs_live_denoise.errors import InvalidInputError, short_repr
from xpcs_live_denoise.sources.stream_resources import positive_int

# More frames than any C2 has room for: a document that speaks of more is wrong.
MOST_FRAMES = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageKey:
    """The data key of the frames.

    Attributes
    ----------
    shape
        Shape of one event's value as (..., rows, cols); None stands for an unknown length.
    external
        What the data key says under "external", "" if nothing.
    configured_images
        Frames of one exposure as the detector's configuration says; None where it does not.
    """

    shape: tuple[int | None, ...] = ()
    external: str = ""
    configured_images: int | None = None

    @classmethod
    def of(cls, descriptor: Mapping[str, Any], data_key: str, detector: str) -> ImageKey:
        """Read a descriptor.

        Raises
        ------
        KeyError, TypeError, ValueError
            When the data key has no usable shape.
        InvalidInputError
            When an event would hold more frames than MOST_FRAMES.
        """
        key = descriptor["data_keys"][data_key]
        external = key.get("external")
        images = _configured_images(descriptor.get("configuration"), detector)
        found = cls(
            shape=tuple(None if n is None else operator.index(n) for n in key["shape"]),
            external=str(external) if external else "",
            configured_images=images,
        )
        found = cls(shape=found._in_order(), external=found.external, configured_images=images)
        if found.frames_per_index() > MOST_FRAMES:
            raise InvalidInputError(
                f"Data key {data_key!r}: an event of the shape {short_repr(key['shape'])} holds "
                f"more than {MOST_FRAMES} frames. Correct the detector's descriptor."
            )
        return found

    @property
    def in_streams(self) -> bool:
        """Whether stream_datum documents announce the frames, and events do not hold them."""
        return self.external.startswith(("STREAM", "TILED"))

    @property
    def in_assets(self) -> bool:
        """Whether events hold ids of datum documents."""
        return bool(self.external) and not self.in_streams

    @property
    def frame_shape(self) -> tuple[int, int] | None:
        """(rows, cols); None if unknown."""
        *_, rows, cols = (None, None, *self.shape)
        return None if rows is None or cols is None else (rows, cols)

    def frames_per_index(self, multiplier: int | None = None) -> int:
        """Frames of one event, or of one index of a stream: k of [k, rows, cols], else 1."""
        per_index = math.prod(1 if n is None else n for n in self.shape[:-2])
        # areaDetector's frames per point, where the descriptor has the shape of one frame
        return multiplier if multiplier and per_index == 1 else per_index

    @property
    def frames_per_asset(self) -> int | None:
        """Frames behind one datum as the configuration or the shape say; None if neither does."""
        if self.configured_images is not None:
            return self.configured_images
        leading = self.shape[:-2]
        return self.frames_per_index() if leading and None not in leading else None

    @property
    def frames_per_event(self) -> int:
        """Frames of one event, 1 if nothing tells."""
        per_asset = self.frames_per_asset if self.in_assets else None
        return per_asset or self.frames_per_index()

    def _in_order(self) -> tuple[int | None, ...]:
        """Return the shape with rows and columns last; an axis without length is None.

        Assets of old ophyd say [cols, rows, n], with n = 0 where nobody knew it.
        """
        shape = tuple(n if n is None or n > 0 else None for n in self.shape)
        if not self.in_assets or len(shape) != 3:
            return shape
        first, middle, last = shape
        images = self.configured_images
        n_is_last = last is None and first is not None
        n_is_last |= images is not None and last == images and first not in (images, None)
        return (last, middle, first) if n_is_last else shape


def _configured_images(configuration: Any, detector: str) -> int | None:
    for part in (detector, "data"):
        configuration = configuration.get(part) if isinstance(configuration, Mapping) else None
    if not isinstance(configuration, Mapping):
        return None
    names = (f"{detector}_cam_num_images", f"{detector}_num_images", "num_images")
    values = (positive_int(configuration.get(name)) for name in names)
    return next((value for value in values if value is not None and value <= MOST_FRAMES), None)
