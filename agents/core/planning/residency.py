"""Residency rules and priorities of lanes: the inventory's rows, applied to lanes by their cells.

A rule binds a lane if it matches any of its cells, since a lane cannot be in two places. Several
rules of a lane are combined into one, whose nodes are those that all of them allow. A lane has the
highest priority of its cells."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import h3
import numpy as np

from agents.base.errors import SettingsError
from agents.core.lanes.lane_map import murmur2
from agents.core.model.inventory import Area, Inventory, ResidencyRule
from agents.core.model.plan import AllowedNodes, RuleWarning
from kernels.geo import find_nearest

CountryOf = Callable[[float, float], str]
"""The ISO 3166 code of the country at (lat, lon) in degrees."""


@dataclass(frozen=True, slots=True)
class Residency:
    """Per lane its `rule` (a row of `rules`, -1: none) and `priority`. `sites`: for each of
    `rules`, the sites where its lanes may be; nodes that do not exist yet are judged by them."""

    rule: tuple[int, ...]
    rules: tuple[AllowedNodes, ...]
    sites: tuple[frozenset[str], ...]
    priority: tuple[int, ...]
    warnings: tuple[RuleWarning, ...]


def bind_residency(
    inventory: Inventory,
    cells_by_lane: Sequence[Sequence[str]],
    worker_names: Sequence[str],
    country_of: CountryOf,
) -> Residency:
    """The rules and priorities of each lane. `cells_by_lane`: the lane map's cells of each lane,
    all of one resolution. `worker_names`: the nodes' accounts, in the order of the planner's rows.
    `country_of`: called only if a row names a country.

    A row that names a single cell which the lane map does not have binds the lane that such events
    reach by hash (PROTOCOL 2.12). Raises SettingsError for a cell finer than the lane map's, and
    whatever `country_of` raises."""
    ground = _Ground(inventory, cells_by_lane, country_of)
    bound: list[list[int]] = [[] for _ in cells_by_lane]
    for i, rule in enumerate(inventory.rules):
        for lane in ground.lanes_in(rule.area):
            bound[lane].append(i)
    # Every combination of rules that binds some lane becomes one row.
    kinds = sorted({tuple(b) for b in bound if b}, key=lambda b: (len(b), b))
    row_of = {b: row for row, b in enumerate(kinds)}
    row = tuple(row_of.get(tuple(b), -1) for b in bound)
    sites = tuple(frozenset.intersection(*(inventory.rules[i].sites for i in b)) for b in kinds)
    rules = tuple(
        AllowedNodes(
            " + ".join(inventory.rules[i].name for i in b),
            tuple(inventory.workers[w].site in may for w in worker_names),
        )
        for b, may in zip(kinds, sites, strict=True)
    )
    warnings = [
        *_warn_of_unmet_rules(rules, row, inventory, sites),
        *_warn_of_idle_rules(inventory.rules, {i for b in kinds for i in b}),
    ]
    return Residency(
        row, rules, sites, _lane_priorities(inventory, cells_by_lane, ground), tuple(warnings)
    )


def _lane_priorities(
    inventory: Inventory, cells_by_lane: Sequence[Sequence[str]], ground: _Ground
) -> tuple[int, ...]:
    """Each lane's priority: the highest of its cells. A cell has the highest level of its rows, 0
    without any."""
    of_cell: dict[str, int] = {}
    for p in inventory.priorities:
        for cell in ground.cells_in(p.area):
            of_cell[cell] = max(of_cell.get(cell, p.level), p.level)
    known = [[of_cell.get(cell, 0) for cell in cells] for cells in cells_by_lane]
    for cell, lane in ground.lanes_by_hash(of_cell):
        known[lane].append(of_cell[cell])
    return tuple(max(levels, default=0) for levels in known)


def _warn_of_unmet_rules(
    rules: Sequence[AllowedNodes],
    row: Sequence[int],
    inventory: Inventory,
    sites: Sequence[frozenset[str]],
) -> Iterable[RuleWarning]:
    for r, rule in enumerate(rules):
        if any(rule.allowed):
            continue
        lanes = tuple(n for n, at in enumerate(row) if at == r)
        where = (
            f"no node is at {', '.join(sorted(sites[r])[:4])}"
            if sites[r]
            else "they have no site in common"
        )
        yield RuleWarning("unmet", rule.name, lanes, f"No node meets rule {rule.name}: {where}.")


def _warn_of_idle_rules(rules: Sequence[ResidencyRule], used: set[int]) -> Iterable[RuleWarning]:
    for i, rule in enumerate(rules):
        if i not in used:
            text = f"Rule {rule.name} applies to no lane: the lane map has no cell of {rule.area}."
            yield RuleWarning("idle", rule.name, (), text)


class _Ground:
    """The lane map's cells, with their countries and regions."""

    def __init__(
        self, inventory: Inventory, cells_by_lane: Sequence[Sequence[str]], country_of: CountryOf
    ) -> None:
        self.inventory = inventory
        self.country_of = country_of
        self.count = len(cells_by_lane)
        self.lanes_of: dict[str, list[int]] = {}
        for lane, cells in enumerate(cells_by_lane):
            for cell in cells:
                self.lanes_of.setdefault(cell, []).append(lane)
        self.resolution = h3.get_resolution(next(iter(self.lanes_of))) if self.lanes_of else None

    def lanes_in(self, area: Area) -> list[int]:
        """The lanes with cells in `area`, ascending."""
        cells = self.cells_in(area)
        found = {lane for cell in cells for lane in self.lanes_of.get(cell, ())}
        return sorted(found | {lane for _, lane in self.lanes_by_hash(cells)})

    def lanes_by_hash(self, cells: Iterable[str]) -> list[tuple[str, int]]:
        """Those of `cells` that the lane map does not have, each with the lane of its events."""
        return (
            [(c, murmur2(c.encode()) % self.count) for c in cells if c not in self.lanes_of]
            if self.count
            else []
        )

    def cells_in(self, area: Area) -> set[str]:
        """The lane map's cells in `area`, and the cells that it names itself."""
        if area.country:
            return {
                cell for cell, country in self.country_by_cell.items() if country == area.country
            }
        if area.region:
            return {cell for cell, region in self.region_by_cell.items() if region == area.region}
        return self._cells_named_by(area)

    def _cells_named_by(self, area: Area) -> set[str]:
        named: dict[int, set[str]] = {}
        for cell in area.cells:
            named.setdefault(h3.get_resolution(cell), set()).add(cell)
        own = self.resolution
        if own is None:
            return set()
        for resolution, cells in named.items():
            if resolution > own:
                cell = min(cells)
                raise SettingsError(
                    f"{self.inventory.origin}: {area.row}: cells: {cell!r} is of resolution "
                    f"{resolution}, finer than the "
                    f"lane map's {own}. Name the cell that it is in: "
                    f"{h3.cell_to_parent(cell, own)!r}"
                )
        coarse = {resolution: cells for resolution, cells in named.items() if resolution < own}
        found = {
            c
            for c in self.lanes_of
            if any(h3.cell_to_parent(c, r) in cells for r, cells in coarse.items())
        }
        return found | named.get(own, set())

    @cached_property
    def country_by_cell(self) -> dict[str, str]:
        return {cell: self.country_of(*h3.cell_to_latlng(cell)) for cell in self.lanes_of}

    @cached_property
    def region_by_cell(self) -> dict[str, str]:
        """By cell, the region of the site nearest to its centre; among equals the first in the
        inventory."""
        sites, cells = list(self.inventory.sites.values()), list(self.lanes_of)
        at = np.array([h3.cell_to_latlng(cell) for cell in cells], dtype=np.float64).reshape(-1, 2)
        rows = find_nearest(
            at[:, 0], at[:, 1], np.array([s.lat for s in sites]), np.array([s.lon for s in sites])
        )
        return {cell: sites[int(row)].region for cell, row in zip(cells, rows, strict=True)}
