"""What `geolane nodes list` prints of the inventory."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from agents.__main__ import main
from agents.admin.members.changes import InventoryWorker, list_workers
from agents.admin.members.request import MemberRequest
from agents.settings import Coordinator, Settings, Worker
from tests.admin.test_inventory_file import FILE
from tests.cli.held import hold_line


def printed(folder: Path, worker: Worker) -> str:
    inventory = folder / "inventory.toml"
    inventory.write_text(FILE)
    settings = Settings(coordinator=Coordinator(inventory=str(inventory)), worker=worker)
    asked = MemberRequest.from_options(settings, folder / "geolane.toml", None, None)
    return "\n".join(list_workers(asked))


def test_the_list_has_the_inventorys_capacity_and_the_ceiling_that_the_settings_set(
    tmp_path: Path,
) -> None:
    assert "5,000 events/s  no password" in printed(tmp_path, Worker())
    assert "limited to" not in printed(tmp_path, Worker())
    limited = printed(tmp_path, Worker(capacity_eps=2500.0))
    assert "5,000 events/s, limited to 2,500 by worker.capacity_eps" in limited
    assert "2,000 events/s  no password" in limited


def test_for_programs_each_worker_is_a_typed_line(tmp_path: Path) -> None:
    (tmp_path / "inventory.toml").write_text(FILE)
    settings = tmp_path / "geolane.toml"
    settings.write_text(f'[coordinator]\ninventory = "{tmp_path / "inventory.toml"}"\n')
    done = CliRunner().invoke(main, ["nodes", "list", "--json", "--settings", str(settings)])
    rows = [hold_line(line, InventoryWorker) for line in done.stdout.splitlines()]
    assert {r.capacity_eps for r in rows} >= {5000.0, 2000.0}
    assert all(r.region and not r.has_password and r.ceiling_eps is None for r in rows)
    assert {f"{r.kind}-{r.name.removeprefix(r.kind + '-')}" for r in rows} == {
        r.worker for r in rows
    }
