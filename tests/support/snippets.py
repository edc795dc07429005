"""The snippets of a page of the documentation, and what runs them as a reader would type them."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import yaml
from markdown_it import MarkdownIt

from xpcs_live_denoise import Settings

REPOSITORY = Path(__file__).parents[2]
# Runs until Ctrl-C: what follows on the page uses it.
SERVERS = re.compile(r"xpcs-live-denoise (catalog|serve|view)\b")
NOT_RUN = re.compile(r"<!-- not run: (?P<why>.+) -->")
# What a reader of the page has, and a test has not.
WHY_NOT = {
    "installs",
    "a pickle of the beamline",
    "files of the beamline",
    "takes an hour",
    "RUN is one of yours",
    "what make runs",
    "the published windows",
    "xpcs.yml is still the one of `init`",
}
STARTS_WITHIN_S = 60


@dataclass(frozen=True, kw_only=True)
class Snippet:
    """A fenced block: its language, its text, its first line in the page, and why it is not run."""

    language: str
    text: str
    line: int
    why_not: str = ""


def snippets_of(page):
    """Return the snippets of a Markdown file, in order."""
    found, why_not = [], ""
    for token in MarkdownIt().parse(page.read_text(encoding="utf-8")):
        if token.type == "html_block":
            match = NOT_RUN.search(token.content)
            why_not = match["why"] if match else ""
        elif token.type == "fence":
            language = token.info.strip()
            if language in ("sh", "python", "yaml"):
                line = token.map[0] + 2
                found.append(
                    Snippet(language=language, text=token.content, line=line, why_not=why_not)
                )
            why_not = ""
    return found


class Reader:
    """Types the snippets of a page, in one folder; `names` are those of the Python session."""

    def __init__(self, folder, names, replaced):
        self.folder = folder
        self.names = names
        self.replaced = replaced
        self._servers = []

    def type(self, page, snippet):
        text = snippet.text
        for there, here in self.replaced.items():
            text = text.replace(there, here)
        if snippet.language == "yaml":
            Settings(**yaml.safe_load(text))
            (self.folder / "xpcs.yml").write_text(text, encoding="utf-8")
        elif snippet.language == "python":
            # As many lines before it as in the page: a traceback names the page's own line.
            exec(compile("\n" * (snippet.line - 1) + text, str(page), "exec"), self.names)
        elif SERVERS.search(text):
            self._serve(text)
        else:
            done = subprocess.run(
                ["bash", "-euc", text],
                cwd=self.folder,
                env=self._environment(),
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, f"{page}:{snippet.line}\n{done.stdout}{done.stderr}"

    def _environment(self):
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        python = f"{REPOSITORY}:{os.environ.get('PYTHONPATH', '')}"
        return {**os.environ, "PATH": path, "PYTHONPATH": python}

    def _serve(self, text):
        # exec: the signal at the end reaches the command, and no shell around it.
        *before, command = text.strip().replace("\\\n", " ").splitlines()
        server = subprocess.Popen(
            ["bash", "-euc", "\n".join([*before, f"exec {command}"])],
            cwd=self.folder,
            env={**self._environment(), "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._servers.append(server)
        first = []
        reading = threading.Thread(target=lambda: first.append(server.stdout.readline()))
        reading.start()
        reading.join(STARTS_WITHIN_S)
        assert first, f"{command}: said nothing within {STARTS_WITHIN_S} s"
        assert server.poll() is None, f"{command}: {first[0]}{server.stdout.read()}"

    def close(self):
        """Type Ctrl-C into what still runs."""
        for server in self._servers:
            server.send_signal(signal.SIGINT)
        for server in self._servers:
            with contextlib.closing(server.stdout):
                rest, _ = server.communicate(timeout=60)
            assert server.returncode == 0, rest
