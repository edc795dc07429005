"""What `serve` and `view` share: the options that let Prometheus and an operator look at them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from xpcs_live_denoise.monitoring import MetricsServer

MetricsPort = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=65535,
        help="Show /metrics and /healthz at this port; 0: a free one. Off by default.",
    ),
]
MetricsHost = Annotated[
    str, typer.Option(help="Address to show them at; beyond this machine everybody can read them.")
]


def tell_metrics(metrics: MetricsServer) -> None:
    """Say where they are, and who else can read them."""
    typer.echo(f"Metrics at {metrics.address}/metrics, health at {metrics.address}/healthz.")
    if metrics.is_open:
        typer.secho(
            "Whoever reaches this port can read them: numbers of frames, runs and bytes, and the "
            "address of the Tiled server. Keep it inside the beamline's network.",
            fg="yellow",
        )
