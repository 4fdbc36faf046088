"""What an inventory says of rules, priorities and sites, and that each mistake names file, row, key
and what would be right."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from agents.base.errors import SettingsError
from agents.core.model.inventory import (
    CODES,
    Area,
    Inventory,
    InventoryFile,
    find_site_of_rack,
)
from agents.core.model.topology import WorkerKind
from agents.local import stack
from agents.local.stack import INVENTORY
from agents.settings import decode_toml

SITES = """
[[site]]
name = "fra"
region = "Germany West"
lat = 50.1
lon = 8.7
country = "DE"
egress_ms = 1.5

[[site]]
name = "ams"
region = "West Europe"
lat = 52.4
lon = 4.9
country = "NL"

[[site]]
name = "iad"
region = "East US"
lat = 37.4
lon = -79.8

[[node]]
name = "fra-1"
site = "fra"
capacity_eps = 100.0

[[router]]
name = "1"
site = "iad"
capacity_eps = 100.0
"""
Read = Callable[[str], Inventory]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def from_text(more: str) -> Inventory:
        path = tmp_path / "inventory.toml"
        path.write_text(SITES + more, "utf-8")
        return Inventory.from_file(decode_toml(path, InventoryFile), "inventory.toml")

    return from_text


def test_what_is_left_out_is_neutral(read: Read) -> None:
    inventory = read("")
    assert (inventory.rules, inventory.priorities) == ((), ())
    assert (inventory.sites["iad"].country, inventory.sites["iad"].egress_ms) == ("", 0.0)
    assert (inventory.sites["fra"].country, inventory.sites["fra"].egress_ms) == ("DE", 1.5)


@pytest.mark.parametrize(
    ("stays_in", "sites"),
    [
        ('["fra"]', {"fra"}),
        ('["East US"]', {"iad"}),
        ('["DE", "NL"]', {"fra", "ams"}),
        ('["DE", "West Europe", "fra"]', {"fra", "ams"}),
    ],
)
def test_stays_in_names_sites_regions_and_countries(
    read: Read, stays_in: str, sites: set[str]
) -> None:
    (rule,) = read(f'[[rule]]\nname = "eu"\ncountry = "FR"\nstays_in = {stays_in}\n').rules
    assert (rule.name, rule.area.country, rule.sites) == ("eu", "FR", frozenset(sites))


def test_what_a_rule_binds_is_said_in_few_words() -> None:
    cell = "841fae7ffffffff"
    for area, text in (
        (Area("rule x", cells=(cell,)), f"cell {cell}"),
        (Area("rule x", cells=(cell, "841faebffffffff")), "2 cells"),
        (Area("rule x", country="DE"), "country DE"),
        (Area("rule x", region="East US"), "region East US"),
    ):
        assert str(area) == text


def test_cells_are_written_one_way_and_once(read: Read) -> None:
    (rule,) = read(
        '[[rule]]\nname = "x"\ncells = ["841FAE7FFFFFFFF", "841fae7ffffffff"]\nstays_in = ["fra"]\n'
    ).rules
    assert rule.area.cells == ("841fae7ffffffff",)


def test_priorities_bind_the_same_ways(read: Read) -> None:
    text = (
        '[[priority]]\nregion = "East US"\nlevel = 10\n[[priority]]\ncountry = "DE"\nlevel = '
        '-100\n[[priority]]\ncountry = "US"\n'
    )
    assert [(str(p.area), p.level) for p in read(text).priorities] == [
        ("region East US", 10),
        ("country DE", -100),
        ("country US", 0),
    ]


RULE = '[[rule]]\nname = "eu"\n'
STAYS = 'stays_in = ["fra"]\n'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (RULE + STAYS, ["rule eu", "exactly one of cells, country and region", "none is given"]),
        (
            RULE + STAYS + 'country = "DE"\nregion = "East US"\n',
            ["rule eu", "not country and region"],
        ),
        (RULE + STAYS + "cells = []\n", ["rule eu", "cells is empty"]),
        (RULE + STAYS + 'cells = ["84"]\n', ["rule eu", "cells: '84'", "15 hexadecimal digits"]),
        (RULE + STAYS + 'country = "UK"\n', ["rule eu", "country 'UK'", "Did you mean GB?"]),
        (RULE + STAYS + 'country = "de"\n', ["rule eu", "country 'de'", "Did you mean DE?"]),
        (RULE + STAYS + 'country = "EU"\n', ["rule eu", "country 'EU'", "two capital letters"]),
        (
            RULE + STAYS + 'region = "east us"\n',
            ["rule eu", "region 'east us'", "Did you mean East US?"],
        ),
        (RULE + 'country = "DE"\nstays_in = []\n', ["rule eu", "stays_in is empty"]),
        (
            RULE + 'country = "DE"\nstays_in = ["West Euope"]\n',
            ["rule eu", "stays_in", "Did you mean West Europe?"],
        ),
        (
            RULE + 'country = "DE"\nstays_in = ["US"]\n',
            ["rule eu", "stays_in", "no site has country = 'US'"],
        ),
        (RULE + 'country = "DE"\nstays_in = [""]\n', ["rule eu", "stays_in", "There are: "]),
        (RULE + 'country = "DE"\n', ["rule eu: stays_in: is missing"]),
        (
            RULE + STAYS + 'country = "DE"\nstay = 1\n',
            ["rule eu: stay: there is no such key. Did you mean stays_in?"],
        ),
        (2 * (RULE + STAYS + 'country = "DE"\n'), ["rule eu is listed twice"]),
        ('[[rule]]\nname = "a + b"\ncountry = "DE"\n' + STAYS, ["rule 'a + b'", "a name is"]),
        (
            '[[priority]]\ncountry = "DE"\nlevel = 101\n',
            ["priority 1", "level must be from -100 to 100, not 101"],
        ),
        (
            '[[priority]]\ncountry = "DE"\n[[priority]]\nlevel = 1\n',
            ["priority 2", "exactly one of"],
        ),
        (
            '[[priority]]\ncountry = "DE"\nlevel = "high"\n',
            ["priority 1: level: must be a whole number, not 'high'"],
        ),
        (
            '[[site]]\nname = "lhr"\nregion = "x"\nlat = 51\nlon = 0\ncountry = "UK"\n',
            ["site lhr", "Did you mean GB?"],
        ),
        (
            '[[site]]\nname = "lhr"\nregion = "x"\nlat = 51\nlon = 0\negress_ms = -1\n',
            ["site lhr", "egress_ms"],
        ),
        (
            '[[site]]\nname = "lhr"\nregion = "a\\u202eb"\nlat = 51\nlon = 0\n',
            ["site lhr: region 'a\\u202eb' is not up to 100 printable characters"],
        ),
        (
            '[[node]]\nname = "x"\nsite = "fra"\ncapacity_eps = 1e308\n',
            ["node x: capacity_eps must be above 0 and up to 1e+09, not 1e+308"],
        ),
        (
            '[[node]]\nname = "x"\nsite = "far"\ncapacity_eps = 1\n',
            ["node x", "no site 'far'", "Did you mean fra?"],
        ),
    ],
)
def test_a_mistake_names_file_row_key_and_what_would_be_right(
    read: Read, text: str, says: list[str]
) -> None:
    with pytest.raises(SettingsError) as error:
        read(text)
    assert "inventory.toml" in str(error.value)
    for part in says:
        assert part in str(error.value)


def test_a_word_for_different_sites_is_refused_not_guessed(read: Read) -> None:
    other = '[[site]]\nname = "lhr"\nregion = "fra"\nlat = 51\nlon = 0\n'
    with pytest.raises(SettingsError, match="'fra' names a site and a region of other sites"):
        read(other + RULE + STAYS + 'country = "DE"\n')


def test_rules_survive_the_copy_that_the_stack_makes(read: Read, tmp_path: Path) -> None:
    more = (
        RULE + STAYS + 'cells = ["841fae7ffffffff"]\n[[priority]]\nregion = "East US"\nlevel = 3\n'
    )
    inventory = read(more)
    there = decode_toml(tmp_path / "inventory.toml", InventoryFile)
    copy = tmp_path / "copy.toml"
    copy.write_text(stack.inventory_to_toml(there), "utf-8")
    assert decode_toml(copy, InventoryFile) == there
    assert Inventory.from_file(there, "inventory.toml") == inventory


def test_the_examples_in_the_docs_and_in_the_file_can_be_pasted() -> None:
    text = INVENTORY.read_text("utf-8")
    known = tomllib.loads(text)
    assert "rule" not in known, "the examples change nothing"
    docs = (Path(__file__).parents[3] / "docs" / "residency.md").read_text("utf-8")
    shown = tomllib.loads("".join(re.findall(r"```toml\n(.*?)```", docs, re.S)))
    of_docs = known | {
        "site": shown["site"] + known["site"][1:],
        "rule": shown["rule"],
        "priority": shown["priority"],
    }
    inventory = Inventory.from_file(msgspec.convert(of_docs, InventoryFile), "docs")
    assert [r.name for r in inventory.rules] == ["canada", "lab", "west"]
    assert [p.level for p in inventory.priorities] == [10, -5]
    example = "\n".join(
        line.removeprefix("# ") for line in text.partition("residency.md):\n")[2].split("\n")
    )
    of_file = known | tomllib.loads(example.replace("#\n", "\n"))
    inventory = Inventory.from_file(msgspec.convert(of_file, InventoryFile), "file")
    assert [r.name for r in inventory.rules] == ["canada"]
    assert [p.level for p in inventory.priorities] == [10]


def test_every_code_is_two_capital_letters() -> None:
    assert len(CODES) == 250
    assert all(len(code) == 2 and code.isupper() for code in CODES)


@pytest.mark.parametrize("kind", [WorkerKind.ANALYTICS, WorkerKind.GEO], ids=lambda k: k.name)
def test_rows_of_optional_kinds_are_read_as_routers_are(read: Read, kind: WorkerKind) -> None:
    name = kind.name
    assert kind not in read("").kinds_in_use()
    row = f'[[{name}]]\nname = "1"\nsite = "fra"\ncapacity_eps = 5.0\n'
    [spec] = read(row).workers_of(kind)
    assert (spec.worker, spec.name, spec.label, spec.site) == (
        *(f"{name}-1", "1", f"{name}-1", "fra"),
    )
    with pytest.raises(SettingsError, match=rf"{name} 1 is listed twice"):
        read(row + row)
    with pytest.raises(SettingsError, match=rf"{name} 1: there is no site 'nyc'"):
        read(row.replace("fra", "nyc"))


def test_a_rack_is_at_the_site_that_lists_it_or_has_its_name_or_is_alone_in_its_region(
    read: Read,
) -> None:
    more = """
[[site]]
name = "fra2"
region = "Germany West"
lat = 50.2
lon = 8.8
racks = ["euc1-az1", "ams"]
"""
    found = read(more)
    for rack, site in (
        ("fra", "fra"),
        ("euc1-az1", "fra2"),
        ("ams", "fra2"),  # what is listed counts first
        ("East US", "iad"),
        ("Germany West", ""),  # two sites
        ("use1-az4", ""),
        ("", ""),
    ):
        assert find_site_of_rack(found, rack) == site, rack
    twice = more.replace("fra2", "fra3").replace(', "ams"', "")
    with pytest.raises(SettingsError, match="site fra3: rack 'euc1-az1' is at site fra2 already"):
        read(more + twice)
