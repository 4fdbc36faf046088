"""Watches the inventory's file and applies each change as a whole or not at all. If the file is not
valid, the error is reported and the previous inventory stays in force.

A standby watches too, so that it leads with the newest valid inventory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from agents.base import log
from agents.base.errors import GeoError, SettingsError
from agents.base.files import read_whole_file
from agents.core.events import InventoryRead, InventoryRefused
from agents.core.lanes.lane_map import LaneMap
from agents.core.model.inventory import Inventory, InventoryFile
from agents.core.model.plan import LanePlaces
from agents.core.model.topology import WorkerKind
from agents.core.planning.residency import bind_residency
from agents.geodata.gazetteer.load import load_place_index
from agents.settings import decode_toml

LOOK_EVERY_S = 1.0

_log = log.get_logger("coordinator")


def _country_of(lat: float, lon: float) -> str:
    try:  # the table is loaded only if a rule or priority names a country
        return load_place_index().country_at(lat, lon)
    except GeoError as e:
        raise SettingsError(f"a rule or priority names a country: {e}") from e


def read_inventory(path: Path) -> Inventory:
    """Read and check the inventory. Raises SettingsError."""
    return Inventory.from_file(decode_toml(path, InventoryFile), str(path))


def bind_inventory(inventory: Inventory, lanemap: LaneMap) -> InventoryRead:
    """The inventory with its residency rules bound to the lanes. Blocks while it reads the cities,
    if a rule names a country. Raises SettingsError."""
    cells: list[list[str]] = [[] for _ in range(lanemap.lanes)]
    for cell, lanes in lanemap.cell_lanes.items():
        for n in lanes:
            cells[n].append(cell)
    residency = bind_residency(
        inventory, cells, [w.worker for w in inventory.workers_of(WorkerKind.NODE)], _country_of
    )
    places = LanePlaces(
        tuple(c[0] for c in lanemap.centroid),
        tuple(c[1] for c in lanemap.centroid),
        tuple(lanemap.rate_eps),
        residency.rule,
        residency.priority,
        residency.rules,
        residency.sites,
    )
    return InventoryRead(inventory, places, residency.warnings)


@dataclass(frozen=True, slots=True)
class _Look:
    """The file's content; None if it cannot be read."""

    data: bytes | None


def _read_file(path: Path) -> _Look:
    try:
        return _Look(read_whole_file(path))
    except (OSError, SettingsError):
        return _Look(None)


class InventoryWatch:
    """`newest`: the last valid inventory. `problem`: what is wrong with the present file, or empty.

    Building it reads the file and raises SettingsError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._taken = _read_file(path)
        self.newest = read_inventory(path)
        self.problem = ""
        self._changed = asyncio.Event()

    async def run(self) -> NoReturn:
        """Read the file every LOOK_EVERY_S until cancelled. A change counts when two reads in a row
        agree, so that a half-written file is not used."""
        before = self._taken
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            now = await asyncio.to_thread(_read_file, self._path)
            if now == before and now != self._taken:
                await self._apply_change(now)
            before = now

    async def _apply_change(self, now: _Look) -> None:
        try:
            self.newest = await asyncio.to_thread(read_inventory, self._path)
            self.problem = ""
            _log.info("inventory_read", path=str(self._path), workers=len(self.newest.workers))
        except SettingsError as e:
            self.problem = str(e)
            _log.error("inventory_refused", path=str(self._path), why=self.problem)
        self._taken = now
        self._changed.set()

    async def report_changes(
        self,
        known: InventoryRead,
        lanemap: LaneMap,
        tell: Callable[[InventoryRead | InventoryRefused], None],
    ) -> NoReturn:
        """Report every change to a leader, which begins with `known`, until cancelled."""
        told = ""
        while True:
            self._changed.clear()
            problem, newest = self.problem, self.newest
            if not problem and newest is not known.inventory:
                try:
                    bound = await asyncio.to_thread(bind_inventory, newest, lanemap)
                except SettingsError as e:
                    problem = str(e)
                    if problem != told:
                        _log.error("inventory_refused", path=str(self._path), why=problem)
                else:
                    known = bound
                    tell(bound)
            if problem and problem != told:
                tell(InventoryRefused(str(self._path), problem))
            told = problem
            await self._changed.wait()
