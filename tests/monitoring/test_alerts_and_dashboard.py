"""Alert rules and dashboard ask for metrics that exist, by labels that exist."""

import json
import re
from pathlib import Path

import pytest
import yaml

from xpcs_live_denoise.monitoring import METRICS

DEPLOY = Path(__file__).parents[2] / "deploy"
# Of Prometheus itself, and of the process.
FOREIGN = {"up", "process_resident_memory_bytes", "process_cpu_seconds_total"}


def rules():
    groups = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels():
    return json.loads((DEPLOY / "grafana/dashboard.json").read_text())["panels"]


def expressions():
    yield from (rule["expr"] for rule in rules())
    yield from (target["expr"] for panel in panels() for target in panel["targets"])


def metrics_in(expression):
    """The metrics that an expression asks for, without what a histogram adds to its name."""
    names = re.findall(r"\b(up|(?:xpcs|process)_[a-z_]+)\b", expression)
    return {re.sub("_(bucket|sum|count)$", "", name) for name in names}


@pytest.mark.parametrize("expression", sorted(set(expressions())))
def test_an_expression_asks_for_metrics_and_labels_that_are_there(expression):
    asked = metrics_in(expression)
    assert asked
    assert asked <= METRICS.keys() | FOREIGN
    for name, label, value in re.findall(r'(xpcs_\w+)\{[^}]*?(\w+)=~?"([^"]*)"\}', expression):
        if label != "instance":
            assert label == METRICS[name].label
            assert set(value.split("|")) <= set(METRICS[name].values)


def test_the_dashboard_shows_every_metric():
    shown = {name for p in panels() for t in p["targets"] for name in metrics_in(t["expr"])}
    assert shown >= METRICS.keys()


def test_every_rule_says_what_to_do():
    for rule in rules():
        assert {"summary", "remedy"} <= rule["annotations"].keys(), rule["alert"]
        assert rule["labels"]["severity"] in ("page", "warning")
