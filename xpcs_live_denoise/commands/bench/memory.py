"""Peak memory: each contestant in a process of its own, which is asked what it needed at most."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from xpcs_live_denoise.errors import XpcsError

from .analyses import whole_analysis
from .case import Case
from .contest import Contestant, MakeSection, Numbers, Section, measure
from .peers import ESRF, PLAIN, why_no_esrf
from .two_time import two_time

# What may be asked for: (section, contestant), and whether it is another's.
SECTIONS: dict[str, MakeSection] = {"c2": two_time, "analysis": whole_analysis}
OURS = (("c2", "engine auto"), ("analysis", "analysis"), ("analysis", "analyse of blocks"))
PEERS = (("c2", PLAIN), ("c2", f"{ESRF} dense"), ("c2", f"{ESRF} sparse, by frame"))


@contextlib.contextmanager
def memory(case: Case) -> Iterator[Section]:
    """Make the section of the most memory of a process that runs one contestant once."""
    chosen = [*OURS, *(PEERS if case.peers else ())]
    contestants = [
        Contestant(
            name=name,
            run=partial(_in_a_child, case, section, name),
            peer=(section, name) in PEERS,
            missing=why_no_esrf() if name.startswith(ESRF) else "",
        )
        for section, name in chosen
    ]
    title = "Memory of the whole process, the simulated frames among it"
    yield Section(title=title, contestants=contestants, repeats=1)


def _in_a_child(case: Case, section: str, name: str) -> Numbers:
    asked = json.dumps({"case": dataclasses.asdict(case), "section": section, "name": name})
    command = [sys.executable, "-m", "xpcs_live_denoise.commands.bench.memory", asked]
    child = subprocess.run(  # noqa: S603 (this Python, our module)
        command, capture_output=True, text=True, check=False
    )
    if child.returncode:
        last = child.stderr.strip().splitlines()[-1:] or ["no word"]
        raise XpcsError(f"its process ended with status {child.returncode}: {last[0]}")
    return {(f"memory, {section}", "MB"): float(child.stdout.split()[-1])}


def run_child(asked: str) -> float:
    """Run one contestant once, in this process; return the most memory it had, MB."""
    request = json.loads(asked)
    case = Case(**{**request["case"], "quick": True})
    with SECTIONS[request["section"]](case) as section:
        chosen = [one for one in section.contestants if one.name == request["name"]]
        one = dataclasses.replace(section, contestants=chosen, repeats=1)
        found = [numbers for _, numbers in measure(one, lambda _: None)] or ["gave no number"]
        if isinstance(found[0], str):
            raise XpcsError(f"{request['name']} {found[0]}")
    return most_megabytes()


def most_megabytes() -> float:
    """Return the most memory that this process had.

    On Linux `ru_maxrss` also counts that of the process which started this one.
    """
    status = Path("/proc/self/status")
    if status.exists():
        found = re.search(r"VmHWM:\s*(\d+) kB", status.read_text(encoding="ascii"))
        if found is not None:
            return 1024e-6 * float(found[1])
    return 1e-6 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes, on a Mac


if __name__ == "__main__":
    print(run_child(sys.argv[1]))  # the parent reads it
