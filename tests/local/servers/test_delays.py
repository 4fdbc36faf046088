"""Which sites take part in a run, and how far each of them is from its broker."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.base.errors import SettingsError
from agents.core.model.inventory import InventoryFile
from agents.geodata import RTT_TABLE
from agents.local.servers.delays import Delays, DistantBroker, choose_sites, keep_sites
from agents.local.stack import INVENTORY, StackPlan
from agents.local.up import UpOptions
from agents.settings import Settings, decode_toml

FILE = decode_toml(INVENTORY, InventoryFile)


def test_sites_are_a_number_or_names_or_all_that_have_a_node() -> None:
    assert choose_sites(FILE, "3", "f") == ("yyz", "dsm", "iad")
    assert choose_sites(FILE, "mwh, iad,mwh", "f") == ("mwh", "iad")
    assert len(choose_sites(FILE, "", "f")) == 10


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ("0", "from 1 to 10"),
        ("11", "from 1 to 10"),
        ("-1", "no site '-1'"),
        ("iadd", "Did you mean iad"),
        ("iad,", "no site ''"),
    ],
)
def test_a_site_that_does_not_exist_is_said(wanted: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        choose_sites(FILE, wanted, "f")


def test_the_router_moves_to_the_broker_if_its_site_is_left_out() -> None:
    left = keep_sites(FILE, ("iad", "mwh"), "iad")
    assert [n.name for n in left.node] == ["iad-1", "mwh-1"]
    assert [r.site for r in left.router] == ["iad"]
    assert [r.site for r in keep_sites(FILE, ("dsm",), "iad").router] == ["dsm"]


def test_the_delays_are_those_of_the_table_to_the_brokers_site() -> None:
    plan = StackPlan(Settings(), sites="iad,sfo", delays="azure", broker_at="mwh", analytics="off")
    delays = plan.read_delays()
    assert delays is not None
    assert delays.rtt_ms == {"iad": 68, "sfo": 25, "mwh": 0}
    assert delays.describe() == "Kafka at mwh; round trips iad 68 ms, sfo 25 ms"


def test_the_broker_is_at_the_first_routers_site_unless_it_is_said() -> None:
    def broker_at(sites: str) -> str:
        delays = StackPlan(Settings(), sites=sites, delays="azure").read_delays()
        assert delays is not None
        return delays.broker_at

    assert [broker_at(sites) for sites in ("", "3", "sfo,iad")] == ["dsm", "dsm", "sfo"]


def _table(tmp_path: Path, before: str, after: str) -> str:
    text = RTT_TABLE.read_text("utf-8")
    assert before in text
    file = tmp_path / "table.csv"
    file.write_text(text.replace(before, after, 1), "utf-8")
    return str(file)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("69,70,74,48", "69,,74,48", "no round-trip time for this pair"),
        ("69,70,74,48", "69,60000,74,48", "60000 ms is not from 0 to 2,000"),
        ("69,70,74,48", "69,-5,74,48", "not a positive number"),
        ("69,70,74,48", "69,x,74,48", "'x' is not a positive number"),
    ],
)
def test_a_table_with_a_bad_pair_is_refused(
    tmp_path: Path, before: str, after: str, words: str
) -> None:
    # West US 2 to East US 2
    table = _table(tmp_path, before, after)
    with pytest.raises(SettingsError, match=words):
        Delays.from_table(table, FILE, ("mwh",), "ric")


def test_a_table_without_the_region_of_a_site_is_refused(tmp_path: Path) -> None:
    text = RTT_TABLE.read_text("utf-8").replace("West US 2", "Elsewhere")
    (tmp_path / "table.csv").write_text(text, "utf-8")
    with pytest.raises(SettingsError, match="no region 'West US 2', that of site mwh"):
        Delays.from_table(str(tmp_path / "table.csv"), FILE, ("mwh",), "iad")
    with pytest.raises(SettingsError, match="cannot be read"):
        Delays.from_table(str(tmp_path / "none.csv"), FILE, ("mwh",), "iad")


def test_a_broker_at_no_site_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"--broker-at iadd: .* Did you mean iad"):
        Delays.from_table("azure", FILE, ("mwh",), "iadd")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"broker_at": "iad"}, "--broker-at needs --delays"),
        ({"delays": "azure", "kafka": "h:1"}, "omit --kafka"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    options: dict[str, str], words: str
) -> None:
    with pytest.raises(SettingsError, match=words):
        UpOptions.from_options(options)


def test_each_far_site_has_a_listener_and_a_link_of_its_own(tmp_path: Path) -> None:
    delays = Delays("iad", {"iad": 0.0, "sfo": 71.0, "mwh": 70.0}, RTT_TABLE)
    broker = DistantBroker(tmp_path, delays)
    links = {link.name: link for link in broker.links}
    assert {name: link.rtt_ms for name, link in links.items()} == {"sfo": 71, "mwh": 70}
    assert broker.bootstrap_at("iad") == broker.bootstrap
    assert broker.bootstrap_at("sfo") == f"127.0.0.1:{links['sfo'].listen}"
    assert len({broker.bootstrap_at(site) for site in delays.rtt_ms}) == 3
