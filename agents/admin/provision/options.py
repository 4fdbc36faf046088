"""A request of `geolane provision`, checked before anything is done."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from agents.admin.inventory_file import read_inventory
from agents.base.errors import SettingsError
from agents.kafka.rights import COORDINATOR, Right, rights_of_accounts
from agents.settings import ACCOUNT, Settings
from ejabberd.provision import PERSON, WORKER, Person

RoomAffiliation = Literal["member", "admin", "owner"]


@dataclass(frozen=True, slots=True)
class ProvisionOptions:
    """`workers`: accounts (`node-iad-1`). `only`: one of the servers. `lanemap`, `sample`: the
    source of a lane map. `reset`: replace the passwords of accounts that were not made here."""

    settings: Settings
    secrets: Path
    workers: tuple[str, ...]
    people: tuple[Person, ...] = ()
    only: Literal["xmpp", "kafka"] | None = None
    lanemap: Path | None = None
    sample: Path | None = None
    dry: bool = False
    printed: bool = False
    reset: bool = False

    @classmethod
    def from_options(
        cls, settings: Settings, file: Path, given: Mapping[str, Any]
    ) -> ProvisionOptions:
        """From the options of the command line. Raises SettingsError."""
        inventory = given["inventory"] or Path(settings.coordinator.inventory)
        workers = read_inventory(inventory).workers
        for worker in workers:
            if not WORKER.fullmatch(worker):
                raise SettingsError(f"{inventory}: {worker}: is not a valid account name")
        if given["lanemap"] and given["sample"]:
            raise SettingsError("--lanemap and --sample: give one of them")
        return cls(
            settings,
            (given["secrets"] or file.parent / "secrets").absolute(),
            tuple(workers),
            tuple(parse_people(given["people"])),
            given["only"],
            given["lanemap"],
            given["sample"],
            given["dry_run"],
            given["print_"],
            given["reset_password"],
        )

    @property
    def accounts(self) -> tuple[str, ...]:
        """The XMPP accounts of all processes."""
        return (COORDINATOR, *self.workers)

    @property
    def kafka_users(self) -> dict[str, Path]:
        """The Kafka accounts to make, with their password files; none if the settings name no
        account that may make them."""
        kafka = self.settings.kafka
        if not (
            kafka.admin_username
            and kafka.security.startswith("SASL")
            and kafka.sasl_mechanism.startswith("SCRAM")
        ):
            return {}
        users = dict.fromkeys(kafka.for_account(account).username for account in self.accounts)
        return {
            user: self.secrets / f"kafka-{user}"
            for user in users
            if user and user != kafka.admin_username
        }

    @property
    def kafka_rights(self) -> list[Right]:
        """The rights that these accounts get."""
        kafka = self.settings.kafka
        if not (kafka.admin_username and kafka.username):
            return []
        if ACCOUNT in kafka.username:
            return sorted(
                r
                for account in self.accounts
                for r in rights_of_accounts([account], kafka.for_account(account).username)
            )
        return rights_of_accounts(self.accounts, kafka.username)


def parse_people(given: Iterable[str]) -> Iterable[Person]:
    """`ana:owner`, or several, separated by commas. Raises SettingsError."""
    for text in (part.strip() for option in given for part in option.split(",") if part.strip()):
        name, colon, affiliation = text.partition(":")
        if not colon or affiliation not in get_args(RoomAffiliation) or not PERSON.fullmatch(name):
            raise SettingsError(f"--people {text!r}: write NAME:owner, NAME:admin or NAME:member")
        yield Person(name, cast(RoomAffiliation, affiliation))
