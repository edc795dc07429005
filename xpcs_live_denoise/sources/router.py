"""The documents of each run to a callback of its own, whatever else arrives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from event_model import DocumentNames, EventModelError, RunRouter

from xpcs_live_denoise.errors import InvalidInputError, XpcsError, short_repr
from xpcs_live_denoise.records.types import Document, Fields

NAMES = frozenset(name.name for name in DocumentNames) - {"bulk_datum", "bulk_events"}
# Runs without a stop document that are waited for; an older one is ended.
MOST_OPEN_RUNS = 32
MOST_UID_CHARACTERS = 200
NO_STOP = "No stop document came, and many runs began since."

RunCallback = Callable[[str, Any], None]


class DocumentsByRun:
    """Gives documents to the callbacks of their runs, by `event_model.RunRouter`.

    Unlike that one it takes no other attribute for a document's name, looks up no datum itself (one
    may come after its event), and forgets a run at its stop even if a callback raises. A run whose
    stop never comes is ended when MOST_OPEN_RUNS others have begun.

    Parameters
    ----------
    begin_run
        Returns the callback for a run, None for a run of no interest; called with its start
        document. The callback gets that, too.
    """

    def __init__(self, begin_run: Callable[[Document], RunCallback | None]) -> None:
        self._begin_run = begin_run
        self._router = RunRouter([self._begin], filler_class=_NoFilling)  # type: ignore[arg-type]
        self._open: dict[str, None] = {}  # uids, the oldest first
        self._errors: list[Exception] = []

    def __call__(self, name: str, doc: Fields) -> None:
        """Take a document.

        Raises
        ------
        InvalidInputError
            When it is no document, or belongs to no run.
        Exception
            What the callback raised.
        """
        if not isinstance(name, str) or name not in NAMES or not isinstance(doc, Mapping):
            raise InvalidInputError(
                f"Got a {type(doc).__name__} under the name {short_repr(name)}; expected a "
                f"document of the event model, one of {', '.join(sorted(NAMES))}."
            )
        self._errors.clear()
        try:
            self._route(name, doc)
        except XpcsError:
            raise
        except (LookupError, TypeError, ValueError, EventModelError) as error:
            # What the router raises for a document of no run; callbacks' errors come below.
            raise InvalidInputError(
                f"A document {name!r} lacks a field, belongs to no run that began here, refers to "
                "a document that did not come, or came twice."
            ) from error
        if self._errors:
            raise self._errors.pop(0)

    def _route(self, name: str, doc: Fields) -> None:
        if name == "start":
            self._require_uid(doc)
            self._router(name, dict(doc))
            self._open[doc["uid"]] = None
            if len(self._open) > MOST_OPEN_RUNS:
                self._end(next(iter(self._open)))
        elif name == "stop":
            self._router(name, dict(doc))
            self._open.pop(doc["run_start"], None)
        else:
            self._router(name, doc)  # type: ignore[arg-type]

    def _require_uid(self, start: Fields) -> None:
        uid = start["uid"]
        is_text = isinstance(uid, str) and uid.isprintable()  # it stands in logs and on terminals
        if not is_text or not 0 < len(uid) <= MOST_UID_CHARACTERS:
            raise InvalidInputError(
                f"A start document has the uid {short_repr(uid)}; expected text of at most "
                f"{MOST_UID_CHARACTERS} printable characters. The run is not analysed."
            )

    def _end(self, uid: str) -> None:
        del self._open[uid]
        stop = {"uid": f"no stop of {uid}", "run_start": uid, "exit_status": "fail"}
        self._router("stop", {**stop, "reason": NO_STOP, "num_events": {}})

    def _begin(self, _name: str, start: Document) -> tuple[list[Any], list[Any]]:
        callback = self._begin_run(start)
        if callback is None:
            return [], []

        def guarded(name: str, doc: Fields) -> None:
            try:
                callback(name, doc)
            except Exception as error:  # raised again when the router is done with the document
                self._errors.append(error)

        return [guarded], []


class _NoFilling:
    """In place of an `event_model.Filler`, which refuses an event whose datum is still to come."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    @staticmethod
    def event_page(doc: Any) -> Any:
        return doc

    descriptor = resource = datum_page = stream_resource = stream_datum = event_page
