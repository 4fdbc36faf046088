"""A Kafka of one's own that denies what nobody allowed, with the topics of a fleet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from aiokafka import AIOKafkaProducer

from agents import settings
from agents.core.lanes.lane_map import build_lane_map
from agents.core.model.topology import TOPIC_DEAD, TOPIC_LANES
from agents.kafka import compacted
from agents.kafka.connection import client_kwargs
from agents.kafka.rights import Right
from agents.kafka.topics import fleet_topics, reconcile_topics
from agents.kafka.users import Accounts
from agents.local.demo import flights
from tests.kafka.secured import PASSWORD, USER, SecureBroker, secret

LANES, RAW = 6, 2
ACCOUNTS = ("geolane", "node-a", "router-1", "analytics-1", "geo-1")


class Denying:
    """The broker, and what `geolane provision` heard about it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.broker = SecureBroker(folder / "kafka", denies=True)
        self.told: list[str] = []
        self.made: Sequence[str] = ()
        """What it heard when the topics were made."""

    @property
    def kafka(self) -> settings.Kafka:
        return settings.Kafka(
            bootstrap=f"127.0.0.1:{self.broker.secure_port}",
            security="SASL_SSL",
            username="{account}",
            password_file=str(self.folder / "kafka-{account}"),
            ca_file=str(self.broker.folder / "ca.pem"),
            admin_username=USER,
            admin_password_file=secret(self.folder / "admin", PASSWORD),
        )

    def tell(self, did: str, what: str) -> None:
        self.told.append(f"{did}: {what}")

    async def account(self, user: str, wanted: list[Right]) -> settings.Kafka:
        """An account with just these rights."""
        await self.accounts({user: wanted})
        return self.kafka.for_account(user)

    async def accounts(self, wanted: dict[str, list[Right]]) -> None:
        """Each user with its rights."""
        accounts = Accounts(self.kafka.admin)
        await accounts.start()
        files = {user: Path(secret(self.folder / f"kafka-{user}", "its own")) for user in wanted}
        await accounts.provision_users(files, self.tell)
        await accounts.grant_rights(
            [right for rights in wanted.values() for right in rights], self.tell
        )
        await accounts.stop()


async def fill(denying: Denying) -> None:
    """Topics, a lane map, an event and a dead letter."""
    await reconcile_topics(denying.kafka.admin, fleet_topics(LANES, RAW), denying.tell)
    denying.made = tuple(denying.told)
    await compacted.publish_lane_map(
        denying.kafka.admin, build_lane_map(flights.sample_events(), LANES, 4, 1, total_eps=1000.0)
    )
    async with AIOKafkaProducer(**client_kwargs(denying.kafka.admin)) as producer:
        await producer.send_and_wait(TOPIC_LANES, b"{}", partition=0)
        await producer.send_and_wait(TOPIC_DEAD, b"{", headers=[("geolane-reason", b"no_id")])
