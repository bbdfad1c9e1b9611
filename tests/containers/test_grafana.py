"""Grafana's provisioning, checked without Grafana: what it points at exists and every panel says what it shows."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TypedDict, cast

import pytest

from tests.containers.stack import WORKSPACE

GRAFANA = WORKSPACE / "deploy/grafana"
DASHBOARDS = sorted((GRAFANA / "dashboards").glob("*.json"))
COLUMNS = 24  # the width of Grafana's grid


class Place(TypedDict):
    x: int
    y: int
    w: int
    h: int


class Query(TypedDict):
    refId: str
    expr: str
    legendFormat: str


class FieldConfig(TypedDict):
    defaults: dict[str, object]


class Panel(TypedDict, total=False):
    """What a panel's JSON holds, as far as it is asked here."""

    id: int
    type: str
    title: str
    description: str
    datasource: dict[str, str]
    gridPos: Place
    fieldConfig: FieldConfig
    targets: list[Query]


class Templating(TypedDict):
    list: list[dict[str, object]]


class Dashboard(TypedDict):
    id: int | None
    uid: str
    title: str
    schemaVersion: int
    panels: list[Panel]
    templating: Templating


def read(path: Path) -> Dashboard:
    return cast("Dashboard", json.loads(path.read_text()))


def panels(dashboard: Dashboard) -> Iterator[Panel]:
    """Every panel but the rows."""
    yield from (panel for panel in dashboard["panels"] if panel["type"] != "row")


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_every_panel_has_a_title_a_description_a_unit_and_a_query(path: Path) -> None:
    for panel in panels(read(path)):
        title = panel.get("title")
        assert title, f"panel {panel['id']} has no title"
        assert str(panel.get("description", "")).endswith("."), f"{title}: no description"
        assert panel["fieldConfig"]["defaults"].get("unit"), f"{title}: no unit"
        targets = panel["targets"]
        assert targets, f"{title}: no query"
        assert all(target["expr"].strip() and target["legendFormat"] for target in targets), f"{title}: an empty query or legend"
        assert len({target["refId"] for target in targets}) == len(targets)


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_every_query_asks_the_provisioned_datasource(path: Path) -> None:
    provisioned = set(re.findall(r"^\s+uid: (\S+)", (GRAFANA / "provisioning/datasources/prometheus.yml").read_text(), re.MULTILINE))
    assert len(provisioned) == 1
    asked = set(re.findall(r'"datasource": \{\s*"type": "prometheus",\s*"uid": "([^"]*)"', path.read_text()))
    assert asked == provisioned
    for panel in panels(read(path)):
        assert "datasource" in panel


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_panels_have_ids_of_their_own_and_do_not_overlap(path: Path) -> None:
    dashboard = read(path)
    everything = dashboard["panels"]
    ids = [panel["id"] for panel in everything]
    assert len(set(ids)) == len(ids)
    taken: dict[tuple[int, int], str] = {}
    for panel in everything:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= COLUMNS, panel["title"]
        for cell in ((x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])):
            assert cell not in taken, f"{panel['title']} lies over {taken.get(cell)}"
            taken[cell] = panel["title"]


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_can_be_linked_to(path: Path) -> None:
    dashboard = read(path)
    assert dashboard["uid"] == f"roost-{path.stem}"
    assert dashboard["id"] is None, "an id belongs to one database; provisioning gives its own"
    assert dashboard["title"]
    assert dashboard["schemaVersion"] == 42, "the last version of the classic model, which Grafana 13 provisions"


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_queries_use_only_variables_that_exist(path: Path) -> None:
    declared = {variable["name"] for variable in read(path)["templating"]["list"]}
    queries = [target["expr"] for panel in panels(read(path)) for target in panel["targets"]]
    used = {name for query in queries for name in re.findall(r"\$(\w+)", query)}
    assert used <= declared | {"__rate_interval", "__range", "__interval"}
    assert declared <= used, "a variable that nothing uses"


def test_the_provider_reads_the_folder_that_compose_mounts() -> None:
    provider = (GRAFANA / "provisioning/dashboards/roost.yml").read_text()
    compose = (WORKSPACE / "docker-compose.yml").read_text()
    found = re.search(r"^\s+path: (\S+)$", provider, re.MULTILINE)
    assert found is not None
    assert f"./deploy/grafana/dashboards:{found[1]}:ro" in compose
    assert "./deploy/grafana/provisioning:/etc/grafana/provisioning:ro" in compose
    assert f"GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH: {found[1]}/overview.json" in compose
    assert (GRAFANA / "dashboards/overview.json").is_file()


def test_the_datasource_is_the_prometheus_of_the_compose_file() -> None:
    datasource = (GRAFANA / "provisioning/datasources/prometheus.yml").read_text()
    assert "url: http://prometheus:9090" in datasource
    assert re.search(r"^  prometheus:$", (WORKSPACE / "docker-compose.yml").read_text(), re.MULTILINE)
    scraped = re.search(r"scrape_interval: (\S+)", (WORKSPACE / "deploy/prometheus/prometheus.yml").read_text())
    assert scraped is not None
    assert f"timeInterval: {scraped[1]}" in datasource, "$__rate_interval is derived from the scrape interval"
