"""The end-of-run flow of a Prefect 3 server, as CHX runs one for each new stop document.

It needs Prefect alone: the analysis is the command `xpcs-live-denoise reprocess`, in whichever
environment that is installed.

    XPCS_COMMAND  the command, default "xpcs-live-denoise"
    XPCS_CONFIG   the settings, default "xpcs.yml"
"""

import os
import shlex
import subprocess

from prefect import flow, get_run_logger, task


@task(retries=2, retry_delay_seconds=30)
def reprocess(uid):
    """Analyse a run unless that is done with these settings; what the command says is logged."""
    command = shlex.split(os.environ.get("XPCS_COMMAND", "xpcs-live-denoise"))
    config = os.environ.get("XPCS_CONFIG", "xpcs.yml")
    ended = subprocess.run(  # noqa: S603 - a uid is one argument, whatever is in it
        [*command, "reprocess", "--config", config, "--skip-done", "--", uid],
        capture_output=True,
        text=True,
        check=False,
    )
    for line in (ended.stdout + ended.stderr).splitlines():
        get_run_logger().info(line)
    if ended.returncode:
        raise RuntimeError(
            f"Run {uid}: xpcs-live-denoise reprocess ended with status {ended.returncode}. "
            f"{ended.stdout.strip()}"
        )


@flow
def end_of_run_workflow(stop_doc):
    """Analyse the run that a stop document ends; a repeat of the flow computes nothing twice."""
    reprocess(stop_doc["run_start"])
