"""What there is: sites, nodes and routers with their capacity. It comes from one TOML file and nothing else overrides it upwards."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping

import msgspec

from agents.core.model import Kind, Site, WorkerSpec, short_name
from agents.errors import SettingsError

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,40}")


class _Site(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    lat: float
    lon: float
    region: str


class _Worker(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    site: str
    capacity_eps: float


class InventoryFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file as it is written: `[[site]]`, `[[node]]`, `[[router]]`."""

    site: list[_Site]
    node: list[_Worker]
    router: list[_Worker]


class Inventory(msgspec.Struct, frozen=True):
    """Sites by name, workers by account name (`node-iad-1`)."""

    sites: Mapping[str, Site]
    workers: Mapping[str, WorkerSpec]

    def of(self, kind: Kind) -> list[WorkerSpec]:
        return [w for w in self.workers.values() if w.kind is kind]

    @classmethod
    def from_file(cls, file: InventoryFile, origin: str) -> Inventory:
        """Check what was read; `origin` names the file in errors. Raises SettingsError."""
        sites: dict[str, Site] = {}
        for s in file.site:
            _check_name(s.name, "site", sites, origin)
            if not (math.isfinite(s.lat) and abs(s.lat) <= 90 and math.isfinite(s.lon) and abs(s.lon) <= 180):
                raise SettingsError(f"{origin}: site {s.name}: lat {s.lat}, lon {s.lon} is no place on Earth")
            sites[s.name] = Site(s.name, s.lat, s.lon, s.region)
        workers: dict[str, WorkerSpec] = {}
        for kind, rows in ((Kind.NODE, file.node), (Kind.ROUTER, file.router)):
            workers |= _workers(kind, rows, sites, origin)
        if not any(w.kind is Kind.NODE for w in workers.values()):
            raise SettingsError(f"{origin}: there is no [[node]]")
        if not any(w.kind is Kind.ROUTER for w in workers.values()):
            raise SettingsError(f"{origin}: there is no [[router]]")
        return cls(sites, workers)


def _check_name(name: str, what: str, seen: Mapping[str, object], origin: str) -> None:
    if not _NAME.fullmatch(name):
        raise SettingsError(f"{origin}: {what} {name!r}: a name is lower-case letters, digits and '-', 41 at most")
    if name in seen:
        raise SettingsError(f"{origin}: {what} {name} stands there twice")


def _workers(kind: Kind, rows: Iterable[_Worker], sites: Mapping[str, Site], origin: str) -> dict[str, WorkerSpec]:
    out: dict[str, WorkerSpec] = {}
    for w in rows:
        account = f"{kind.value}-{w.name}"
        _check_name(w.name, kind.value, {short_name(n): 0 for n in out}, origin)
        if w.site not in sites:
            raise SettingsError(
                f"{origin}: {kind.value} {w.name}: site {w.site!r} is not among {', '.join(sorted(sites))}"
            )
        if not (math.isfinite(w.capacity_eps) and w.capacity_eps > 0):
            raise SettingsError(f"{origin}: {kind.value} {w.name}: capacity_eps must be above 0, not {w.capacity_eps}")
        out[account] = WorkerSpec(account, kind, w.site, w.capacity_eps)
    return out
