"""What `geolane provision` is asked, checked before anything is done; which accounts and rights
follow from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from agents.__main__ import main
from agents.admin.provision.options import ProvisionOptions, parse_people
from agents.base.errors import SettingsError
from agents.kafka.connection import client_kwargs
from agents.kafka.rights import kafka_acls_arguments, rights_of_accounts
from agents.local.stack import INVENTORY
from agents.settings import Kafka, Settings
from ejabberd.provision import Person

GIVEN: dict[str, Any] = {
    "inventory": INVENTORY,
    "people": (),
    "secrets": None,
    "only": None,
    "lanemap": None,
    "sample": None,
    "dry_run": False,
    "print_": False,
    "reset_password": False,
}


def sasl(username: str) -> Kafka:
    return Kafka(username=username, security="SASL_SSL", admin_username="admin")


def asked(kafka: Kafka, **given: Any) -> ProvisionOptions:
    return ProvisionOptions.from_options(
        Settings(kafka=kafka), Path("/etc/geolane/geolane.toml"), GIVEN | given
    )


def test_people_are_named_with_what_they_may() -> None:
    assert list(parse_people(("ana:owner, bo:member", "eva:admin"))) == [
        Person("ana", "owner"),
        Person("bo", "member"),
        Person("eva", "admin"),
    ]


@pytest.mark.parametrize(
    "text", ["ana", "ana:boss", "ana:outcast", ":owner", "Ana B:owner", "ana:"]
)
def test_other_people_are_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="write NAME:owner, NAME:admin or NAME:member"):
        list(parse_people([text]))


def test_secrets_lie_beside_the_settings() -> None:
    assert asked(Kafka()).secrets == Path("/etc/geolane/secrets")


def test_each_process_has_an_account_and_no_more_than_its_own_rights() -> None:
    options = asked(sasl("{account}"))
    assert set(options.kafka_users) == set(options.accounts) == {"geolane", *options.workers}
    assert options.kafka_users["router-1"] == Path("/etc/geolane/secrets/kafka-router-1")
    for worker in options.workers:
        ids = {
            r.name
            for r in options.kafka_rights
            if r.user == worker and r.name.startswith("geolane-") and r.name != f"geolane-{worker}"
        }
        assert ids == {f"geolane-{worker.partition('-')[0]}"}, (
            "its group, and nobody else's transactional id"
        )


def test_one_account_for_all_has_the_rights_of_all() -> None:
    options = asked(sasl("etl"))
    assert list(options.kafka_users) == ["etl"]
    assert {r.user for r in options.kafka_rights} == {"etl"}
    assert {(r.resource, r.name, r.operation) for r in options.kafka_rights} == {
        (r.resource, r.name, r.operation) for r in rights_of_accounts(options.accounts)
    }


@pytest.mark.parametrize(
    "kafka", [Kafka(), Kafka(username="etl", security="SASL_SSL"), sasl("admin")]
)
def test_without_an_admins_account_none_is_made(kafka: Kafka) -> None:
    assert asked(kafka).kafka_users == {}


def test_a_lane_map_comes_from_one_place() -> None:
    with pytest.raises(SettingsError, match="--lanemap and --sample: give one of them"):
        asked(Kafka(), lanemap=Path("a"), sample=Path("b"))


def test_a_processs_own_account_is_nobody_elses() -> None:
    kafka = Kafka(
        username="{account}", password_file="secrets/kafka-{account}", security="SASL_SSL"
    )
    assert kafka.for_account("node-iad-1").password_file == "secrets/kafka-node-iad-1"
    with pytest.raises(SettingsError, match=r"`geolane provision` needs kafka\.admin_username"):
        client_kwargs(kafka)


def test_a_prefix_is_given_as_one() -> None:
    [right] = [r for r in rights_of_accounts(["geolane"]) if r.name == "geolane-node-"]
    assert kafka_acls_arguments(right).endswith(
        "--operation Write --transactional-id 'geolane-node-' --resource-pattern-type prefixed"
    )


def test_what_is_printed_needs_no_server_and_writes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "geolane.toml"
    file.write_text(
        '[kafka]\nusername = "{account}"\nsecurity = "SASL_SSL"\nadmin_username = "admin"\n'
    )
    done = CliRunner().invoke(
        main,
        [
            "provision",
            f"--settings={file}",
            f"--inventory={INVENTORY}",
            "--people=ana:owner",
            "--print",
        ],
    )
    assert done.exit_code == 0, done.output
    for words in (
        "ctl register geolane fleet.geolane.test",
        "kafka-topics.sh $to --create",
        "account router-1 ",
        "kafka-acls.sh",
    ):
        assert words in done.output
    assert [p.name for p in tmp_path.iterdir()] == ["geolane.toml"]


def test_a_folder_for_passwords_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    file = tmp_path / "geolane.toml"
    file.write_text("")
    done = CliRunner().invoke(
        main,
        [
            "provision",
            f"--settings={file}",
            f"--inventory={INVENTORY}",
            f"--secrets={file}/secrets",
        ],
    )
    assert done.exit_code == 2
    assert "geolane.toml/secrets: cannot be created" in done.output
