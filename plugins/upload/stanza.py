"""Slots of HTTP File Upload (XEP-0363 0.4 and later) <-> values; the service that offers them
(XEP-0030); a message that is a link (XEP-0066)."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass
from urllib.parse import urlsplit

from slixmpp import JID, InvalidJID
from slixmpp.stanza import Iq, Message

from plugins import namespaces as ns
from plugins.values import BadStanza, parse_integer, require_only_child

ITEMS_LIMIT = 50
URL_LIMIT = 2000
_HEADERS = ("authorization", "cookie", "expires")  # XEP-0363 5: no others may be sent
_D, _I, _U = f"{{{ns.DATA}}}", f"{{{ns.DISCO_INFO}}}", f"{{{ns.UPLOAD}}}"


@dataclass(frozen=True, slots=True)
class Slot:
    """`put`: where to send the file, with these `headers`. `get`: where to fetch it afterwards."""

    put: str
    get: str
    headers: tuple[tuple[str, str], ...] = ()


def make_items_request(iq: Iq) -> Iq:
    ET.SubElement(iq.xml, f"{{{ns.DISCO_ITEMS}}}query")
    return iq


def services_from_result(iq: Iq) -> list[str]:
    """The JIDs of a server's services, at most 50, without invalid ones."""
    found = []
    for item in iq.xml.iterfind(f"{{{ns.DISCO_ITEMS}}}query/{{{ns.DISCO_ITEMS}}}item"):
        try:
            found.append(str(JID(item.get("jid", ""))))
        except InvalidJID:
            continue
    return [jid for jid in found if jid][:ITEMS_LIMIT]


def make_info_request(iq: Iq) -> Iq:
    ET.SubElement(iq.xml, f"{_I}query")
    return iq


def is_upload_service(iq: Iq) -> bool:
    """Whether the service that sent this answer offers slots."""
    return any(x.get("var") == ns.UPLOAD for x in iq.xml.iterfind(f"{_I}query/{_I}feature"))


def max_file_bytes_from_result(iq: Iq) -> int | None:
    """The largest file that it takes; None if it does not say."""
    for field in iq.xml.iterfind(f"{_I}query/{_D}x/{_D}field"):
        if field.get("var") == "max-file-size":
            try:
                return parse_integer(field.findtext(f"{_D}value"), "max-file-size")
            except BadStanza:
                return None
    return None


def make_slot_request(iq: Iq, filename: str, size: int, content_type: str) -> Iq:
    """::

    <request xmlns='urn:xmpp:http:upload:0' filename='map.png' size='23456'
      content-type='image/png'/>"""
    said = {"filename": filename, "size": str(size), "content-type": content_type}
    ET.SubElement(iq.xml, f"{_U}request", said)
    return iq


def slot_from_result(iq: Iq) -> Slot:
    """Raises BadStanza. Headers that XEP-0363 does not allow, or that contain line ends, are left
    out."""
    slot = require_only_child(iq.xml, f"{_U}slot")
    put, get = require_only_child(slot, f"{_U}put"), require_only_child(slot, f"{_U}get")
    headers = []
    for header in put.iterfind(f"{_U}header"):
        name, value = header.get("name", "").strip(), (header.text or "").strip()
        if name.lower() in _HEADERS and "\n" not in value and "\r" not in value:
            headers.append((name, value))
    return Slot(
        _require_url(put.get("url", ""), "put"),
        _require_url(get.get("url", ""), "get"),
        tuple(headers),
    )


def _require_url(text: str, name: str) -> str:
    parts = urlsplit(text) if len(text) <= URL_LIMIT and text.isprintable() else None
    if parts is None or parts.scheme not in ("https", "http") or not parts.hostname or " " in text:
        raise BadStanza(f"{name}: an https or http URL is needed")
    return text


def mark_as_link(message: Message) -> Message:
    """Mark the message's text as a URL, so that clients show the picture itself."""
    oob = ET.SubElement(message.xml, f"{{{ns.OOB}}}x")
    ET.SubElement(oob, f"{{{ns.OOB}}}url").text = message["body"]
    return message
