"""The whole of the settings. A table says what each key does, its type, limits, unit and default,
and nothing is said of them anywhere else."""

from __future__ import annotations

import msgspec

from agents.settings.geo import Geo
from agents.settings.processes import Analytics, Coordinator, Metrics, Router, Worker
from agents.settings.servers import Ejabberd, Kafka, Xmpp


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file; every table may be left out."""

    kafka: Kafka = Kafka()
    xmpp: Xmpp = Xmpp()
    ejabberd: Ejabberd = Ejabberd()
    worker: Worker = Worker()
    coordinator: Coordinator = Coordinator()
    router: Router = Router()
    analytics: Analytics = Analytics()
    geo: Geo = Geo()
    metrics: Metrics = Metrics()

    def for_account(self, account: str) -> Settings:
        """As the process with the XMPP account `account` reads them."""
        return msgspec.structs.replace(
            self, kafka=self.kafka.for_account(account), xmpp=self.xmpp.for_account(account)
        )


ORDERED = (
    ("coordinator.calm.settle_to", "coordinator.calm.act_above"),
    ("coordinator.calm.cooldown_s", "coordinator.calm.cooldown_most_s"),
)
"""The first is not above the second."""
