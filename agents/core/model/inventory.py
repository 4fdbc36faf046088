"""The inventory: sites, workers with their capacity, residency rules and priorities. It comes from
one TOML file; a worker may only lower what it says."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

import h3
import msgspec

from agents.base.errors import SettingsError
from agents.base.suggest import suggest_names
from agents.core.model.topology import KINDS, Site, WorkerKind, WorkerSpec, name_without_kind

LEVEL_AT_MOST = 100
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,40}")


class _Site(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    name: str
    lat: float
    lon: float
    region: str
    country: str = ""
    egress_ms: float = 0.0
    racks: list[str] = []


class _Worker(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    site: str
    capacity_eps: float


class _Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    name: str
    stays_in: list[str]
    cells: list[str] | None = None
    country: str | None = None
    region: str | None = None


class _Priority(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    level: int = 0
    cells: list[str] | None = None
    country: str | None = None
    region: str | None = None


class InventoryFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file as it is written: `[[site]]`, `[[node]]`, `[[router]]`, and optionally
    `[[analytics]]`, `[[geo]]`, `[[rule]]` and `[[priority]]`."""

    site: list[_Site]
    node: list[_Worker]
    router: list[_Worker]
    analytics: list[_Worker] = []
    geo: list[_Worker] = []
    rule: list[_Rule] = []
    priority: list[_Priority] = []


class Area(msgspec.Struct, frozen=True):
    """The cells that a rule or priority binds, given in one of three ways. `cells`: H3 cells with
    everything inside them. `country`: an ISO 3166 code. `region`: all cells whose nearest site is
    in that region. `row`: the name in messages, `rule eu` or `priority 2`."""

    row: str
    cells: tuple[str, ...] = ()
    country: str = ""
    region: str = ""

    def __str__(self) -> str:
        if self.country or self.region:
            return f"country {self.country}" if self.country else f"region {self.region}"
        return f"cell {self.cells[0]}" if len(self.cells) == 1 else f"{len(self.cells)} cells"


class ResidencyRule(msgspec.Struct, frozen=True):
    """Lanes with cells in `area` may only be at these `sites`."""

    name: str
    area: Area
    sites: frozenset[str]


class Priority(msgspec.Struct, frozen=True):
    """Lanes with cells in `area` have this `level`; all others have 0. When not all lanes fit,
    those with a lower level wait."""

    area: Area
    level: int


class Inventory(msgspec.Struct, frozen=True):
    """Sites by name, workers by account name (`node-iad-1`). `origin`: the file that it came
    from."""

    sites: Mapping[str, Site]
    workers: Mapping[str, WorkerSpec]
    rules: tuple[ResidencyRule, ...] = ()
    priorities: tuple[Priority, ...] = ()
    origin: str = "inventory"

    def workers_of(self, kind: WorkerKind) -> list[WorkerSpec]:
        return [w for w in self.workers.values() if w.kind == kind]

    def kinds_in_use(self) -> list[WorkerKind]:
        """The kinds that have workers; those that the planner places come first."""
        return sorted(
            {w.kind for w in self.workers.values()}, key=lambda k: (not k.planned, k.name)
        )

    @classmethod
    def from_file(cls, file: InventoryFile, origin: str) -> Inventory:
        """The inventory from the file's content; `origin` names the file in errors. Raises
        SettingsError when something in it is wrong."""
        sites = _sites_from_rows(file.site, origin)
        workers: dict[str, WorkerSpec] = {}
        for kind in KINDS:
            workers |= _workers_from_rows(kind, getattr(file, kind.name), sites, origin)
        if not any(w.kind == WorkerKind.NODE for w in workers.values()):
            raise SettingsError(f"{origin}: there is no [[node]]")
        if not any(w.kind == WorkerKind.ROUTER for w in workers.values()):
            raise SettingsError(f"{origin}: there is no [[router]]")
        rules = _rules_from_rows(file.rule, sites, origin)
        return cls(
            sites, workers, rules, _priorities_from_rows(file.priority, sites, origin), origin
        )


REGION_LIMIT = 100
CAPACITY_LIMIT_EPS = 1e9  # sums over all workers stay finite and exact


def _check_name(name: str, what: str, seen: Iterable[str], origin: str) -> None:
    if not _NAME.fullmatch(name):
        raise SettingsError(
            f"{origin}: {what} {name!r}: a name is up to 41 lower-case letters, digits and '-'"
        )
    if name in seen:
        raise SettingsError(f"{origin}: {what} {name} is listed twice")


def _sites_from_rows(rows: Iterable[_Site], origin: str) -> dict[str, Site]:
    out: dict[str, Site] = {}
    for s in rows:
        _check_name(s.name, "site", out, origin)
        where = f"{origin}: site {s.name}"
        if not (
            math.isfinite(s.lat) and abs(s.lat) <= 90 and math.isfinite(s.lon) and abs(s.lon) <= 180
        ):
            raise SettingsError(f"{where}: lat {s.lat}, lon {s.lon} is not a valid position")
        if len(s.region) > REGION_LIMIT or not s.region.isprintable():
            raise SettingsError(
                f"{where}: region {s.region[:40]!r} is not up to {REGION_LIMIT} "
                "printable characters"
            )
        if s.country and s.country not in CODES:
            raise SettingsError(
                f"{where}: country {s.country!r} is not a valid country. "
                f"{suggest_country(s.country)}"
            )
        if not (math.isfinite(s.egress_ms) and 0 <= s.egress_ms <= 60_000):
            raise SettingsError(f"{where}: egress_ms must be from 0 to 60000, not {s.egress_ms}")
        for rack in s.racks:
            if other := next((o.name for o in out.values() if rack in o.racks), ""):
                raise SettingsError(f"{where}: rack {rack!r} is at site {other} already")
        out[s.name] = Site(s.name, s.lat, s.lon, s.region, s.country, s.egress_ms, tuple(s.racks))
    return out


def find_site_of_rack(inventory: Inventory, rack: str) -> str:
    """The site where brokers of this rack are: the one that lists the rack, or has its name, or is
    the only one in the region of its name. Empty if there is none."""
    if not rack:
        return ""
    sites = inventory.sites.values()
    for found in (
        [s.name for s in sites if rack in s.racks],
        [s.name for s in sites if rack == s.name],
        [s.name for s in sites if rack == s.region],
    ):
        if len(found) == 1:
            return found[0]
    return ""


def find_unknown_racks(inventory: Inventory, racks: Mapping[int, str]) -> dict[str, list[int]]:
    """The racks that name no site, each with its brokers; `""`: those without a rack. None if all
    nodes are at one site, since all brokers are then as near to each of them. `racks`: by
    broker."""
    found: dict[str, list[int]] = {}
    if len({w.site for w in inventory.workers_of(WorkerKind.NODE)}) > 1:
        for broker, rack in sorted(racks.items()):
            if not find_site_of_rack(inventory, rack):
                found.setdefault(rack, []).append(broker)
    return found


def _workers_from_rows(
    kind: WorkerKind, rows: Iterable[_Worker], sites: Mapping[str, Site], origin: str
) -> dict[str, WorkerSpec]:
    out: dict[str, WorkerSpec] = {}
    for w in rows:
        account = kind.account(w.name)
        _check_name(w.name, kind.name, [name_without_kind(n) for n in out], origin)
        if w.site not in sites:
            raise SettingsError(
                f"{origin}: {kind.name} {w.name}: there is no site {w.site!r}. "
                f"{suggest_names(w.site, sites)}"
            )
        if not 0 < w.capacity_eps <= CAPACITY_LIMIT_EPS:
            raise SettingsError(
                f"{origin}: {kind.name} {w.name}: capacity_eps must be above 0 and up to "
                f"{CAPACITY_LIMIT_EPS:.0e}, not {w.capacity_eps}"
            )
        out[account] = WorkerSpec(account, kind, w.site, w.capacity_eps)
    return out


def _rules_from_rows(
    rows: Iterable[_Rule], sites: Mapping[str, Site], origin: str
) -> tuple[ResidencyRule, ...]:
    out: dict[str, ResidencyRule] = {}
    for r in rows:
        _check_name(r.name, "rule", out, origin)
        area = _area_from_row(r, f"rule {r.name}", sites, origin)
        if not r.stays_in:
            raise SettingsError(
                f"{origin}: {area.row}: stays_in is empty: name sites, regions or countries of "
                "sites"
            )
        may = frozenset[str]().union(
            *(_find_sites(word, area.row, sites, origin) for word in r.stays_in)
        )
        out[r.name] = ResidencyRule(r.name, area, may)
    return tuple(out.values())


def _priorities_from_rows(
    rows: Sequence[_Priority], sites: Mapping[str, Site], origin: str
) -> tuple[Priority, ...]:
    out = []
    for i, p in enumerate(rows):
        area = _area_from_row(p, f"priority {i + 1}", sites, origin)
        if abs(p.level) > LEVEL_AT_MOST:
            raise SettingsError(
                f"{origin}: {area.row}: level must be from {-LEVEL_AT_MOST} to {LEVEL_AT_MOST}, "
                f"not {p.level}"
            )
        out.append(Priority(area, p.level))
    return tuple(out)


def _area_from_row(
    row: _Rule | _Priority, name: str, sites: Mapping[str, Site], origin: str
) -> Area:
    where = f"{origin}: {name}"
    given = [key for key in ("cells", "country", "region") if getattr(row, key) is not None]
    if len(given) != 1:
        got = f"not {' and '.join(given)}" if given else "none is given"
        raise SettingsError(f"{where}: give exactly one of cells, country and region; {got}")
    if row.cells is not None:
        if not row.cells:
            raise SettingsError(
                f"{where}: cells is empty: name H3 cells, such as '842a107ffffffff'"
            )
        return Area(name, tuple(dict.fromkeys(_normalize_cell(c, where) for c in row.cells)))
    if row.country is not None:
        if row.country not in CODES:
            raise SettingsError(
                f"{where}: country {row.country!r} is not a valid country. "
                f"{suggest_country(row.country)}"
            )
        return Area(name, country=row.country)
    region = row.region or ""
    regions = {s.region for s in sites.values()}
    if region not in regions:
        raise SettingsError(
            f"{where}: no site is in region {region!r}. {suggest_names(region, regions)}"
        )
    return Area(name, region=region)


def _normalize_cell(cell: str, where: str) -> str:
    if not h3.is_valid_cell(cell):
        raise SettingsError(
            f"{where}: cells: {cell!r} is not a valid H3 cell: a cell is 15 hexadecimal digits, "
            "such as '842a107ffffffff'"
        )
    return str(h3.int_to_str(h3.str_to_int(cell)))


def _find_sites(word: str, row: str, sites: Mapping[str, Site], origin: str) -> frozenset[str]:
    """The sites that `word` names. If it names a site and a region of other sites, that is an
    error: the meaning is not guessed."""
    ways: list[Callable[[Site], str]] = [lambda s: s.name, lambda s: s.region, lambda s: s.country]
    found = {
        named
        for way in ways
        if (named := frozenset(s.name for s in sites.values() if word and way(s) == word))
    }
    if len(found) == 1:
        return found.pop()
    if found:
        raise SettingsError(
            f"{origin}: {row}: stays_in: {word!r} names a site and a region of other sites; rename "
            "one"
        )
    if word in CODES:
        raise SettingsError(
            f"{origin}: {row}: stays_in: no site has country = {word!r}; set it in its [[site]]"
        )
    known = {name for s in sites.values() for name in (s.name, s.region, s.country) if name}
    raise SettingsError(
        f"{origin}: {row}: stays_in: {word!r} is not a site, a region or the country of a site. "
        f"{suggest_names(word, known)}"
    )


# The countries that a rule may name: the codes of ISO 3166-1 alpha-2, and XK, which GeoNames uses
# for Kosovo.

_TABLE = (
    "AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR "
    "BS BT BV BW BY BZ CA "
    "CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET "
    "FI FJ FK FM FO FR GA "
    "GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ "
    "IR IS IT JE JM JO JP "
    "KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML "
    "MM MN MO MP MQ MR MS "
    "MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS "
    "PT PW PY QA RE RO RS "
    "RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL "
    "TM TN TO TR TT TV TW "
    "TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS XK YE YT ZA ZM ZW"
)
CODES = frozenset(_TABLE.split())
_MEANT = {"UK": "GB", "EL": "GR", "USA": "US", "GER": "DE"}


def suggest_country(word: str) -> str:
    """A hint for a `word` that is not a country code."""
    meant = word.upper() if word.upper() in CODES else _MEANT.get(word.upper(), "")
    if meant:
        return f"Did you mean {meant}?"
    return "A country is two capital letters, such as DE or US (ISO 3166-1 alpha-2)."
