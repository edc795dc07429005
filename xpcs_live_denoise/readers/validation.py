"""Whether a stored run can be read, also asked by those who may change nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from bluesky_tiled_plugins.clients.bluesky_run import BlueskyRunV3
from bluesky_tiled_plugins.writing.validator import (
    ReadingValidationException,
    ValidationException,
    validate_reading,
)
from httpx import HTTPStatusError

REFUSED = (401, 403)  # no such right: of the key, of the access tags of the run


class ValidatedRun(BlueskyRunV3):
    """A BlueskyRun whose `validate` is true of a good run, whatever the key may do."""

    def validate(
        self,
        fix_errors: bool = True,
        try_reading: bool = True,
        raise_on_error: bool = False,
        ignore_errors: Sequence[str] | None = None,
        write_notes: bool = True,
    ) -> bool:
        """Return whether every array and table can be read.

        The server does it for who may write, and mends what it can. It refuses who may only read:
        then this client reads the same, and `fix_errors` and `write_notes` are without effect.

        Parameters
        ----------
        fix_errors, try_reading, raise_on_error, ignore_errors, write_notes
            As of any BlueskyRun.

        Raises
        ------
        bluesky_tiled_plugins.writing.validator.ValidationException
            With `raise_on_error`, for the first thing that cannot be read.
        """
        try:
            return super().validate(fix_errors, try_reading, True, ignore_errors, write_notes)
        except ValidationException as error:
            cause = error.__cause__
            refused = isinstance(cause, HTTPStatusError) and cause.response.status_code in REFUSED
            if not refused and raise_on_error:
                raise
        if not refused:  # looks at all of it, behind the first error too
            return super().validate(fix_errors, try_reading, False, ignore_errors, write_notes)
        for error in self._unreadable() if try_reading else ():
            if any(re.search(pattern, str(error)) for pattern in ignore_errors or ()):
                continue
            if raise_on_error:
                raise error
            return False
        return True

    def _unreadable(self) -> Iterator[ReadingValidationException]:
        """Yield an error for each array, first and last value, and each table that fails."""
        run: Any = self.base
        for stream in run:
            for name, node in run[stream].base.items():
                try:
                    validate_reading(node)
                except ReadingValidationException as error:
                    yield ReadingValidationException(f"{stream}/{name}: {error}", self.item["id"])
