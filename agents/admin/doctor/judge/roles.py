"""The account that the doctor uses. It decides what the doctor must find, and what it may see."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import msgspec

from agents.core.model.topology import KINDS, WorkerKind, kind_from_account
from agents.geo.apple.tokens import CREDENTIAL as MAPS_KEY
from agents.kafka.rights import COORDINATOR, rights_of
from agents.kafka.wire import Operation, Resource
from agents.settings import Settings


class Role(StrEnum):
    COORDINATOR = "coordinator"
    NODE = "node"
    ROUTER = "router"
    ANALYTICS = "analytics"
    GEO = "geo"
    PERSON = "person"


@dataclass(frozen=True, slots=True)
class Whom:
    """An account of ours: `geolane`, `node-iad-1`, `router-1`, or a person's."""

    account: str

    @property
    def role(self) -> Role:
        if self.account == COORDINATOR:
            return Role.COORDINATOR
        kind = kind_from_account(self.account)
        return Role(kind.name) if kind is not None else Role.PERSON

    @property
    def agent(self) -> bool:
        """Whether the account is at fleet.DOMAIN."""
        return self.role is not Role.PERSON

    @property
    def worker(self) -> bool:
        return kind_from_account(self.account) is not None

    @property
    def reads(self) -> tuple[str, ...]:
        """The topics that it must be allowed to read."""
        return self._resources_allowed(Resource.TOPIC, Operation.READ)

    @property
    def writes(self) -> tuple[str, ...]:
        """The topics that it must be allowed to write."""
        return self._resources_allowed(Resource.TOPIC, Operation.WRITE)

    @property
    def groups(self) -> tuple[WorkerKind, ...]:
        """The kinds of worker whose committed offsets it must be allowed to read."""
        groups = self._resources_allowed(Resource.GROUP, Operation.READ)
        return tuple(kind for kind in KINDS if kind.group in groups)

    def _resources_allowed(self, resource: Resource, operation: Operation) -> tuple[str, ...]:
        """The resources on which provisioning gives it this right; none for people."""
        rights = rights_of(self.account) if self.agent else ()
        return tuple(x.name for x in rights if (x.resource, x.operation) == (resource, operation))

    @property
    def transactional_id(self) -> str:
        """The transactional id of its producer; empty for people."""
        return {Role.COORDINATOR: "geolane-coordinator", Role.PERSON: ""}.get(
            self.role, f"geolane-{self.account}"
        )

    @classmethod
    def from_settings(cls, settings: Settings, given: str | None) -> Whom:
        """`given`, or else the account whose password the settings name, or else the
        coordinator."""
        return cls(given or Path(settings.xmpp.password_file).name or COORDINATOR)


def with_passwords(settings: Settings, who: Whom, secrets: Path | None) -> Settings:
    """The settings as that account uses them. They get password files from `secrets` if they name
    none, or another account's: run by hand, the doctor has no systemd credentials."""
    settings = settings.for_account(who.account)
    if secrets is None:
        return settings
    xmpp, kafka = settings.xmpp, settings.kafka
    if Path(xmpp.password_file).name != who.account:
        xmpp = msgspec.structs.replace(xmpp, password_file=str(secrets / who.account))
    if kafka.security.startswith("SASL") and not kafka.password_file:
        names = (f"kafka-{kafka.username}", kafka.username)
        name = next((name for name in names if name and (secrets / name).is_file()), names[0])
        kafka = msgspec.structs.replace(kafka, password_file=str(secrets / name))
    geo, key_file = settings.geo, secrets / MAPS_KEY
    if not geo.apple.key_file and key_file.is_file():
        apple = msgspec.structs.replace(geo.apple, key_file=str(key_file))
        geo = msgspec.structs.replace(geo, apple=apple)
    return msgspec.structs.replace(settings, xmpp=xmpp, kafka=kafka, geo=geo)
