"""Faults in files and on this machine, made on purpose: the doctor names each, and no server is
needed."""

from __future__ import annotations

import json
import os
import resource
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from agents.__main__ import main
from agents.admin.doctor.files import Files
from agents.admin.doctor.host import Host
from agents.admin.doctor.judge.roles import Whom
from agents.admin.doctor.judge.verdict import Level
from agents.local.stack import INVENTORY
from agents.settings import Coordinator, Metrics, Worker, Xmpp, read_secret
from tests.admin.doctor.support import findings, loaded, named

COORDINATOR = Whom("geolane")


def password(folder: Path, account: str, mode: int = 0o600, text: str = "secret") -> Path:
    folder.mkdir(mode=0o700, exist_ok=True)
    file = folder / account
    file.write_text(f"{text}\n", "ascii")
    file.chmod(mode)
    return file


def files(
    tmp_path: Path,
    *,
    inventory: Path = INVENTORY,
    who: Whom = COORDINATOR,
    secrets: Path | None = None,
) -> Files:
    own = tmp_path / "secrets" / who.account
    made = loaded(
        coordinator=Coordinator(inventory=str(inventory)), xmpp=Xmpp(password_file=str(own))
    )
    return Files(made, who, secrets)


async def test_files_as_they_must_be_are_ok(tmp_path: Path) -> None:
    for account in ("geolane", "node-a", "router-1"):
        password(tmp_path / "secrets", account)
    inventory = tmp_path / "inventory.toml"
    inventory.write_text(
        '[[site]]\nname = "s"\nlat = 1.0\nlon = 1.0\nregion = "r"\n[[node]]\nname = "a"\nsite = '
        '"s"\ncapacity_eps = 10.0\n'
        '[[router]]\nname = "1"\nsite = "s"\ncapacity_eps = 10.0\n'
    )
    found = await findings(
        files(tmp_path, inventory=inventory, secrets=tmp_path / "secrets").list_checks()
    )
    assert [f.name for f in found.values() if f.level is not Level.OK] == ["pipeline"], found
    assert found["files passwords"].found.startswith("3 files of mode 0600")


def test_every_wrong_setting_is_a_finding_and_nothing_else_is_looked_at(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text("[kafka]\nbootstap = 'a:1'\n[worker]\nbatch_records = 0\n")
    done = CliRunner().invoke(main, ["doctor", "--settings", str(file), "--json"])
    assert done.exit_code == 2
    said = json.loads(done.stdout)
    assert (said["ok"], said["counts"]["fault"], len(said["findings"])) == (False, 2, 2)
    assert "Did you mean kafka.bootstrap?" in said["findings"][0]["found"]
    assert "worker.batch_records" in said["findings"][1]["found"]


def test_settings_that_are_not_there_exit_with_2(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("agents.local.servers.folder.default_folder", lambda: tmp_path)
    done = CliRunner().invoke(main, ["doctor"])
    assert done.exit_code == 2
    assert "no stack of `geolane up` has run here; name a file with --settings" in done.stdout


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[nod]]\n", ["nod: there is no such key", "site: is missing"]),
        (
            '[[site]]\nname = "s"\nlat = 91.0\nlon = 0.0\nregion = "r"\nnode = []\nrouter = []\n',
            ["inventory.toml"],
        ),
    ],
)
async def test_a_bad_inventory_is_named(tmp_path: Path, text: str, words: list[str]) -> None:
    file = tmp_path / "inventory.toml"
    file.write_text(text)
    found = await findings(files(tmp_path, inventory=file).list_checks(), "files inventory")
    named(found, "files inventory", *words, str(file))


async def test_a_missing_inventory_is_a_fault_of_the_coordinator_alone(tmp_path: Path) -> None:
    missing = tmp_path / "none.toml"
    named(
        await findings(files(tmp_path, inventory=missing).list_checks(), "files inventory"),
        "files inventory",
        "no such file",
    )
    worker = await findings(
        files(tmp_path, inventory=missing, who=Whom("node-a")).list_checks(), "files inventory"
    )
    named(worker, "files inventory", "only the coordinator needs it", level=Level.SKIPPED)


async def test_passwords_that_others_can_read_or_that_are_missing_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    password(folder, "geolane", 0o644)
    password(folder, "node-iad-1", text="")
    found = await findings(files(tmp_path, secrets=folder).list_checks())
    named(found, "files password", "others can read this secret", "chmod 600")
    named(
        found,
        "files passwords",
        "others can read",
        "node-iad-1: the password is empty",
        "router-1: are in the inventory, without a password file",
    )
    (folder / "geolane").unlink()
    found = await findings(files(tmp_path, secrets=folder).list_checks())
    named(found, "files password", "cannot be read")
    named(found, "files passwords", "geolane: there is no password file")


async def test_a_pipeline_that_cannot_be_loaded_is_named(tmp_path: Path) -> None:
    who = Whom("node-a")
    for name, said in (
        ("no_such_module:f", "No module named"),
        ("json:no_such", "no_such"),
        ("json:__name__", "not a function"),
    ):
        checks = Files(loaded(worker=Worker(pipeline=name)), who, None).list_checks()
        named(await findings(checks, "files pipeline"), "files pipeline", said, "worker.pipeline")
    for worker, said in (
        (Worker(pipeline="agents.node.flights:pipeline"), "can be loaded"),
        (Worker(), "none: events pass unchanged"),
    ):
        checks = Files(loaded(worker=worker), who, None).list_checks()
        named(await findings(checks, "files pipeline"), "files pipeline", said, level=Level.OK)


@pytest.mark.parametrize(
    ("mode", "level"), [(0o777, Level.FAULT), (0o755, Level.WARNING), (0o700, Level.OK)]
)
async def test_a_folder_of_passwords_that_is_open_is_named(
    tmp_path: Path, mode: int, level: Level
) -> None:
    who, folder = Whom("ana"), tmp_path / "secrets"
    password(folder, "ana")
    folder.chmod(mode)
    found = await findings(
        files(tmp_path, who=who, secrets=folder, inventory=tmp_path / "none.toml").list_checks(),
        "files passwords",
    )
    assert found["files passwords"].level is level, found
    named(
        found, "files passwords", f"{mode:04o}" if level is not Level.OK else "1 files", level=level
    )


def host(
    tmp_path: Path,
    who: Whom = COORDINATOR,
    journal: str = "journal.sqlite3",
    mb: int = 1,
    port: int = 0,
) -> Host:
    coordinator = Coordinator(journal=str(tmp_path / journal), journal_mb=mb)
    return Host(loaded(coordinator=coordinator, metrics=Metrics(port=port)).settings, who)


async def test_this_machine_is_ok(tmp_path: Path) -> None:
    found = await findings(host(tmp_path).list_checks(), "host versions", "host journal")
    assert [f for f in found.values() if f.level is not Level.OK] == []
    assert "will be created" in found["host journal"].found
    assert not os.listdir(tmp_path), "nothing is left there"


async def test_a_disk_that_cannot_hold_the_journal_is_named(tmp_path: Path) -> None:
    found = await findings(host(tmp_path, mb=1 << 40).list_checks(), "host disk")
    named(found, "host disk", "MB free at", "coordinator.journal_mb", level=Level.WARNING)


async def test_a_journal_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    named(
        await findings(host(tmp_path, journal="none/j").list_checks(), "host journal"),
        "host journal",
        "no such folder",
    )
    (tmp_path / "text").write_text("this is a text of some length, and no database at all")
    named(
        await findings(host(tmp_path, journal="text").list_checks(), "host journal"),
        "host journal",
        "is not a database",
    )
    with closing(sqlite3.connect(tmp_path / "j.sqlite3")) as db:
        db.execute("CREATE TABLE notes (id)")
        db.execute("BEGIN EXCLUSIVE")
        named(
            await findings(host(tmp_path, journal="j.sqlite3").list_checks(), "host journal"),
            "host journal",
            "locked",
        )
    named(
        await findings(host(tmp_path, journal="j.sqlite3").list_checks(), "host journal"),
        "host journal",
        "1 tables",
        level=Level.OK,
    )


@contextmanager
def may_open(files: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_too_few_open_files_are_named(tmp_path: Path) -> None:
    with may_open(200):
        found = await findings(host(tmp_path).list_checks(), "host open files")
    named(found, "host open files", "200 files", "LimitNOFILE")


async def test_a_metrics_port_that_another_program_has_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        found = await findings(host(tmp_path, port=port).list_checks(), "host metrics port")
        named(found, "host metrics port", f"127.0.0.1:{port} is taken by another program")
    named(
        await findings(host(tmp_path, port=port).list_checks(), "host metrics port"),
        "host metrics port",
        "free",
        level=Level.OK,
    )


def test_no_password_is_in_a_report(tmp_path: Path) -> None:
    file = password(tmp_path / "secrets", "ana", text="correct-horse")
    assert read_secret(str(file)) == "correct-horse"
    settings = tmp_path / "x.toml"
    settings.write_text(
        f'[xmpp]\nhost = "127.0.0.1"\nport = 1\npassword_file = "{file}"\n[kafka]\nbootstrap = '
        '"127.0.0.1:1"\n'
    )
    done = CliRunner().invoke(main, ["doctor", "--settings", str(settings)])
    assert done.exit_code == 1
    assert "correct-horse" not in done.output
    for said in (
        "127.0.0.1:1: nothing listens there",
        "because `xmpp server` is at fault: hosts, certificate, login",
        "as ana: ",
    ):
        assert said in done.output
