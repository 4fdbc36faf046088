"""What `geolane nodes list` prints of the inventory."""

from __future__ import annotations

from pathlib import Path

from agents.admin.members.changes import list_workers
from agents.admin.members.request import MemberRequest
from agents.settings import Coordinator, Settings, Worker
from tests.admin.members.test_inventory_file import FILE


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
