"""What the stack writes, everybody's reader reads back."""

from __future__ import annotations

import gzip
import stat
from pathlib import Path

from agents.base import json_lines
from agents.cli.local import up
from agents.core.model.inventory import Inventory, InventoryFile
from agents.core.model.topology import WorkerKind
from agents.geodata import read_rtt
from agents.local import stack
from agents.local.stack import INVENTORY, StackPlan
from agents.local.up import UpOptions
from agents.settings import Kafka, Settings, Worker, decode_toml, load_settings


def test_settings_come_back_as_they_were(tmp_path: Path) -> None:
    settings = Settings(
        kafka=Kafka(bootstrap='h"o\\st:1', ca_file="/a b/ä.pem"), worker=Worker(pipeline="a:b")
    )
    file = stack.write_settings(tmp_path / "node-x.toml", settings)
    assert load_settings(file) == settings
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_the_inventory_comes_back_as_it_was(tmp_path: Path) -> None:
    there = decode_toml(INVENTORY, InventoryFile)
    copy = tmp_path / "inventory.toml"
    copy.write_text(stack.inventory_to_toml(there), "utf-8")
    assert decode_toml(copy, InventoryFile) == there


def test_the_embedded_inventory_is_ten_nodes_in_regions_with_measured_times() -> None:
    inventory = Inventory.from_file(decode_toml(INVENTORY, InventoryFile), "inventory.toml")
    regions = {site.region for site in inventory.sites.values()}
    assert len(regions) == 10
    assert regions <= set(read_rtt().regions)
    assert sum(w.worker.startswith("node-") for w in inventory.workers.values()) == 10
    assert [w.worker for w in inventory.workers.values() if w.worker.startswith("router-")] == [
        "router-1"
    ]


def test_a_stack_has_the_analytics_that_it_is_to_have(tmp_path: Path) -> None:
    def workers(analytics: str, inventory: Path = INVENTORY) -> list[str]:
        file = StackPlan(Settings(), inventory, analytics=analytics).read_inventory()
        read = Inventory.from_file(file, "inventory.toml")
        return [w.worker for w in read.workers_of(WorkerKind.ANALYTICS)]

    assert [workers(x) for x in ("", "off", "embedded")] == [[], [], ["analytics-1"]]
    own = tmp_path / "inventory.toml"
    row = '\n[[analytics]]\nname = "mine"\nsite = "dsm"\ncapacity_eps = 5.0\n'
    own.write_text(INVENTORY.read_text("utf-8") + row, "utf-8")
    mine = ["analytics-mine"]
    assert [workers(x, own) for x in ("", "off", "embedded")] == [mine, [], mine]


def test_up_runs_analytics_unless_the_servers_are_somebody_elses() -> None:
    def plan(*given: str) -> str:
        ctx = up.make_context("up", list(given))
        return UpOptions.from_options(ctx.params).make_plan().analytics

    assert plan() == "embedded"
    assert plan("--kafka", "h:1") == plan("--xmpp", "d", "--secrets", "/tmp") == ""
    assert plan("--analytics", "off") == "off"
    assert plan("--kafka", "h:1", "--analytics", "embedded") == "embedded"


def test_a_stack_has_the_geo_workers_that_it_is_to_have(tmp_path: Path) -> None:
    def workers(maps: str, inventory: Path = INVENTORY) -> list[str]:
        file = StackPlan(Settings(), inventory, maps=maps).read_inventory()
        read = Inventory.from_file(file, "inventory.toml")
        return [w.worker for w in read.workers_of(WorkerKind.GEO)]

    def plan(*given: str) -> str:
        return UpOptions.from_options(up.make_context("up", list(given)).params).make_plan().maps

    assert [workers(x) for x in ("", "off", "settings", "demo")] == [[], [], ["geo-1"], ["geo-1"]]
    own = tmp_path / "inventory.toml"
    row = '\n[[geo]]\nname = "mine"\nsite = "dsm"\ncapacity_eps = 5.0\n'
    own.write_text(INVENTORY.read_text("utf-8") + row, "utf-8")
    assert [workers(x, own) for x in ("", "off", "demo")] == [["geo-mine"], [], ["geo-mine"]]
    assert (plan(), plan("--maps", "demo"), plan("--kafka", "h:1")) == ("settings", "demo", "")


def test_a_flink_is_started_unless_the_settings_name_one() -> None:
    def plan(*given: str) -> tuple[str, str, bool]:
        plan = UpOptions.from_options(up.make_context("up", list(given)).params).make_plan()
        return plan.analytics, plan.base.analytics.engine, plan.has_flink

    own = ("--set", "analytics.flink.gateway_url=https://flink.example:8083")
    assert plan() == ("embedded", "embedded", False)
    assert plan("--analytics", "flink") == ("flink", "flink", True)
    assert plan("--analytics", "flink", *own) == ("flink", "flink", False)
    assert plan("--set", "analytics.engine=flink", *own) == ("embedded", "flink", False)


def test_a_users_file_is_read_line_by_line_packed_or_not(tmp_path: Path) -> None:
    text = b'{"a": 1}\n\n  {"a": 2} \n\xff\n'
    (tmp_path / "plain").write_bytes(text)
    (tmp_path / "packed").write_bytes(gzip.compress(text))
    for name in ("plain", "packed"):
        with (tmp_path / name).open("rb") as file:
            assert list(json_lines.read_keyed_events(file)) == [
                (None, b'{"a": 1}'),
                (None, b'{"a": 2}'),
                (None, b"\xff"),
            ]
