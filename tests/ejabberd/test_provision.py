import asyncio
from functools import partial
from typing import Literal

from ejabberd.api import AdminApi
from ejabberd.provision import Person, add_person, add_worker
from tests.ejabberd.client import session
from tests.fixtures.xmpp import XmppServer


async def test_a_provisioned_person_is_in_the_room(xmpp_server: XmppServer) -> None:
    name = await xmpp_server.person("admin")
    answer = await xmpp_server.server.api.call(
        "get_room_affiliation",
        name="ops",
        service=f"conference.{xmpp_server.domain}",
        jid=xmpp_server.jid(name),
    )
    assert answer == {"affiliation": "admin"}


async def test_who_adds_one_worker_at_once_with_another_is_told_that_it_is_there(
    xmpp_server: XmppServer,
) -> None:
    domain, secrets = xmpp_server.domain, xmpp_server.secrets
    apis = [AdminApi(xmpp_server.server.api.socket_path) for _ in range(6)]
    for n in range(6):  # which calls meet is the server's choice: nearly every time some do
        name = f"node-twice{n}"
        told: list[tuple[str, str]] = []
        tell = partial(_note, told)
        await asyncio.gather(*(add_worker(api, domain, name, secrets, tell) for api in apis))
        assert sorted(did for did, _ in told) == ["made", *["unchanged"] * 5]
        async with session(xmpp_server, name, priority=-1):
            pass


def _note(told: list[tuple[str, str]], did: str, what: str) -> None:
    told.append((did, what))


async def test_an_invitation_with_a_role_changes_it_and_lifts_no_ban(
    xmpp_server: XmppServer,
) -> None:
    name = await xmpp_server.person("member")
    room = {"name": "ops", "service": f"conference.{xmpp_server.domain}"}
    api, jid = xmpp_server.server.api, xmpp_server.jid(name)

    async def invited(role: Literal["member", "admin", "owner"], *, change: bool) -> str:
        told: list[tuple[str, str]] = []
        person, tell = Person(name, role), partial(_note, told)
        given = (api, xmpp_server.domain, person, xmpp_server.secrets, tell)
        await add_person(*given, change_role=change)
        now = (await api.call("get_room_affiliation", **room, jid=jid))["affiliation"]
        return f"{told[-1][1]} / {now}"

    assert (await invited("admin", change=False)).endswith("not admin / member")
    assert (await invited("admin", change=True)).endswith("admin in the room, was member / admin")
    assert (await invited("member", change=True)).endswith("was admin / member")
    await api.call("set_room_affiliation", **room, jid=jid, affiliation="outcast")
    assert (await invited("owner", change=True)).endswith("not owner / outcast")
