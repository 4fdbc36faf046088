"""A worker's presence <-> Announcement. `unavailable` needs no payload; everything else names its
boot."""

from __future__ import annotations

import re

from slixmpp import JID
from slixmpp.stanza import Presence
from slixmpp.xmlstream import ElementBase, register_stanza_plugin

from agents.base.text import SHOWN_AT_MOST
from agents.core.model.messages import Announcement, Health
from agents.core.model.topology import KINDS
from plugins import namespaces as ns
from plugins.values import (
    BadStanza,
    format_number,
    parse_number,
    parse_optional_word,
    parse_sentence,
    parse_word,
    replace_invalid_xml,
)

WORKER_RESOURCE = "etl"
_WORKER = re.compile(rf"({'|'.join(kind.name for kind in KINDS)})-[a-z0-9][a-z0-9.-]{{0,60}}")


class NodeStanza(ElementBase):  # type: ignore[misc]
    """A worker's report about itself.

    ::

        <presence from='node-fra-1@fleet.example.org/etl'>
         <show>dnd</show><status>draining: 3 lanes left</status><priority>-1</priority>
         <node xmlns='urn:geolane:node:1' boot='01JD8Q' state='draining' site='fra'
               capacity_eps='2000' accel='none' version='0.1.0' last_end='exit -9 (SIGKILL)'
               engine='kafka-streams'/>
        </presence>
    """

    name = "node"
    namespace = ns.NODE
    plugin_attrib = "geolane_node"
    interfaces = {"boot", "state", "site", "capacity_eps", "accel", "version", "last_end", "engine"}  # noqa: RUF012  # slixmpp's form


register_stanza_plugin(Presence, NodeStanza)


def worker_from_jid(jid: JID, fleet_host: str) -> str | None:
    """The worker's account if `jid` is a provisioned worker's session at `fleet_host`, otherwise
    None."""
    if (
        jid.domain != fleet_host
        or jid.resource != WORKER_RESOURCE
        or not _WORKER.fullmatch(jid.user)
    ):
        return None
    return str(jid.user)


def fill_presence(presence: Presence, said: Announcement) -> Presence:
    """Fill an empty presence with `said`. Its priority is -1, since nobody chats with a worker."""
    if said.health is Health.UNAVAILABLE:
        presence["type"] = "unavailable"
        return presence
    if said.health is not Health.AVAILABLE:
        presence["show"] = said.health.value
    presence["status"] = replace_invalid_xml(said.status)
    presence["priority"] = -1
    node = presence["geolane_node"]
    node["boot"] = said.boot
    node["state"] = replace_invalid_xml(said.state)
    node["site"] = replace_invalid_xml(said.site)
    node["capacity_eps"] = format_number(said.capacity_eps)
    node["accel"] = replace_invalid_xml(said.accel)
    node["version"] = replace_invalid_xml(said.version)
    if said.last_end:
        node["last_end"] = replace_invalid_xml(said.last_end)
    if said.engine:
        node["engine"] = replace_invalid_xml(said.engine)
    return presence


def announcement_from_presence(presence: Presence, worker: str) -> Announcement | None:
    """What `worker`'s presence says; None for presences that are not about health (subscriptions,
    errors).

    Raises BadStanza if an available presence carries no valid `<node/>`."""
    kind = presence.xml.get("type", "")
    if kind == "unavailable":
        return Announcement(worker, Health.UNAVAILABLE)
    if kind:
        return None
    show_text = presence.xml.findtext(f"{{{ns.CLIENT}}}show") or "available"
    try:
        health = Health({"chat": "available", "away": "dnd"}.get(show_text, show_text))
    except ValueError:
        raise BadStanza("show: not a valid XMPP value") from None
    if health is Health.UNAVAILABLE:
        raise BadStanza("show: not a valid XMPP value")
    node = presence.xml.find(f"{{{ns.NODE}}}node")
    if node is None:
        raise BadStanza("node: missing")
    return Announcement(
        worker=worker,
        health=health,
        boot=parse_word(node.get("boot"), "boot"),
        state=parse_optional_word(node.get("state"), "state"),
        status=parse_sentence(presence.xml.findtext(f"{{{ns.CLIENT}}}status"), SHOWN_AT_MOST),
        site=parse_sentence(node.get("site"), 64),
        capacity_eps=parse_number(node.get("capacity_eps"), "capacity_eps"),
        accel=parse_sentence(node.get("accel"), 64) or "none",
        version=parse_sentence(node.get("version"), 64),
        last_end=parse_sentence(node.get("last_end"), SHOWN_AT_MOST),
        engine=parse_optional_word(node.get("engine"), "engine"),
    )
