from tests.fixtures.xmpp import XmppServer


async def test_a_provisioned_person_is_in_the_room(xmpp_server: XmppServer) -> None:
    name = await xmpp_server.person("admin")
    answer = await xmpp_server.server.api.call(
        "get_room_affiliation", name="ops", service=f"conference.{xmpp_server.domain}", jid=xmpp_server.jid(name)
    )
    assert answer == {"affiliation": "admin"}
