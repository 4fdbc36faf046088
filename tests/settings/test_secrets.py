"""Passwords come from files and systemd credentials, are refused elsewhere, and are never shown."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from agents.base.errors import SettingsError
from agents.kafka.connection import client_kwargs
from agents.settings import (
    Kafka,
    Settings,
    Xmpp,
    gather_settings,
    read_secret,
    with_passwords_beside,
)
from agents.settings.show import effective_file, settings_to_json

Put = Callable[..., Path]


@pytest.fixture
def credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Put:
    folder = tmp_path / "credentials"
    folder.mkdir()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))

    def put(name: str, text: str, mode: int = 0o440) -> Path:
        file = folder / name
        file.write_text(text, "utf-8")
        file.chmod(mode)
        return file

    return put


def test_a_credential_of_the_accounts_name_stands_in_for_the_file(credentials: Put) -> None:
    credentials("node-iad-1", "sesame\n")
    assert read_secret("", "node-iad-1") == "sesame"
    assert read_secret("", "node-iad-2") == ""


def test_a_file_that_is_named_goes_before_the_credential(credentials: Put, tmp_path: Path) -> None:
    credentials("geolane", "from systemd")
    mine = tmp_path / "mine"
    mine.write_text("from the file\n")
    mine.chmod(0o600)
    assert read_secret(str(mine), "geolane") == "from the file"


def test_kafkas_credential_can_differ_from_that_of_the_xmpp_account_of_the_same_name(
    credentials: Put,
) -> None:
    kafka = Kafka(security="SASL_PLAINTEXT", username="geolane")
    credentials("geolane", "for both")
    assert client_kwargs(kafka)["sasl_plain_password"] == "for both"
    credentials("kafka-geolane", "for Kafka")
    assert client_kwargs(kafka)["sasl_plain_password"] == "for Kafka"
    assert read_secret("", "geolane") == "for both"


def test_a_credential_that_all_can_read_is_refused(credentials: Put) -> None:
    file = credentials("geolane", "sesame", 0o444)
    with pytest.raises(SettingsError, match=f"{file}: others can read"):
        read_secret("", "geolane")


def test_a_file_that_the_group_can_read_is_refused_outside_of_the_credentials(
    tmp_path: Path,
) -> None:
    file = tmp_path / "password"
    file.write_text("sesame")
    file.chmod(0o640)
    with pytest.raises(SettingsError, match=f"chmod 600 {file}"):
        read_secret(str(file))


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe"])
def test_a_file_without_a_password_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "password"
    file.write_bytes(content)
    file.chmod(0o600)
    with pytest.raises(SettingsError, match=str(file)):
        read_secret(str(file))


@pytest.mark.parametrize("name", ["../geolane", "", "a/b"])
def test_a_name_never_leads_out_of_the_credentials(credentials: Put, name: str) -> None:
    credentials("x", "sesame").parent.with_name("geolane").write_text("another's")
    assert read_secret("", name) == ""


@pytest.mark.parametrize(
    ("text", "environ", "flags"),
    [
        ('[kafka]\npassword = "sesame"\n', {}, ()),
        ('[xmpp]\nPassword = "sesame"\n', {}, ()),
        ('password = "sesame"\n', {}, ()),
        ("", {"GEOLANE_KAFKA__PASSWORD": "sesame"}, ()),
        ("", {"GEOLANE_PASSWD": "sesame"}, ()),
        ("", {}, ("xmpp.password=sesame",)),
    ],
)
def test_a_password_is_refused_outside_of_files_and_not_repeated(
    tmp_path: Path, text: str, environ: dict[str, str], flags: tuple[str, ...]
) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(
        SettingsError, match=r"mode 0600.*password_file.*LoadCredential=NAME:FILE"
    ) as error:
        gather_settings(file, flags, environ)
    assert "sesame" not in str(error.value)


def test_what_is_shown_holds_no_password(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("sesame")
    password.chmod(0o600)
    loaded = gather_settings(None, [f"kafka.password_file={password}"], {})
    for shown in (effective_file(loaded), settings_to_json(loaded)):
        assert str(password) in shown
        assert "sesame" not in shown


APPLE = {"team_id": "TEAMCANARY", "key_id": "KEYIDCANAR"}


def test_apples_ids_may_come_from_file_and_environment_and_are_not_shown(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(f'[geo.apple]\nteam_id = "{APPLE["team_id"]}"\n')
    loaded = gather_settings(file, environ={"GEOLANE_GEO__APPLE__KEY_ID": APPLE["key_id"]})
    assert (loaded.settings.geo.apple.team_id, loaded.settings.geo.apple.key_id) == tuple(
        APPLE.values()
    )
    for shown in (effective_file(loaded), settings_to_json(loaded)):
        assert "(hidden)" in shown
        assert not any(value in shown for value in APPLE.values())


@pytest.mark.parametrize("key", APPLE)
def test_apples_ids_are_refused_in_flags_and_not_repeated(key: str) -> None:
    with pytest.raises(SettingsError, match=f"GEOLANE_GEO__APPLE__{key.upper()}") as error:
        gather_settings(None, [f"geo.apple.{key}={APPLE[key]}"], {})
    assert APPLE[key] not in str(error.value)
    with pytest.raises(SettingsError, match="10 capital letters and digits") as error:
        gather_settings(None, environ={f"GEOLANE_GEO__APPLE__{key.upper()}": "lower-case canary"})
    assert "canary" not in str(error.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://maps.example.org",
        "https://me:secret@maps.example.org",
        "https://x?token=1",
        "ftp://x",
    ],
)
def test_a_token_never_goes_over_a_line_in_the_clear(url: str) -> None:
    with pytest.raises(SettingsError, match=r"geo\.apple\.url"):
        gather_settings(None, [f"geo.apple.url={url}"], {})


def test_a_tool_that_a_person_runs_takes_passwords_from_the_folder_beside_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("geolane", "kafka-geolane", "ana"):
        (tmp_path / name).touch()
    shared = Settings(kafka=Kafka(username="{account}"))
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    leader = with_passwords_beside(shared, "geolane", tmp_path)
    assert (leader.kafka.username, leader.kafka.password_file, leader.xmpp.password_file) == (
        "geolane",
        str(tmp_path / "kafka-geolane"),
        str(tmp_path / "geolane"),
    )
    person = with_passwords_beside(shared, "ana", tmp_path)
    assert person.xmpp.password_file == str(tmp_path / "ana")
    named = Settings(xmpp=Xmpp(password_file="mine"), kafka=Kafka(password_file="theirs"))
    assert with_passwords_beside(named, "geolane", tmp_path) == named
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert with_passwords_beside(shared, "geolane", tmp_path) == shared.for_account("geolane")
