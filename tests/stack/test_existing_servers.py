"""Servers that exist: a Kafka with SASL over TLS, an ejabberd with a certificate authority of its own; `up` starts the processes only."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.embedded import flights, headless
from agents.embedded.folder import RunFolder
from agents.embedded.replay import Replay
from agents.embedded.stack import Plan, Stack
from agents.settings import Coordinator, Kafka, Settings, Xmpp
from ejabberd.provision import provision
from ejabberd.server import Server
from tests.kafka.secured import PASSWORD, USER, SecureBroker, secret

pytestmark = pytest.mark.stack

DOMAIN = "own.test"
EVENTS = 3000


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="geolane-own-"))
    os.chmod(path, 0o711)
    yield path
    shutil.rmtree(path)


async def test_the_stream_is_worked_exactly_once_over_tls_and_passwords(folder: Path) -> None:
    broker, server = SecureBroker(folder / "kafka"), Server(folder / "xmpp", DOMAIN)
    try:
        await broker.start()
        await server.start()
        kafka = Kafka(
            bootstrap=f"127.0.0.1:{broker.secure_port}", security="SASL_SSL", username=USER,
            password_file=secret(folder / "kafka-password", PASSWORD), ca_file=str(broker.folder / "ca.pem"),
        )  # fmt: skip
        xmpp = Xmpp(domain=DOMAIN, host="127.0.0.1", port=server.c2s_port, ca_file=str(server.ca_file))
        base = Settings(kafka=kafka, xmpp=xmpp, coordinator=Coordinator(lanes=6, raw_partitions=2))
        secrets = folder / "secrets"
        secrets.mkdir(mode=0o700)
        plan = Plan(base, nodes=2, kafka=kafka.bootstrap, xmpp=DOMAIN, secrets=secrets)
        with RunFolder(folder / "run") as run:
            stack = Stack(run, plan, lambda text: None)
            await provision(server.api, DOMAIN, [w.worker for w in stack.workers], [], secrets)
            async with stack.working(flights.sample(), 1000.0):
                replay = Replay(stack.base.kafka, flights.stream(), 2, 1000.0, EVENTS)
                async with asyncio.timeout(60):
                    await replay.run()
                    await headless.settled(stack, EVENTS)
                a = stack.accounting
                assert (a.events_in, a.open, a.duplicates) == (EVENTS, 0, 0)
                for log in run.log.iterdir():
                    assert PASSWORD not in log.read_text("utf-8"), "no log tells a password"
    finally:
        await server.stop()
        broker.kill()
