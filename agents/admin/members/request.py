"""A request of `geolane nodes`, checked before anything is done: the node, the settings, and where
the files lie."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from agents.base.errors import SettingsError
from agents.core.model.topology import WorkerKind, short_name
from agents.settings import ACCOUNT, Kafka, Settings

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,40}")


@dataclass(frozen=True, slots=True)
class MemberRequest:
    """`file`: the settings file. `inventory`, `secrets`: their paths."""

    settings: Settings
    file: Path
    inventory: Path
    secrets: Path

    @classmethod
    def from_options(
        cls, settings: Settings, file: Path, inventory: Path | None, secrets: Path | None
    ) -> MemberRequest:
        """Passwords lie beside the coordinator's password if the settings name its file, otherwise
        in `secrets` beside the settings."""
        own = settings.xmpp.password_file
        folder = secrets or (Path(own).parent if own else file.parent / "secrets")
        return cls(
            settings,
            file,
            (inventory or Path(settings.coordinator.inventory)).resolve(),
            folder.absolute(),
        )

    def make_secrets(self) -> None:
        """Make the folder for the passwords. Raises SettingsError if it cannot be written to."""
        try:
            self.secrets.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as e:
            raise SettingsError(
                f"{self.secrets}: cannot be created ({e.strerror}); name another with --secrets"
            ) from e
        if not os.access(self.secrets, os.W_OK | os.X_OK):
            raise SettingsError(
                f"{self.secrets}: passwords cannot be written there; name another folder with "
                "--secrets"
            )

    @property
    def domain(self) -> str:
        return self.settings.xmpp.domain

    @property
    def makes_kafka_accounts(self) -> bool:
        """Whether each process has its own Kafka account, and the settings name an account that may
        make them."""
        kafka = self.settings.kafka
        scram = kafka.security.startswith("SASL") and kafka.sasl_mechanism.startswith("SCRAM")
        return bool(kafka.admin_username) and ACCOUNT in kafka.username and scram

    @property
    def reads_kafka(self) -> Kafka:
        """Kafka's settings, with the account that reads the topic `placement`."""
        kafka = self.settings.kafka
        return kafka.admin if kafka.admin_username else kafka.for_account("geolane")


def account_of_node(name: str) -> str:
    """The account of the node NAME. Raises SettingsError if the name is not valid."""
    if WorkerKind.NODE.has_account(name) and _NAME.fullmatch(name):
        raise SettingsError(f"{name!r}: give the name without the prefix: {short_name(name)}")
    if not _NAME.fullmatch(name):
        raise SettingsError(
            f"{name[:60]!r}: a node's name is up to 41 of a to z, digits and '-', such as fra-1"
        )
    return f"{WorkerKind.NODE.name}-{name}"
