"""Docs, alert rules and dashboard speak of metrics that exist, by the names and labels that the
code declares."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

import agents.observe.metrics as metrics_package
from agents.observe.metrics.declared import ALL, MetricType
from agents.observe.metrics.page import renew_page
from agents.observe.metrics.samples import BucketCounts, Samples
from tests.observe.metrics.support import written

ROOT = Path(__file__).parents[3]
FOLDER = Path(str(metrics_package.__file__)).parent
ALERTS, DASHBOARD, PAGE = (
    FOLDER / "alerts.yml",
    FOLDER / "dashboard.json",
    ROOT / "docs" / "metrics.md",
)

SERIES = {series: metric for metric in ALL for series in metric.series}
OTHERS = {"up", "process_cpu_seconds_total", "process_resident_memory_bytes"}
LABELS = {label for metric in ALL for label in metric.labels} | {"le", "job"}
_WORDS = {
    "sum",
    "max",
    "count",
    "rate",
    "increase",
    "by",
    "topk",
    "vector",
    "or",
    "histogram_quantile",
    "label_values",
}


def rules() -> list[dict[str, Any]]:
    """As they stand in the file."""
    loaded = yaml.safe_load(ALERTS.read_text("utf-8"))
    return [rule for group in loaded["groups"] for rule in group["rules"]]


def expressions() -> list[str]:
    """Of rules and dashboard."""
    board = json.loads(DASHBOARD.read_text("utf-8"))
    panels = [t["expr"] for p in board["panels"] for t in p.get("targets", [])]
    variables = [v["query"] for v in board["templating"]["list"] if v["type"] == "query"]
    return [*(r["expr"] for r in rules()), *panels, *variables]


def names_in(expression: str) -> tuple[set[str], set[str]]:
    """Metrics and labels of a PromQL expression."""
    labels = {
        name
        for body in re.findall(r"\{([^}]*)\}", expression)
        for name in re.findall(r"(\w+)\s*[=!]", body)
    }
    labels |= {
        n.strip() for body in re.findall(r"by\s*\(([^)]*)\)", expression) for n in body.split(",")
    }
    plain = re.sub(r"\{[^}]*\}|\[[^\]]*\]|by\s*\([^)]*\)|\"[^\"]*\"", " ", expression)
    if "label_values" in plain:
        plain, _, label = plain.partition(",")
        labels.add(label.strip(" )"))
    return set(re.findall(r"[a-zA-Z_]\w*", plain)) - _WORDS, labels


@pytest.mark.parametrize("expression", expressions())
def test_every_metric_and_label_that_is_asked_for_exists(expression: str) -> None:
    names, labels = names_in(expression)
    assert names
    assert names <= SERIES.keys() | OTHERS
    assert labels <= LABELS


def test_the_check_sees_what_does_not_exist() -> None:
    names, labels = names_in(
        'sum by (place) (rate(geolane_nothing_total{lane="1"}[5m])) > vector(0)'
    )
    assert (names, labels) == ({"geolane_nothing_total"}, {"place", "lane"})


def test_every_alert_says_what_it_is_how_bad_and_what_to_do() -> None:
    assert len({r["alert"] for r in rules()}) == len(rules())
    for rule in rules():
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert set(rule["annotations"]) == {"summary", "description"}
        said = " ".join(rule["annotations"].values())
        grouped = re.search(r"by \(([^)]*)\)", rule["expr"])
        kept = (
            {n.strip() for n in grouped[1].split(",")} - {"le"}
            if grouped
            else LABELS | {"instance"}
        )
        assert set(re.findall(r"\$labels\.(\w+)", said)) <= kept


def test_names_are_prometheus_own_way() -> None:
    assert len({m.name for m in ALL}) == len(ALL)
    for m in ALL:
        assert re.fullmatch(r"geolane_[a-z]+(_[a-z]+)*", m.name)
        assert m.name.endswith("_total") is (m.kind is MetricType.COUNTER)
        assert not re.search(r"_(ms|eps|mb|percent)(_|$)", m.name), "base units"
        assert set(m.labels) <= {
            "worker",
            "server",
            "topic",
            "partition",
            "kind",
            "health",
            "state",
            "version",
            "what",
            "broker",
            "lane",
            "command",
            "outcome",
        }


def test_the_page_has_the_tables_of_now() -> None:
    page = PAGE.read_text("utf-8")
    assert page == renew_page(page), (
        "run: .venv/bin/python -m agents.observe.metrics.page docs/metrics.md"
    )


def test_the_log_events_of_the_page_are_logged() -> None:
    source = "\n".join(f.read_text("utf-8") for f in (ROOT / "agents").rglob("*.py"))
    section = PAGE.read_text("utf-8").partition("## Log events and their metrics")[2]
    rows = re.findall(r"^\| (`[^|]*) \| (`[^|]*) \|$", section, re.MULTILINE)
    assert len(rows) > 5
    for events, metrics in rows:
        for event in re.findall(r"`(\w+)`", events):
            assert f'"{event}"' in source, event
        assert set(re.findall(r"`(geolane_\w+)`", metrics)) <= SERIES.keys()


promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (package prometheus)"
)


def check(*arguments: str, stdin: str = "") -> None:
    done = subprocess.run(
        ["promtool", *arguments], input=stdin, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stdout + done.stderr


@promtool
def test_promtool_accepts_the_rules() -> None:
    check("check", "rules", str(ALERTS))


@promtool
def test_alerts_fire_when_they_should(tmp_path: Path) -> None:
    for file in (ALERTS, Path(__file__).parent / "alerts_test.yml"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    check("test", "rules", str(tmp_path / "alerts_test.yml"))


@promtool
def test_promtool_accepts_what_a_process_answers() -> None:
    """Its own linter of names, types and help texts, over a look with every metric."""
    out = Samples()
    for m in ALL:
        labels = ["x"] * len(m.labels)
        if m.kind is MetricType.HISTOGRAM:
            out.add_histogram(m, BucketCounts(), *labels)
        else:
            out.add(m, 1, *labels)
    check("check", "metrics", stdin=written(out))


@promtool
def test_promtool_accepts_the_dashboards_expressions(tmp_path: Path) -> None:
    exprs = [
        e.replace("$__rate_interval", "1m").replace("$worker", ".*")
        for e in expressions()
        if "label_values" not in e
    ]
    groups = {
        "groups": [
            {"name": "all", "rules": [{"record": f"a:{i}", "expr": e} for i, e in enumerate(exprs)]}
        ]
    }
    file = tmp_path / "expressions.yml"
    file.write_text(json.dumps(groups), "utf-8")
    check("check", "rules", str(file))
