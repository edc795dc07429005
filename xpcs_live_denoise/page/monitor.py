"""What the page's server shows of itself: visitors, runs, updates, the connection to Tiled."""

from __future__ import annotations

from collections.abc import Mapping

from bokeh.server.tornado import BokehTornado

from xpcs_live_denoise.monitoring import Counts, Health

from .access import Access


class PageMonitor:
    """A page's server as the metrics' server asks for it, on threads of that server."""

    def __init__(self, access: Access, application: BokehTornado) -> None:
        self._access, self._application = access, application

    @property
    def counts(self) -> Counts:
        """What the page has counted."""
        return self._access.counts

    def gauges(self) -> Mapping[str, float | Mapping[str, float]]:
        """Return what is as it is now."""
        hubs = self._access.hubs
        return {
            "xpcs_page_visitors": len(self._application.get_sessions("/")),
            "xpcs_page_logged_in": self._access.n_logged_in,
            "xpcs_page_runs_listed": sum(hub.n_listed for hub in hubs),
            "xpcs_page_runs_followed": sum(hub.n_followed for hub in hubs),
            "xpcs_page_tiled_connected": float(all(hub.connected for hub in hubs)),
        }

    def health(self) -> Health:
        """Return what is wrong with the connection; that is waited for, and no fault of ours."""
        notes = [hub.notice for hub in self._access.hubs if hub.notice]
        return Health(notes=tuple(dict.fromkeys(notes)))
