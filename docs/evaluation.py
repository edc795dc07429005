"""Write the tables of docs/evaluation.md and draw its figure: python docs/evaluation.py FILE.

FILE is a validation file of windows; --paper FOLDER adds an ensemble of the paper's recipe. What
stands between the markers of evaluation.md is replaced, its text is kept.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from xpcs_live_denoise.denoising.ensemble import load_ensemble
from xpcs_live_denoise.denoising.evaluation.evaluate import Evaluation, evaluate

HERE = Path(__file__).parent
# On the other validation experiments members, prior and thresholds were chosen.
HELD_OUT = [4, 6, 8, 11, 13, 18]
# One colour a method in every panel; what is not listed is in the table only.
SHOWN = {
    "raw_weighted": ("raw, weighted fit", "#8c8c8c"),
    "pca8": ("8 principal components", "#c9a227"),
    "paper": ("the paper's recipe", "#d1495b"),
    "cnn": ("shipped ensemble", "#30638e"),
    "bayes": ("bayes", "#00798c"),
}
COVERED = {"raw_weighted": "#8c8c8c", "bayes": "#00798c", "recommended": "#1b1b1b"}
EXPECTED = {"coverage_1": 0.683, "coverage_2": 0.954}


def ratios(evaluation: Evaluation) -> str:
    """Return the figures that were asked for, as ratios to the paper's recipe."""
    methods = evaluation.summary["methods"]
    if "paper" not in methods:
        return "No ensemble of the paper's recipe was given."
    lines = [
        "| against | method | MSE(1TCF) | MRE of Γ | median error | cleanest / raw weighted |",
        "|---|---|---|---|---|---|",
    ]
    for truth in evaluation.summary["truths"]:
        paper, raw = (methods[name][truth] for name in ("paper", "raw_weighted"))
        for name in ("cnn", "bayes", "recommended"):
            figures = methods[name][truth]
            cells = ["-"]
            if figures["mse_g2"] is not None:
                cells = [format(figures["mse_g2"] / paper["mse_g2"], ".3f")]
            for key in ("mre_gamma", "mre_gamma_median"):
                cells.append(format(figures[key] / paper[key], ".3f"))
            clean = [f["noise_quintiles"]["cleanest"]["median"] for f in (figures, raw)]
            cells.append(format(clean[0] / clean[1], ".2f"))
            lines.append(f"| {truth} | {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def grouped_bars(axes: Any, methods: dict[str, Any], part: str, title: str) -> None:
    """Draw the median error of each method in each part (bands or quintiles)."""
    names = [name for name in SHOWN if name in methods]
    groups = list(methods["bayes"]["frame_disjoint"][part])
    width = 0.8 / len(names)
    for k, name in enumerate(names):
        parts = methods[name]["frame_disjoint"][part]
        heights = [parts[group]["median"] or 0.0 for group in groups]
        places = [i + (k - (len(names) - 1) / 2) * width for i in range(len(groups))]
        axes.bar(places, heights, width, color=SHOWN[name][1], label=SHOWN[name][0])
    taken = methods["recommended"]["frame_disjoint"][part]
    axes.plot(
        [i + 0.4 - width / 2 for i in range(len(groups))],
        [taken[group]["median"] for group in groups],
        "D",
        markersize=5,
        markerfacecolor="white",
        color=COVERED["recommended"],
        label="recommended",
    )
    axes.set_xticks(range(len(groups)), groups)
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_ylabel("median relative error of Γ")


def coverage(axes: Any, methods: dict[str, Any]) -> None:
    """Draw the fraction of truths within 1 and 2 standard errors of the methods that claim one."""
    for k, (name, colour) in enumerate(COVERED.items()):
        heights = [methods[name]["frame_disjoint"][key] for key in EXPECTED]
        places = [i + (k - 1) * 0.25 for i in range(len(heights))]
        axes.bar(places, heights, 0.25, color=colour)
    for i, value in enumerate(EXPECTED.values()):
        axes.hlines(value, i - 0.45, i + 0.45, color="#d1495b", linestyle="--", linewidth=1.2)
    axes.set_xticks(range(2), ["within 1 SE", "within 2 SE"])
    axes.set_ylim(0, 1)
    axes.set_ylabel("fraction of truths")
    axes.set_title("error bars (dashed: Gaussian)", loc="left", fontsize=10)


def draw(evaluation: Evaluation, out: Path) -> None:
    """Draw errors by rate and noise, and the coverage of the error bars."""
    summary = evaluation.summary
    methods = summary["methods"]
    figure, axes = plt.subplots(
        1, 3, figsize=(13, 3.8), width_ratios=[4, 5, 2.6], layout="constrained"
    )
    grouped_bars(axes[0], methods, "bands", "by true Γ, per frame")
    grouped_bars(axes[1], methods, "noise_quintiles", "by noise of the input, fifths")
    coverage(axes[2], methods)
    axes[0].legend(fontsize=8, frameon=False)
    for panel in axes:
        panel.spines[["top", "right"]].set_visible(False)
    experiments = ", ".join(map(str, summary["experiments"]))
    figure.suptitle(
        f"{summary['truths']['frame_disjoint']['n']} inputs of experiments {experiments}; truth: "
        "cuts that share no frame with the input",
        fontsize=9,
    )
    figure.savefig(out, dpi=120)


def fill(text: str, name: str, content: str) -> str:
    """Return `text` with what stands between the markers of `name` replaced."""
    pattern = rf"(<!-- {name} -->\n).*?(<!-- end -->)"
    return re.sub(pattern, lambda found: found[1] + content + "\n" + found[2], text, flags=re.S)


def main() -> None:
    """Evaluate all of the file and its held-out experiments, and write page and figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--paper", type=Path)
    options = parser.parse_args()
    paper = None if options.paper is None else load_ensemble(options.paper)
    held_out = evaluate(options.file, paper=paper, experiments=HELD_OUT)
    everything = evaluate(options.file, paper=paper)
    page = HERE / "evaluation.md"
    text = page.read_text(encoding="utf-8")
    members = "none" if paper is None else f"{paper.info['n_members']} members"
    text = fill(text, "ensembles", f"Ensemble of the paper's recipe: {members}.")
    for name, evaluation in (("held out", held_out), ("all", everything)):
        text = fill(text, f"ratios {name}", ratios(evaluation))
        text = fill(text, f"tables {name}", f"```\n{evaluation.table()}\n```")
    page.write_text(text, encoding="utf-8")
    draw(everything, HERE / "evaluation.png")


if __name__ == "__main__":
    main()
