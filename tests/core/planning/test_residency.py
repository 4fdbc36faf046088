"""Rules and priorities reach every lane that has a cell of theirs, and several rules on a lane
leave what all of them allow."""

from __future__ import annotations

import h3
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.base.errors import SettingsError
from agents.core.lanes.lane_map import murmur2
from agents.core.model.inventory import Area, Inventory, Priority, ResidencyRule
from agents.core.model.topology import Site, WorkerKind, WorkerSpec
from agents.core.planning.residency import Residency, bind_residency

SITES = {
    "fra": Site("fra", 50.1, 8.7, "Germany West", "DE"),
    "muc": Site("muc", 48.1, 11.6, "Germany South", "DE"),
    "ams": Site("ams", 52.4, 4.9, "West Europe", "NL"),
    "iad": Site("iad", 37.4, -79.8, "East US", "US"),
    "far": Site("far", -33.9, 151.2, "Australia East", "AU"),
}
NODES = ["node-fra-1", "node-muc-1", "node-ams-1", "node-iad-1"]
BERLIN, MUNICH, PARIS, BOSTON = (
    h3.latlng_to_cell(*at, 4) for at in ((52.5, 13.4), (48.1, 11.6), (48.9, 2.4), (42.4, -71.1))
)


def country_of(lat: float, lon: float) -> str:
    """A world of three countries."""
    return "US" if lon < -30 else ("DE" if lon > 6 else "FR")


def inventory(*rules: ResidencyRule, priorities: tuple[Priority, ...] = ()) -> Inventory:
    workers = {n: WorkerSpec(n, WorkerKind.NODE, n.split("-")[1], 100.0) for n in NODES}
    return Inventory(SITES, workers, rules, priorities, "inventory.toml")


def rule(
    name: str, sites: set[str], *, cells: tuple[str, ...] = (), country: str = "", region: str = ""
) -> ResidencyRule:
    return ResidencyRule(name, Area(f"rule {name}", cells, country, region), frozenset(sites))


def bound(
    cells_by_lane: list[list[str]], *rules: ResidencyRule, priorities: tuple[Priority, ...] = ()
) -> Residency:
    return bind_residency(
        inventory(*rules, priorities=priorities), cells_by_lane, NODES, country_of
    )


def allowed(found: Residency, lane: int) -> set[str]:
    row = found.rule[lane]
    return (
        set(NODES)
        if row < 0
        else {n for n, ok in zip(NODES, found.rules[row].allowed, strict=True) if ok}
    )


def test_without_rules_nothing_is_bound_and_no_country_is_asked_for() -> None:
    def never(lat: float, lon: float) -> str:
        raise AssertionError((lat, lon))

    found = bind_residency(
        inventory(rule("x", {"fra"}, cells=(BERLIN,))), [[BERLIN], [PARIS]], NODES, never
    )
    assert found.rule == (0, -1)
    assert bind_residency(inventory(), [[BERLIN], []], NODES, never) == Residency(
        (-1, -1), (), (), (0, 0), ()
    )


def test_a_lane_is_bound_by_the_country_of_any_of_its_cells() -> None:
    found = bound(
        [[PARIS], [PARIS, BERLIN], [BOSTON], [MUNICH]], rule("de", {"fra", "muc"}, country="DE")
    )
    assert found.rule == (-1, 0, -1, 0)
    assert allowed(found, 1) == {"node-fra-1", "node-muc-1"}
    assert found.warnings == ()


def test_a_region_binds_the_cells_that_are_nearest_to_its_site() -> None:
    found = bound(
        [[BERLIN], [MUNICH], [PARIS], [BOSTON]], rule("south", {"muc"}, region="Germany South")
    )
    assert found.rule == (-1, 0, -1, -1)


@pytest.mark.parametrize("resolution", [0, 2, 3])
def test_a_coarse_cell_binds_all_that_is_in_it(resolution: int) -> None:
    coarse = h3.cell_to_parent(BERLIN, resolution)
    beside = next(c for c in h3.cell_to_children(coarse, 4) if c != BERLIN)
    found = bound([[BERLIN], [beside], [BOSTON]], rule("x", {"fra"}, cells=(coarse,)))
    assert found.rule == (0, 0, -1)


def test_a_cell_finer_than_the_lane_maps_is_refused_with_the_one_to_name() -> None:
    fine = h3.cell_to_center_child(BERLIN, 6)
    with pytest.raises(SettingsError) as error:
        bound([[BERLIN]], rule("x", {"fra"}, cells=(fine,)))
    for part in ("inventory.toml", "rule x", "cells", fine, "resolution 6", BERLIN):
        assert part in str(error.value)


def test_a_heavy_cell_binds_each_of_its_lanes() -> None:
    assert bound([[BERLIN], [BERLIN], [PARIS]], rule("x", {"fra"}, cells=(BERLIN,))).rule == (
        0,
        0,
        -1,
    )


def test_a_named_cell_that_the_lane_map_does_not_know_binds_the_lane_of_its_hash() -> None:
    found = bound([[PARIS], [BOSTON], [MUNICH]], rule("x", {"fra"}, cells=(BERLIN,)))
    assert [lane for lane, row in enumerate(found.rule) if row == 0] == [
        murmur2(BERLIN.encode()) % 3
    ]


def test_several_rules_leave_what_all_of_them_allow_under_both_names() -> None:
    found = bound(
        [[BERLIN], [BERLIN, PARIS], [PARIS]],
        rule("de", {"fra", "muc", "ams"}, country="DE"),
        rule("fr", {"ams", "iad"}, country="FR"),
    )
    assert [found.rules[r].name for r in found.rule] == ["de", "de + fr", "fr"]
    assert allowed(found, 1) == {"node-ams-1"}
    assert found.sites[found.rule[1]] == {"ams"}


def test_a_rule_that_no_node_can_meet_is_said_with_its_lanes() -> None:
    found = bound([[PARIS], [BERLIN]], rule("au", {"far"}, country="DE"))
    assert not any(found.rules[found.rule[1]].allowed)
    (warning,) = found.warnings
    assert (warning.kind, warning.rule, warning.lanes) == ("unmet", "au", (1,))
    assert "far" in warning.text


def test_rules_that_exclude_each_other_are_said() -> None:
    found = bound(
        [[BERLIN, PARIS]], rule("de", {"fra"}, country="DE"), rule("fr", {"ams"}, country="FR")
    )
    (warning,) = found.warnings
    assert (warning.kind, warning.rule, warning.lanes) == ("unmet", "de + fr", (0,))
    assert "no site in common" in warning.text


def test_a_rule_that_binds_nothing_is_said() -> None:
    (warning,) = bound([[PARIS]], rule("us", {"iad"}, country="US")).warnings
    assert (warning.kind, warning.rule, warning.lanes) == ("idle", "us", ())
    assert "country US" in warning.text


def test_a_lane_has_the_highest_priority_of_its_cells() -> None:
    rows = (
        Priority(Area("priority 1", country="DE"), -5),
        Priority(Area("priority 2", (MUNICH,)), 7),
        Priority(Area("priority 3", (MUNICH,)), 3),
    )
    lanes = [[BERLIN], [BERLIN, PARIS], [MUNICH, BERLIN], [BOSTON], []]
    assert bound(lanes, priorities=rows).priority == (-5, 0, 7, 0, 0)


CELLS = sorted(
    {h3.latlng_to_cell(lat, lon, 3) for lat in range(30, 60, 3) for lon in range(-120, 20, 7)}
)
AREAS = st.one_of(
    st.lists(
        st.sampled_from([*CELLS, *(h3.cell_to_parent(c, 1) for c in CELLS)]), min_size=1, max_size=4
    ).map(lambda c: Area("row", tuple(c))),
    st.sampled_from(["DE", "FR", "US"]).map(lambda c: Area("row", country=c)),
    st.sampled_from(sorted({s.region for s in SITES.values()})).map(
        lambda r: Area("row", region=r)
    ),
)
RULES = st.lists(
    st.tuples(AREAS, st.frozensets(st.sampled_from(sorted(SITES)), min_size=1)), max_size=4
)


def matches(area: Area, cell: str) -> bool:
    """The plain reading of a row."""
    at = h3.cell_to_latlng(cell)
    if area.country:
        return country_of(*at) == area.country
    if area.region:
        near = min(SITES.values(), key=lambda s: h3.great_circle_distance(at, (s.lat, s.lon)))
        return near.region == area.region
    return any(h3.cell_to_parent(cell, h3.get_resolution(c)) == c for c in area.cells)


@settings(max_examples=60, deadline=None)
@given(RULES, st.lists(st.lists(st.sampled_from(CELLS), max_size=4), min_size=1, max_size=6))
def test_no_cell_loses_a_rule_and_no_lane_gains_a_node(
    wanted: list[tuple[Area, frozenset[str]]], lanes: list[list[str]]
) -> None:
    rules = [ResidencyRule(f"r{i}", area, sites) for i, (area, sites) in enumerate(wanted)]
    found = bound(lanes, *rules)
    known = {cell for cells in lanes for cell in cells}
    for lane, cells in enumerate(lanes):
        mine = [r for r in rules if any(matches(r.area, cell) for cell in cells)]
        stray = [
            c
            for r in rules
            for c in r.area.cells
            if c not in known and murmur2(c.encode()) % len(lanes) == lane
        ]
        must = set(NODES).intersection(
            *({n for n in NODES if n.split("-")[1] in r.sites} for r in mine)
        )
        assert allowed(found, lane) <= must, "no_cell_loses_its_rule"
        if not stray:
            assert allowed(found, lane) == must, "the_intersection_is_right"
            name = " + ".join(r.name for r in mine)
            assert (found.rules[found.rule[lane]].name if found.rule[lane] >= 0 else "") == name
    for w in found.warnings:
        assert w.kind in ("unmet", "idle")
    stuck = {lane for w in found.warnings if w.kind == "unmet" for lane in w.lanes}
    assert stuck == {lane for lane in range(len(lanes)) if not allowed(found, lane)}, (
        "who_can_be_nowhere_is_said"
    )
