"""What commands say of how far they are."""

import io

from rich.console import Console

from xpcs_live_denoise.commands import progress
from xpcs_live_denoise.commands.progress import Steps


def shown(monkeypatch, capsys, *states, **options):
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0.0)
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(clock)))
    steps = Steps("Run abc", "frames", console=Console(file=io.StringIO()), **options)
    for state in states:
        steps.show(*state)
    return capsys.readouterr().out.splitlines()


def test_a_known_total_gives_an_estimate(monkeypatch, capsys):
    (line,) = shown(monkeypatch, capsys, (25, 100))
    assert line == "Run abc: 25 of 100 frames, about 30 s left (20 s so far)"


def test_an_estimate_that_is_an_upper_limit_says_so(monkeypatch, capsys):
    (line,) = shown(monkeypatch, capsys, (1, 100, "(loss 1)"), at_most=True)
    assert line == "Run abc: 1 of 100 frames, at most 16 min left (loss 1) (20 s so far)"


def test_without_a_total_or_beyond_it_there_is_no_estimate(monkeypatch, capsys):
    lines = shown(monkeypatch, capsys, (25, None), (120, 100), (0, 100))
    assert [line.split(" (")[0] for line in lines] == [
        "Run abc: 25 frames",
        "Run abc: 120 frames",
        "Run abc: 0 frames",
    ]
