"""Every XML namespace that geolane defines or reads, in one place (PROTOCOL 4)."""

from __future__ import annotations

NODE = "urn:geolane:node:1"
TELEMETRY = "urn:geolane:telemetry:1"
LANES = "urn:geolane:lanes:1"
PLACEMENT = "urn:geolane:placement:1"
FEED = "urn:geolane:feed:1"
OURS = (NODE, TELEMETRY, LANES, PLACEMENT, FEED)

ATOM = "http://www.w3.org/2005/Atom"
CARBONS = "urn:xmpp:carbons:2"
CLIENT = "jabber:client"
COMMANDS = "http://jabber.org/protocol/commands"
CORRECT = "urn:xmpp:message-correct:0"
DATA = "jabber:x:data"
DELAY = "urn:xmpp:delay"
DELAY_OLD = "jabber:x:delay"
MAM = "urn:xmpp:mam:2"
MUC = "http://jabber.org/protocol/muc"
MUC_ADMIN = "http://jabber.org/protocol/muc#admin"
MUC_USER = "http://jabber.org/protocol/muc#user"
PING = "urn:xmpp:ping"
PUBSUB = "http://jabber.org/protocol/pubsub"
PUBSUB_EVENT = "http://jabber.org/protocol/pubsub#event"
PUBSUB_OWNER = "http://jabber.org/protocol/pubsub#owner"
STANZA_ID = "urn:xmpp:sid:0"
STANZAS = "urn:ietf:params:xml:ns:xmpp-stanzas"
