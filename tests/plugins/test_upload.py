"""XEP-0363 on the wire: what a service says is believed within bounds, and nothing else."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from slixmpp.stanza import Iq, Message

from plugins import upload
from plugins.values import BadStanza

SLOT = """<iq xmlns='jabber:client' type='result' id='a'><slot xmlns='urn:xmpp:http:upload:0'>
<put url='{put}'><header name='Authorization'>Basic Base64==</header><header name='Host'>evil</header>
<header name='Cookie'>a&#10;b</header></put><get url='{get}'/></slot></iq>"""  # noqa: E501
INFO = """<iq xmlns='jabber:client' type='result'><query xmlns='http://jabber.org/protocol/disco#info'>
<feature var='{feature}'/><x xmlns='jabber:x:data' type='result'><field var='max-file-size'><value>{most}</value></field></x>
</query></iq>"""  # noqa: E501


def iq(text: str) -> Iq:
    return Iq(xml=ET.fromstring(text))


def test_a_slot_is_read_and_only_the_headers_that_may_be_sent() -> None:
    slot = upload.slot_from_result(
        iq(SLOT.format(put="https://u.d:5443/a/b.png", get="https://u.d/a/b.png"))
    )
    assert slot == upload.Slot(
        "https://u.d:5443/a/b.png", "https://u.d/a/b.png", (("Authorization", "Basic Base64=="),)
    )


@pytest.mark.parametrize(
    "url",
    ["", "file:///etc/passwd", "https://", "https://a b/c", "ftp://x/y", "https://x/" + "y" * 2000],
)
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(BadStanza, match="URL is needed"):
        upload.slot_from_result(iq(SLOT.format(put=url, get="https://u.d/x")))
    with pytest.raises(BadStanza, match="URL is needed"):
        upload.slot_from_result(iq(SLOT.format(put="https://u.d/x", get=url)))


def test_a_slot_without_a_place_is_refused() -> None:
    with pytest.raises(BadStanza):
        upload.slot_from_result(
            iq("<iq xmlns='jabber:client'><slot xmlns='urn:xmpp:http:upload:0'/></iq>")
        )


def test_which_service_it_is_and_how_much_it_takes() -> None:
    assert upload.is_upload_service(iq(INFO.format(feature="urn:xmpp:http:upload:0", most="1000")))
    assert not upload.is_upload_service(iq(INFO.format(feature="urn:xmpp:ping", most="1000")))
    assert upload.max_file_bytes_from_result(iq(INFO.format(feature="x", most="1000"))) == 1000
    assert upload.max_file_bytes_from_result(iq(INFO.format(feature="x", most="-1"))) is None


def test_services_are_taken_as_far_as_they_are_addresses() -> None:
    many = "".join(f"<item jid='s{n}.d'/>" for n in range(70))
    text = (
        "<iq xmlns='jabber:client'><query "
        "xmlns='http://jabber.org/protocol/disco#items'><item/><item "
        f"jid='@@'/>{many}</query></iq>"
    )
    assert upload.services_from_result(iq(text)) == [f"s{n}.d" for n in range(50)]


def test_a_link_is_a_message_whose_words_are_the_link() -> None:
    message = Message()
    message["body"] = "https://u.d/x.png"
    upload.mark_as_link(message)
    assert message.xml.findtext("{jabber:x:oob}x/{jabber:x:oob}url") == "https://u.d/x.png"
