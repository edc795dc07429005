"""Links of the documentation: what lies in this repository is there, the others can be ones."""

import re
import subprocess
from urllib.parse import unquote, urlsplit

import pytest
from markdown_it import MarkdownIt

from tests.support.snippets import REPOSITORY

LISTED = subprocess.run(
    ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
    cwd=REPOSITORY,
    capture_output=True,
    text=True,
    check=True,
).stdout.split()
PAGES = [page for page in LISTED if (REPOSITORY / page).exists()]
# Made from the code when the documentation is built.
GENERATED = re.compile(r"docs/generated/(settings|commands|columns|metrics|api|deploy)\.md")
HOST = re.compile(r"([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,}|127\.0\.0\.1|localhost")


def tokens(page):
    """Yield the tokens of a page, those within lines, too."""
    for token in MarkdownIt("gfm-like", {"linkify": False}).parse((REPOSITORY / page).read_text()):
        yield token
        yield from token.children or ()


def links(page):
    found = [token.attrs.get("href") or token.attrs.get("src") for token in tokens(page)]
    return [link for link in found if link]


def anchors(page):
    """Return the anchors of a page's headings, as GitHub and MyST name them."""
    marked = [*tokens(page)]
    titles = [
        marked[k + 1].content for k, token in enumerate(marked) if token.type == "heading_open"
    ]
    words = [re.sub(r"[^\w\- ]", "", title.lower()) for title in titles]
    return {word.strip().replace(" ", "-") for word in words}


def problem_of(page, link):
    """Return what is wrong with a link, "" if nothing is."""
    parts = urlsplit(link)
    if parts.scheme:
        if parts.scheme == "mailto":
            return "" if "@" in parts.path else "no address"
        host = HOST.fullmatch(parts.hostname or "")
        good = parts.scheme in ("http", "https") and host and not re.search(r"\s", link)
        return "" if good else "no address of a page"
    target = (REPOSITORY / page).parent / unquote(parts.path) if parts.path else REPOSITORY / page
    target = target.resolve()
    if not target.is_relative_to(REPOSITORY):
        return "leads out of the repository"
    there = str(target.relative_to(REPOSITORY))
    if GENERATED.fullmatch(there):
        return ""
    if not target.exists():
        return "nothing is there"
    if parts.fragment and there.endswith(".md") and parts.fragment not in anchors(there):
        return f"no such heading in {there}"
    return ""


@pytest.mark.parametrize("page", PAGES)
def test_every_link_of_a_page_leads_somewhere(page):
    wrong = {link: problem for link in links(page) if (problem := problem_of(page, link))}

    assert not wrong


@pytest.mark.parametrize(
    ("link", "problem"),
    [
        ("docs/tutorial.md", ""),
        ("docs/generated/api.md", ""),
        ("#read-on", ""),
        ("https://doi.org/10.1038/s41598-021-94133-z", ""),
        ("docs/tutorials.md", "nothing is there"),
        ("../../nowhere", "leads out of the repository"),
        ("docs/trust.md#never", "no such heading in docs/trust.md"),
        ("#never", "no such heading in README.md"),
        ("https://doi", "no address of a page"),
        ("htps://doi.org", "no address of a page"),
        ("https://doi.org/a b", "no address of a page"),
    ],
)
def test_a_link_that_leads_nowhere_is_found(link, problem):
    assert problem_of("README.md", link) == problem
