"""A server of one's own (ejabberd/own.yml), provisioned over HTTPS with an account and its
password, as an administrator does it."""

from __future__ import annotations

import asyncio
import datetime
import http.client
import os
import shlex
import shutil
import ssl
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pytest
import pytest_asyncio

from agents.admin.provision.dry_run import list_commands
from agents.admin.provision.feeds import check_feeds
from agents.admin.provision.options import ProvisionOptions
from agents.admin.provision.run import run
from agents.base.errors import CommandRefused, NotConnected, SettingsError
from agents.settings import Ejabberd, Settings
from agents.xmpp import operator_client
from agents.xmpp.client import Handlers, Login, Session
from ejabberd import certificate
from ejabberd.api import HttpsApi, api_from_settings
from ejabberd.provision import NO_PRIVATE_MESSAGES, Person
from plugins import upload
from tests.ejabberd.own import ADMIN_PASSWORD, OwnServer
from tests.kafka.secured import secret

pytestmark = pytest.mark.asyncio(loop_scope="module")

DOMAIN = "own.test"
WORKERS = ("node-iad-1", "router-1", "analytics-1", "geo-1")
Answer = tuple[int, http.client.HTTPMessage]


@dataclass
class Own:
    """The server, an administrator's settings, and what provisioning said."""

    folder: Path
    server: OwnServer
    settings: Settings
    said: list[str] = field(default_factory=list)

    @property
    def secrets(self) -> Path:
        return self.folder / "secrets"

    async def provision(
        self,
        *,
        dry: bool = False,
        people: tuple[Person, ...] = (Person("ana", "owner"),),
        reset: bool = False,
    ) -> list[str]:
        self.said.clear()
        asked = ProvisionOptions(
            self.settings, self.secrets, WORKERS, people, "xmpp", dry=dry, reset=reset
        )
        await run(asked, self.said.append)
        return self.said

    def changed(self, **keys: str) -> Settings:
        ejabberd = msgspec.structs.replace(self.settings.ejabberd, **keys)
        return msgspec.structs.replace(self.settings, ejabberd=ejabberd)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def own() -> AsyncIterator[Own]:
    folder = Path(
        tempfile.mkdtemp(prefix="geolane-own-xmpp-")
    )  # pytest's own folders are closed to the server's user
    os.chmod(folder, 0o711)
    server = OwnServer(folder / "server", DOMAIN)
    try:
        await server.start()
        own = Own(folder, server, server.settings(folder / "admin"))
        before = await own.provision(dry=True)
        assert before[0] == f"would be made: account geolane@fleet.{DOMAIN}"
        assert not own.secrets.exists()
        assert (await own.provision())[
            0
        ] == f"made: account geolane@fleet.{DOMAIN}, its password in {own.secrets}/geolane"
        yield own
    finally:
        await server.stop()
        shutil.rmtree(folder)


async def test_twice_is_once(own: Own) -> None:
    said = await own.provision()
    accounts = [
        f"geolane@fleet.{DOMAIN}",
        *(f"{w}@fleet.{DOMAIN}" for w in WORKERS),
        f"ana@{DOMAIN}",
    ]
    for account in accounts:
        assert any(line.startswith(f"unchanged: account {account}") for line in said), said
    assert f"unchanged: room ops@conference.{DOMAIN}" in said
    assert said[-1].startswith("unchanged: all feeds")
    assert not [line for line in said if line.startswith(("made", "changed"))]
    assert not [
        line
        for line in await own.provision(dry=True)
        if line.startswith(("would be made", "would be changed"))
    ]


async def test_an_account_that_was_not_made_here_keeps_its_password(own: Own) -> None:
    """Not a person's own, not the administrator's, not that of a fleet provisioned from another
    machine."""
    console, fleet = own.server.api, f"fleet.{DOMAIN}"
    await console.call("register", user="bea", host=DOMAIN, password="bea's own")
    for name in ("bea", "admin"):
        for dry in (True, False):
            with pytest.raises(
                SettingsError, match=rf"account {name}@{DOMAIN} exists and was not made here"
            ):
                await own.provision(dry=dry, people=(Person(name, "owner"),))
        assert not (own.secrets / name).exists()
    elsewhere = ProvisionOptions(own.settings, own.folder / "elsewhere", WORKERS, (), "xmpp")
    with pytest.raises(SettingsError, match=rf"account geolane@{fleet} .* --reset-password"):
        await run(elsewhere, own.said.append)
    for user, password in (("bea", "bea's own"), ("admin", ADMIN_PASSWORD)):
        assert await console.call("check_password", user=user, host=DOMAIN, password=password) == 0

    assert any(
        line.startswith(f"changed: account bea@{DOMAIN}")
        for line in await own.provision(people=(Person("bea", "member"),), reset=True)
    )
    with pytest.raises(
        SettingsError, match=rf"admin@{DOMAIN} is the account that calls the server's API"
    ):
        await own.provision(people=(Person("admin", "owner"),), reset=True)
    assert (
        await console.call("check_password", user="admin", host=DOMAIN, password=ADMIN_PASSWORD)
        == 0
    )


async def _put(own: Own, session: Session, name: str, content: bytes, kind: str) -> str:
    """Upload a file as a client does (XEP-0363); its path at the server."""
    ask = session.make_iq("get", f"upload.{DOMAIN}")
    ask.append(
        ET.fromstring(
            f"<request xmlns='urn:xmpp:http:upload:0' filename='{name}' size='{len(content)}' "
            f"content-type='{kind}'/>"
        )
    )
    slot = upload.slot_from_result(await session.send_request(ask))
    path = urlsplit(slot.put).path
    status, _ = await asyncio.to_thread(
        _https, own, "PUT", path, content, {"Content-Type": kind, **dict(slot.headers)}
    )
    assert status == 201
    return path


def _https(
    own: Own, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
) -> Answer:
    context = ssl.create_default_context(cafile=str(own.server.ca_file))
    context.check_hostname = False  # its certificate is for a name, and this is loopback
    connection = http.client.HTTPSConnection(
        "127.0.0.1", own.server.http_port, timeout=20, context=context
    )
    try:
        connection.request(
            method, path, body or None, {"Host": f"xmpp.{DOMAIN}", **(headers or {})}
        )
        answer = connection.getresponse()
        answer.read()
        return answer.status, answer.headers
    finally:
        connection.close()


async def test_an_uploaded_page_runs_no_script_and_nobody_fills_the_disk(own: Own) -> None:
    xmpp = msgspec.structs.replace(own.settings.xmpp, password_file=str(own.secrets / "ana"))
    async with Session(Login(xmpp, f"ana@{DOMAIN}/phone"), Handlers()) as session:
        svg = b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
        path = await _put(own, session, "a.svg", svg, "image/svg+xml")
        status, headers = await asyncio.to_thread(_https, own, "GET", path)
        assert status == 200
        assert headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
        assert headers["X-Content-Type-Options"] == "nosniff"
        for n in range(7):
            await _put(own, session, f"{n}.bin", bytes(9 << 20), "application/octet-stream")
    await own.server.api.call("register", user="outsider", host=DOMAIN, password="x")
    outsider = msgspec.structs.replace(xmpp, password_file=secret(own.folder / "outsider", "x"))
    async with Session(Login(outsider, f"outsider@{DOMAIN}/phone"), Handlers()) as session:
        with pytest.raises(CommandRefused, match="forbidden"):
            await _put(own, session, "a.bin", b"x", "application/octet-stream")
    kept = sum(
        f.stat().st_size for f in (own.server.folder / "spool" / "upload").rglob("*") if f.is_file()
    )
    assert 0 < kept <= 50 << 20, "the account's oldest files are gone"


async def test_a_page_from_elsewhere_opens_no_websocket(own: Own) -> None:
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Protocol": "xmpp",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    }
    for origin, status in (("https://evil.example", 403), (f"https://{DOMAIN}", 101)):
        assert (
            await asyncio.to_thread(_https, own, "GET", "/ws", b"", upgrade | {"Origin": origin})
        )[0] == status


async def test_what_somebody_changed_is_put_right_and_people_stay_as_the_room_has_them(
    own: Own,
) -> None:
    console, room = own.server.api, {"name": "ops", "service": f"conference.{DOMAIN}"}
    await console.call(
        "change_password", user="router-1", host=f"fleet.{DOMAIN}", newpass="another"
    )
    await console.call("change_room_option", **room, option="public", value="true")
    said = await own.provision(people=(Person("ana", "member"),))
    assert any(
        line.startswith(f"changed: account router-1@fleet.{DOMAIN}: its password is now the one in")
        for line in said
    )
    assert f"changed: room ops@conference.{DOMAIN}: public=false" in said
    assert (
        f"unchanged: account ana@{DOMAIN}; owner in the room, as its owners have set, not member"
        in said
    )


async def test_the_coordinator_a_worker_and_a_person_log_in_over_tls(own: Own) -> None:
    xmpp = own.settings.xmpp

    def of(account: str) -> Login:
        return Login(
            msgspec.structs.replace(xmpp, password_file=str(own.secrets / account)),
            f"{account}@fleet.{DOMAIN}/x",
        )

    for account in ("geolane", *WORKERS):
        async with Session(of(account), Handlers()) as session:
            assert session.is_up
    ana = msgspec.structs.replace(xmpp, password_file=str(own.secrets / "ana"))
    async with operator_client.OperatorClient(ana, "ana") as client:
        await client.join_room()


async def test_another_authority_is_trusted_by_neither_side(own: Own) -> None:
    ca, _ = certificate.make_certificates(["elsewhere.test"], datetime.datetime.now(datetime.UTC))
    other = own.folder / "other.pem"
    other.write_bytes(ca)
    with pytest.raises(
        NotConnected,
        match=rf"certificate is not trusted .* checked against {other} \(ejabberd\.ca_file\)",
    ):
        await api_from_settings(own.changed(ca_file=str(other))).call("status")
    with pytest.raises(NotConnected):
        await check_feeds(
            msgspec.structs.replace(own.settings.xmpp, ca_file=str(other)), own.secrets, WORKERS
        )


async def test_a_wrong_password_names_its_file(own: Own) -> None:
    wrong = secret(own.folder / "wrong", "wrong")
    for keys in (
        {"api_password_file": wrong},
        {"api_user": f"nobody@{DOMAIN}", "api_password_file": wrong},
    ):
        with pytest.raises(
            CommandRefused,
            match=rf"refuses {keys.get('api_user', 'admin')}.* in {wrong} is wrong",
        ):
            await api_from_settings(own.changed(**keys)).call("status")


async def test_what_the_server_does_not_permit_is_named(own: Own) -> None:
    api = api_from_settings(own.settings)
    for command in ("stop", "connected_users"):
        with pytest.raises(
            CommandRefused, match=rf"admin@own\.test may not run `{command}`: api_permissions"
        ) as refused:
            await api.call(command)
        assert refused.value.condition == "forbidden"
    worker = own.changed(
        api_user=f"node-iad-1@fleet.{DOMAIN}", api_password_file=str(own.secrets / "node-iad-1")
    )
    with pytest.raises(CommandRefused, match=r"may not run `(register|status)`"):
        await api_from_settings(worker).call("register", user="x", host=DOMAIN, password="x")


async def test_a_wrong_address_says_so(own: Own) -> None:
    url = own.settings.ejabberd.api_url
    with pytest.raises(CommandRefused, match=r"check the path of ejabberd\.api_url"):
        await api_from_settings(own.changed(api_url=url.replace("/api", "/nothing"))).call("status")
    with pytest.raises(NotConnected, match="cannot be reached"):
        await api_from_settings(own.changed(api_url="https://127.0.0.1:1/api")).call("status")


async def test_the_printed_commands_make_the_same(own: Own) -> None:
    """Each is given to the server with its arguments in their places, as ejabberdctl does; then
    there is nothing left to do."""
    fresh = Own(own.folder, OwnServer(own.folder / "fresh", DOMAIN), own.settings)
    names = {
        "register": ("user", "host", "password"),
        "srg_create": ("group", "host", "label", "description", "display"),
        "srg_user_add": ("user", "host", "group", "grouphost"),
        "create_room": ("name", "service", "host"),
        "set_room_affiliation": ("name", "service", "jid", "affiliation"),
        "change_room_option": ("name", "service", "option", "value"),
        "muc_register_nick": ("nick", "jid", "service"),
        "send_stanza": ("from", "to", "stanza"),
        "delete_old_mam_messages_batch": ("host", "type", "days", "batch_size", "rate"),
    }
    try:
        await fresh.server.start()
        fresh.settings = fresh.server.settings(own.folder / "admin")
        asked = ProvisionOptions(
            fresh.settings, own.secrets, WORKERS, (Person("ana", "owner"),), "xmpp", printed=True
        )
        script = await list_commands(asked)
        accounts = ("geolane", *WORKERS, "ana")
        passwords = {
            f"$(cat {own.secrets / name})": (own.secrets / name).read_text().strip()
            for name in accounts
        }
        assert not any(password in line for password in passwords.values() for line in script)
        for line in script:
            words = shlex.split(line, comments=True)
            if not words or words[0] != "ctl":
                continue
            given = dict(zip(names[words[1]], words[2:], strict=True))
            arguments: dict[str, object] = dict(given)
            if "password" in given:
                arguments["password"] = passwords[given["password"]]
            arguments |= {
                name: int(given[name]) for name in ("days", "batch_size", "rate") if name in given
            }
            try:
                await fresh.server.api.call(words[1], **arguments)
            except CommandRefused:
                assert given.get("option") in NO_PRIVATE_MESSAGES, (
                    line
                )  # one of the two words is another version's
        assert not [
            line for line in await fresh.provision() if line.startswith(("made", "changed"))
        ]
    finally:
        await fresh.server.stop()


# ---- settings, without a server ----


async def test_settings_that_say_too_little_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"ejabberd\.api_url is not set"):
        api_from_settings(Settings())
    url = "https://xmpp.example.org:5281/api"
    with pytest.raises(
        SettingsError, match=r"ejabberd\.api_user and ejabberd\.api_password_file are needed"
    ):
        api_from_settings(Settings(ejabberd=Ejabberd(api_url=url)))
    file = secret(tmp_path / "pw", "x")
    full = Ejabberd(api_url=url, api_user="admin@example.org", api_password_file=file)
    assert isinstance(api_from_settings(Settings(ejabberd=full)), HttpsApi)
    with pytest.raises(SettingsError, match=r"ejabberd\.ca_file: /no/such: no certificates"):
        api_from_settings(Settings(ejabberd=msgspec.structs.replace(full, ca_file="/no/such")))
    os.chmod(file, 0o644)
    with pytest.raises(SettingsError, match=f"chmod 600 {file}"):
        api_from_settings(Settings(ejabberd=full))


async def test_a_systemd_credential_serves_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    secret(tmp_path / "ejabberd-admin", "from systemd")
    api = api_from_settings(
        Settings(ejabberd=Ejabberd(api_url="https://a.test/api", api_user="admin@a.test"))
    )
    assert isinstance(api, HttpsApi)
    assert "from systemd" not in repr(api._at)
    assert replace(api._at, password="").user == "admin@a.test"
