"""The units that `geolane install-units` writes: valid, closed, the same when written again,
refused where they could not work."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from agents.__main__ import main
from agents.admin.systemd import install
from agents.admin.systemd.install import UNITS, find_place, render_unit, write_units
from agents.base.errors import InstallError

SERVICES = [name for name in UNITS if name.endswith(".service")]
EXPOSED_AT_MOST = 2.0
NOBODY = 65534


def needs_systemd() -> None:
    """Skip the test without systemd-analyze."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze (Debian: the package systemd)")


def run(root: Path, *more: str) -> Result:
    return CliRunner().invoke(main, ["install-units", "--root", str(root), *more])


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """A folder with the system's units for Kafka with SASL, as this machine's systemd reads
    them."""
    (tmp_path / "etc/geolane").mkdir(parents=True)
    (tmp_path / "etc/geolane/geolane.toml").write_text('[kafka]\nusername = "etl"\n')
    assert run(tmp_path).exit_code == 0
    return tmp_path / "etc/systemd/system"


def analyze(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_systemd_finds_nothing_wrong_with_them(units: Path) -> None:
    needs_systemd()
    names = [
        "geolane.target",
        "geolane-coordinator.service",
        "geolane-router@1.service",
        "geolane-node@iad-1.service",
        "geolane-analytics@1.service",
        "geolane-geo@1.service",
    ]
    done = analyze("verify", *names, folder=units)
    assert (done.returncode, [line for line in done.stderr.splitlines() if "geolane" in line]) == (
        0,
        [],
    )


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_exposed_to_little(units: Path, name: str) -> None:
    needs_systemd()
    done = analyze("security", "--offline=true", "--json=short", "--no-pager", name, folder=units)
    assert json.loads(done.stdout)
    said = analyze("security", "--offline=true", "--no-pager", name, folder=units).stdout
    level = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
    assert level is not None
    assert float(level[1]) < EXPOSED_AT_MOST


def test_a_users_units_are_valid_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs_systemd()
    monkeypatch.setenv("HOME", "/somebody")
    done = run(tmp_path, "--user")
    assert done.exit_code == 0
    folder = tmp_path / "somebody/.config/systemd/user"
    text = (folder / "geolane-node@.service").read_text()
    assert "DynamicUser" not in text
    assert "ProtectSystem" not in text
    assert "network-online" not in text
    assert "NoNewPrivileges=yes" in text
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    checked = analyze(
        "--user",
        "verify",
        "geolane-coordinator.service",
        "geolane-node@iad-1.service",
        folder=folder,
    )
    assert [line for line in checked.stderr.splitlines() if "geolane" in line] == []


def test_paths_and_credentials_of_this_installation_stand_in_them(units: Path) -> None:
    text = (units / "geolane-node@.service").read_text()
    assert (
        f"ExecStart={Path(sys.executable).parent / 'geolane'} node --name %i --settings "
        "/etc/geolane/geolane.toml\n" in text
    )
    assert "LoadCredential=node-%i:/etc/geolane/secrets/node-%i\n" in text
    assert "LoadCredential=kafka-etl:/etc/geolane/secrets/kafka-etl\n" in text
    assert not re.search(r"@[A-Z_]+@", text)


def test_geo_workers_get_apples_key_where_the_settings_choose_apple(tmp_path: Path) -> None:
    unit, line = "geolane-geo@.service", "LoadCredential=apple-maps-key:"
    for chosen in (False, True):
        place = install.InstallPlace(
            tmp_path, Path("/opt/geolane"), install.SETTINGS, Path("/s"), has_maps_key=chosen
        )
        text = install.render_unit(unit, place)
        assert (f"{line}/s/apple-maps-key\n" in text) is chosen
        assert "BUDGET_FILE=%S/geolane-geo/" in text
        assert line not in install.render_unit("geolane-node@.service", place)


def test_each_process_gets_the_password_of_its_own_kafka_account(tmp_path: Path) -> None:
    place = install.InstallPlace(
        tmp_path,
        Path("/opt/geolane"),
        install.SETTINGS,
        Path("/etc/geolane/secrets"),
        kafka_username="{account}",
    )
    for name, account in install.ACCOUNTS.items():
        assert (
            f"LoadCredential=kafka-{account}:/etc/geolane/secrets/kafka-{account}\n"
            in install.render_unit(name, place)
        )


def test_the_same_again_changes_nothing_and_an_edit_is_put_right(units: Path) -> None:
    root = units.parents[2]
    before = {name: (units / name).stat().st_mtime_ns for name in UNITS}
    again = run(root)
    assert again.output.count("unchanged: ") == len(UNITS)
    assert {name: (units / name).stat().st_mtime_ns for name in UNITS} == before
    (units / UNITS[1]).write_text("mine\n")
    assert f"changed: {units / UNITS[1]}\n" in run(root).output
    assert sorted(p.name for p in units.iterdir()) == sorted(UNITS), "no drafts are left"


def test_it_says_what_comes_next(tmp_path: Path) -> None:
    said = run(tmp_path).output
    assert "write the settings: /etc/geolane/geolane.toml" in said
    assert "/etc/geolane/secrets/ACCOUNT" in said
    assert "enable --now geolane-coordinator geolane-router@NAME geolane-node@NAME" in said


def test_without_the_rights_it_is_refused_in_a_line_that_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    closed.chmod(0o555)
    where = replace(find_place(tmp_path, None, user=False), folder=closed / "system")
    monkeypatch.setattr(
        install, "render_unit", lambda name, place: name
    )  # somebody else may not be let to read this clone
    root = os.geteuid() == 0  # who may write anywhere
    if root:
        os.seteuid(NOBODY)
    try:
        with pytest.raises(
            InstallError,
            match=r"may not be written; run this as root \(sudo .* install-units\), or with --user",
        ):
            list(write_units(where))
    finally:
        if root:
            os.seteuid(0)


def test_what_units_cannot_see_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(install, "_is_hidden_by_sandbox", lambda path: True)
    assert run(tmp_path).exit_code == 0, "an image is made elsewhere than where it is used"
    with pytest.raises(InstallError, match="units cannot see"):
        find_place(Path("/"), None, user=False)


@pytest.mark.parametrize("path", ["/etc/geo lane/x.toml", "/etc/100%/x.toml", "/etc/$x/x.toml"])
def test_a_path_that_a_unit_would_read_otherwise_is_refused(tmp_path: Path, path: str) -> None:
    done = run(tmp_path, "--settings", path)
    assert done.exit_code == 2
    assert "a path in a unit" in done.output


def test_steps_of_back_off_are_written_only_for_a_systemd_that_knows_them(tmp_path: Path) -> None:
    where = find_place(tmp_path, None, user=False)
    assert "RestartSteps=6" in render_unit(SERVICES[0], replace(where, systemd=254))
    assert "RestartSteps" not in render_unit(SERVICES[0], replace(where, systemd=252))


@pytest.mark.parametrize(("chosen", "denied"), [(True, "no"), (False, "yes")])
def test_a_router_may_run_java_only_if_its_engine_needs_it(
    tmp_path: Path, chosen: bool, denied: str
) -> None:
    place = install.InstallPlace(
        tmp_path, Path("/opt/geolane"), install.SETTINGS, Path("/s"), has_java=chosen
    )
    assert f"\nMemoryDenyWriteExecute={denied}\n" in render_unit("geolane-router@.service", place)
    assert "MemoryDenyWriteExecute=yes" in render_unit("geolane-node@.service", place)
