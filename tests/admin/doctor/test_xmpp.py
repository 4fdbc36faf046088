"""Faults of an XMPP server and its accounts, made on purpose on real servers: the doctor names
each."""

from __future__ import annotations

import asyncio
import datetime
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from agents import settings
from agents.admin.doctor.fleet import FleetCheck
from agents.admin.doctor.judge.certificate import Certificate
from agents.admin.doctor.judge.roles import Whom
from agents.admin.doctor.judge.verdict import Finding, Level
from agents.admin.doctor.kafka import KafkaCheck
from agents.admin.doctor.sockets import open_xmpp_stream
from agents.admin.doctor.xmpp import XmppCheck
from agents.core.model.inventory import Inventory
from agents.core.model.topology import WorkerSpec, kind_from_name
from ejabberd import certificate
from ejabberd.provision import Person, provision_server
from ejabberd.server import Server, hosts_of_domain
from tests.admin.doctor.support import findings, loaded, named
from tests.fixtures.xmpp import XmppServer

DOMAIN = "faults.test"
SILENT_S = 3.0


def inventory(*workers: str) -> Inventory:
    return Inventory(
        {}, {w: WorkerSpec(w, kind_from_name(w.partition("-")[0]), "s", 1.0) for w in workers}
    )


async def look(
    xmpp: settings.Xmpp,
    account: str,
    *names: str,
    workers: tuple[str, ...] = (),
    now: Callable[[], float] = time.time,
) -> dict[str, Finding]:
    who, made, of = Whom(account), loaded(xmpp=xmpp), inventory(*workers)
    checks = [
        *XmppCheck(made.settings, who, of, now, SILENT_S).list_checks(),
        *FleetCheck(made.settings, who, of, KafkaCheck(made, who)).list_checks(),
    ]
    return await findings(checks, *names)


# ---- accounts of a server that is well ----


async def test_of_a_wrong_password_and_a_missing_account_each_is_called_what_it_is(
    xmpp_server: XmppServer, tmp_path: Path
) -> None:
    node = await xmpp_server.worker()
    wrong = tmp_path / "wrong"
    wrong.touch(mode=0o600)
    wrong.write_text("not this one\n")
    xmpp = msgspec.structs.replace(xmpp_server.settings(node), password_file=str(wrong))
    found = await look(xmpp, node, "xmpp login", "xmpp feeds")
    named(found, "xmpp login", f"{xmpp_server.jid(node)}: the password is wrong", str(wrong))
    named(found, "xmpp feeds", "because `xmpp login` is at fault", level=Level.SKIPPED)
    named(await look(xmpp, "node-nobody", "xmpp login"), "xmpp login", "there is no such account")


async def test_an_account_without_feeds_and_roster_is_told_so(xmpp_server: XmppServer) -> None:
    """Registered, and never provisioned."""
    node = "node-bare"
    password = xmpp_server.secrets / node
    password.touch(mode=0o600)
    password.write_text("its own\n")
    await xmpp_server.server.api.call(
        "register", user=node, host=f"fleet.{xmpp_server.domain}", password="its own"
    )
    found = await look(xmpp_server.settings(node), node, "xmpp feeds", "xmpp tuning", "xmpp roster")
    named(
        found,
        "xmpp feeds",
        f"telemetry/{node}: missing or closed to us",
        "tuning: missing or closed",
    )
    named(found, "xmpp tuning", "cannot be read")
    named(found, "xmpp roster", f"geolane@fleet.{xmpp_server.domain}: not in our roster")
    of_geolane = await look(
        xmpp_server.settings(), "geolane", "xmpp feeds", "xmpp roster", workers=(node,)
    )
    named(of_geolane, "xmpp feeds", f"telemetry/{node}")
    named(of_geolane, "xmpp roster", node)


async def test_who_is_no_member_of_the_room_is_told_so(xmpp_server: XmppServer) -> None:
    stranger = await xmpp_server.stranger()
    found = await look(xmpp_server.settings(stranger), stranger, "xmpp room", "xmpp feeds")
    named(found, "xmpp room", f"{stranger} is not a member of ops@conference.{xmpp_server.domain}")
    named(found, "xmpp feeds", "fleet: missing or closed", "alerts")


async def test_nobody_leads_and_workers_are_absent(xmpp_server: XmppServer) -> None:
    node = await xmpp_server.worker()
    found = await look(
        xmpp_server.settings(),
        "geolane",
        "fleet leader",
        "fleet workers",
        "fleet workers' versions",
        workers=(node,),
    )
    named(found, "fleet leader", "no coordinator leads", "start geolane coordinator")
    named(found, "fleet workers", f"1 of 1 are absent: {node}")
    named(found, "fleet workers' versions", "no worker is present", level=Level.SKIPPED)


async def test_a_clock_that_is_wrong_is_named(xmpp_server: XmppServer) -> None:
    xmpp = xmpp_server.settings()
    named(
        await look(xmpp, "geolane", "xmpp clock", now=lambda: time.time() + 120),
        "xmpp clock",
        "s ahead of",
        "time service",
    )
    slow = await look(xmpp, "geolane", "xmpp clock", now=lambda: time.time() - 10)
    named(slow, "xmpp clock", "behind", level=Level.WARNING)


@pytest.mark.parametrize(
    ("change", "key", "words"),
    [
        ({"port": 1}, "xmpp server", ["127.0.0.1:1: nothing listens there", "firewall"]),
        ({"host": "no-such-host.invalid"}, "xmpp server", ["there is no host of this name"]),
        (
            {"domain": "other.test"},
            "xmpp hosts",
            ["the server does not know fleet.other.test", "other.test"],
        ),
        (
            {"ca_file": ""},
            "xmpp certificate",
            ["not signed by an authority in the system's authorities", "ca_file"],
        ),
        ({"ca_file": "/no/such/file"}, "xmpp certificate", ["/no/such/file"]),
    ],
)
async def test_a_wrong_setting_is_named(
    xmpp_server: XmppServer, change: dict[str, Any], key: str, words: list[str]
) -> None:
    xmpp = msgspec.structs.replace(xmpp_server.settings(), **change)
    named(await look(xmpp, "geolane", key), key, *words)


async def test_a_port_of_another_protocol_is_named(xmpp_server: XmppServer) -> None:
    xmpp = msgspec.structs.replace(xmpp_server.settings(), port=xmpp_server.server.http_port)
    named(await look(xmpp, "geolane", "xmpp hosts"), "xmpp hosts", "speaks no XMPP for clients")


# ---- a server that is not ----


class Changed(Server):
    """ejabberd with another configuration: each `replace` is (what stands in ours, what stands
    there instead)."""

    replaced: tuple[tuple[str, str], ...] = ()

    def _prepare_folder(self) -> None:
        super()._prepare_folder()
        self.change(*self.replaced)

    def change(self, *replaced: tuple[str, str]) -> None:
        file = self.folder / "conf" / "ejabberd.yml"
        text = file.read_text("utf-8")
        for old, new in replaced:
            assert old in text, old
            text = text.replace(old, new, 1)
        file.write_text(text, "utf-8")

    async def present(self, names: list[str], begin: datetime.datetime) -> None:
        """Serve with a new certificate for `names`, made at `begin`, of an authority that takes the
        old one's place."""
        ca, pem = certificate.make_certificates(names, begin)
        file = self.folder / "conf" / "server.pem"
        later_s = file.stat().st_mtime + 1
        self.user.write_private_file(file, pem)
        os.utime(file, (later_s, later_s))  # the server sees whole seconds
        self.ca_file.write_bytes(ca)
        await self.api.call("reload_config")
        wanted = begin + certificate.LIFETIME
        async with asyncio.timeout(10):
            while (c := await self.served()) is None or abs(
                c.not_after - wanted
            ) > datetime.timedelta(seconds=2):
                await asyncio.sleep(0.05)

    async def served(self) -> Certificate | None:
        """The certificate that it shows now; None while it does not listen."""
        try:
            return (
                await open_xmpp_stream("127.0.0.1", self.c2s_port, f"fleet.{self.domain}", tls=True)
            ).certificate
        except OSError:
            return None


class Faulty(Changed):
    replaced = (
        ("    - none: coordinator", "    - normal: agents"),
        ("  person:\n", "  normal:\n    rate: 3000\n    burst_size: 20000\n  person:\n"),
        ("max_stanza_size: 262144", "max_stanza_size: 65536"),
        ("ping_interval: 3200 milliseconds", "ping_interval: 20 seconds"),
        (
            "      mod_shared_roster: {}\n",
            "      mod_shared_roster: {}\n      mod_stream_mgmt: {}\n",
        ),
    )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def faulty() -> AsyncIterator[XmppServer]:
    folder = Path(tempfile.mkdtemp(prefix="geolane-faults-"))
    os.chmod(folder, 0o755)
    server = Faulty(folder / "xmpp", DOMAIN)
    try:
        await server.start()
        await provision_server(
            server.api, DOMAIN, ["node-a"], [Person("ana", "member")], folder / "secrets"
        )
        yield XmppServer(server, folder / "secrets")
    finally:
        server.kill()
        await server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.asyncio(loop_scope="module")
async def test_what_the_server_does_wrong_is_seen_in_how_it_behaves(faulty: XmppServer) -> None:
    """ejabberd's default shaper, rare pings, resumption for agents: and the room is gone."""
    await faulty.server.api.call("destroy_room", name="ops", service=f"conference.{DOMAIN}")
    xmpp = faulty.settings("node-a")
    found = await look(
        xmpp, "node-a", "xmpp shaper", "xmpp pings", "xmpp resumption", "xmpp stanza size"
    )
    named(found, "xmpp shaper", "of 192 kB", "shaper throttles agents", "none: coordinator")
    named(found, "xmpp pings", "no ping within", "ping_interval: 3200 milliseconds")
    named(found, "xmpp resumption", f"fleet.{DOMAIN} offers stream management", "mod_stream_mgmt")
    named(found, "xmpp stanza size", "`xmpp shaper` is at fault", level=Level.SKIPPED)
    named(
        await look(faulty.settings("ana"), "ana", "xmpp room"),
        "xmpp room",
        f"ops@conference.{DOMAIN} is missing",
    )
    named(
        await look(faulty.settings(), "geolane", "xmpp room"),
        "xmpp room",
        f"ops@conference.{DOMAIN} is missing",
    )
    assert await faulty.server.api.call("muc_online_rooms", service="global") == [], (
        "the doctor makes no room"
    )


@pytest.mark.asyncio(loop_scope="module")
async def test_a_stanza_limit_below_ours_is_named(faulty: XmppServer) -> None:
    server = faulty.server
    assert isinstance(server, Changed)
    server.change(("    - normal: agents", "    - none: coordinator"))
    await server.api.call("reload_config")
    found = await look(faulty.settings("node-a"), "node-a", "xmpp stanza size")
    named(found, "xmpp stanza size", "204,096 bytes", "max_stanza_size: 262144")


@pytest.mark.asyncio(loop_scope="module")
async def test_a_certificate_that_ends_is_named(faulty: XmppServer) -> None:
    server, now, day = (
        faulty.server,
        datetime.datetime.now(datetime.UTC),
        datetime.timedelta(days=1),
    )
    assert isinstance(server, Changed)
    names, year = hosts_of_domain(DOMAIN), certificate.LIFETIME
    xmpp, key = faulty.settings("node-a"), "xmpp certificate"
    await server.present(names, now - year + 10 * day)
    named(await look(xmpp, "node-a", key), key, "10.0 days left", "renew it", level=Level.WARNING)
    await server.present(names, now - year + 2 * day)
    named(await look(xmpp, "node-a", key), key, "2.0 days left", "renew it now")
    await server.present(names, now - year - 3 * day)
    found = await look(xmpp, "node-a", key, "xmpp login")
    named(found, key, "expired 3.0 days ago")
    named(found, "xmpp login", "the certificate is not trusted", level=Level.SKIPPED)
