"""Dashboard, alerts and the page about them name metrics and labels that there are."""

from __future__ import annotations

import json
import re
from typing import Any

import mongomock
import pytest
import yaml
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric

from tests.test_readme import ROOT
from ticketing import create_app
from ticketing.app import build_services
from ticketing.clock import SystemClock
from ticketing.config import Config
from ticketing.delivery.deliverer import Deliverer
from ticketing.delivery.metrics import make_registry
from ticketing.delivery.sender import Sender
from ticketing.metrics import EXTENSION

FOLDER = ROOT / "docs" / "operations"
NAME = re.compile(r"\bticketing_[a-z_]+")
GIVEN_BY_PROMETHEUS = {"job", "instance", "le"}
SAMPLES = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("_total",), "gauge": ("",)}


@pytest.fixture(scope="module")
def families() -> list[Metric]:
    """All that the service and those who deliver tell."""
    client: Any = mongomock.MongoClient()
    config, clock = Config(mongodb_uri="mongodb://nowhere"), SystemClock()
    registry: CollectorRegistry = create_app(config, client=client).extensions[EXTENSION]
    parts = build_services(config, client, clock)
    deliverer = Deliverer(parts.webhooks, parts.feed, clock, lambda: Sender(allow_private=False))
    return [*registry.collect(), *make_registry(deliverer).collect()]


@pytest.fixture(scope="module")
def samples(families: list[Metric]) -> set[str]:
    """The names that a query may use."""
    return {family.name + suffix for family in families for suffix in SAMPLES[family.type]}


def rules(name: str) -> list[dict[str, Any]]:
    """The alerts of a file."""
    groups = yaml.safe_load((FOLDER / name).read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def queries() -> list[str]:
    """Every query of the dashboard and the alerts."""
    dashboard = json.loads((FOLDER / "grafana-dashboard.json").read_text())
    return [
        *(target["expr"] for panel in dashboard["panels"] for target in panel["targets"]),
        *(each["query"]["query"] for each in dashboard["templating"]["list"] if each["type"] == "query"),
        *(rule["expr"] for rule in (*rules("alerts.yml"), *rules("alerts-webhooks.yml"))),
    ]


def test_every_query_names_metrics_that_exist(samples: set[str]) -> None:
    """A panel of nothing, or an alert that is never raised, would not be noticed otherwise."""
    used = {name for query in queries() for name in NAME.findall(query)}
    assert len(used) > 15
    assert used <= samples


def test_every_query_names_labels_that_exist() -> None:
    """Selected or summed by: the labels that the page about monitoring gives the metrics, and Prometheus' own."""
    page = (FOLDER / "monitoring.md").read_text()
    known = {label for row in rows(page) for label in re.findall(r"`(\w+)`", row[1])} | GIVEN_BY_PROMETHEUS
    for query in queries():
        selected = re.findall(r'(\w+)="', query)
        grouped = [name for names in re.findall(r"(?:by|on) \(([\w, ]+)\)", query) for name in names.split(", ")]
        assert {*selected, *grouped} <= known, query


def test_the_page_names_every_metric_and_its_labels(families: list[Metric]) -> None:
    """Each once, and none that is not told."""
    page = (FOLDER / "monitoring.md").read_text()
    named = {name: set(re.findall(r"`(\w+)`", row[1])) for row in rows(page) for name in NAME.findall(row[0])}
    told = {family.name + ("_total" if family.type == "counter" else "") for family in families}
    assert named.keys() == told
    for family in families:
        labels = {label for sample in family.samples for label in sample.labels} - GIVEN_BY_PROMETHEUS
        assert labels <= named[family.name + ("_total" if family.type == "counter" else "")]


def test_the_page_says_what_to_do_about_every_alert() -> None:
    """Who is woken at night finds a row."""
    alerts = {rule["alert"] for rule in (*rules("alerts.yml"), *rules("alerts-webhooks.yml"))}
    page = (FOLDER / "monitoring.md").read_text()
    assert set(re.findall(r"`(Ticketing\w+)`", page)) == alerts


def test_nobody_is_woken_for_webhooks_that_nobody_runs() -> None:
    """Their alerts are in a file of their own, and prometheus.yml has them only when deploy.md's line has been run."""
    assert not any("webhook" in rule["alert"].lower() + rule["expr"] for rule in rules("alerts.yml"))
    text = (FOLDER / "prometheus.yml").read_text()
    without = yaml.safe_load(text)
    assert without["rule_files"] == ["alerts.yml"]
    assert [job["job_name"] for job in without["scrape_configs"]] == ["ticketing"]
    (command,) = re.findall(r"sed -i '(s/#webhooks/.*)' /etc/prometheus/prometheus.yml", page_of("deploy"))
    assert command == "s/#webhooks//"
    with_them = yaml.safe_load(text.replace("#webhooks", ""))
    assert with_them["rule_files"] == ["alerts.yml", "alerts-webhooks.yml"]
    assert [job["job_name"] for job in with_them["scrape_configs"]] == ["ticketing", "ticketing-webhooks"]


def test_prometheus_asks_where_the_units_answer() -> None:
    """At the port of the service, and at that of who delivers."""
    unit = (FOLDER / "ticketing-webhooks.service").read_text()
    (port,) = re.findall(r"--metrics-port (\d+)", unit)
    targets = re.findall(r'"(127\.0\.0\.1:\d+)"', (FOLDER / "prometheus.yml").read_text())
    assert targets[1:] == [Config().bind_address, f"127.0.0.1:{port}"]


def page_of(name: str) -> str:
    """A page of docs/operations."""
    return (FOLDER / f"{name}.md").read_text()


def test_the_dashboard_can_be_read_by_grafana() -> None:
    """Each panel has a place of its own, a number of its own, and says what it shows."""
    panels = json.loads((FOLDER / "grafana-dashboard.json").read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}) == len(panels)
    assert all(panel["title"] and panel["description"] and panel["targets"] for panel in panels)


def rows(page: str) -> list[list[str]]:
    """The cells of the table of metrics."""
    lines = [line for line in page.splitlines() if line.startswith("| `ticketing_")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
