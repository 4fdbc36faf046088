"""WorkerCommand and Answer <-> XEP-0050 commands with XEP-0004 forms. Every field must occur
exactly once; otherwise BadStanza."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable

from slixmpp.stanza import Iq
from slixmpp.xmlstream import ElementBase

from agents.core.model.messages import (
    AssignCommand,
    DrainCommand,
    Grant,
    LanesCommand,
    LeaseCommand,
    ReleaseCommand,
    RestartCommand,
    ResumeCommand,
    WorkerAnswer,
    WorkerCommand,
)
from plugins import namespaces as ns
from plugins.forms import (
    COMMAND_TAG,
    Fields,
    fields_to_form,
    has_command,
    parse_completed,
    parse_execute,
    require_one_value,
)
from plugins.values import (
    BIGGEST,
    BadStanza,
    parse_integer,
    parse_topic,
    parse_word,
)

NODE_PREFIX = f"{ns.LANES}#"
COMMAND_LANES_LIMIT = 500
ANSWER_LANES_LIMIT = 10_000
_NAMES: dict[type, str] = {
    LeaseCommand: "lease",
    AssignCommand: "assign",
    ReleaseCommand: "release",
    LanesCommand: "lanes",
    DrainCommand: "drain",
    ResumeCommand: "resume",
    RestartCommand: "restart",
}
NAMES = tuple(_NAMES.values())

# RFC 6120 8.3.3: each condition's usual type.
_ERROR_TYPES = {
    "bad-request": "modify",
    "not-acceptable": "modify",
    "forbidden": "auth",
    "not-authorized": "auth",
    "resource-constraint": "wait",
    "unexpected-request": "wait",
    "internal-server-error": "wait",
}


class StaleStanza(ElementBase):  # type: ignore[misc]
    """The epoch that the worker has already seen; sent beside `<conflict/>`.

    ::

        <error type='cancel'>
         <conflict xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>
         <stale xmlns='urn:geolane:lanes:1' seen='8'/>
        </error>
    """

    name = "stale"
    namespace = ns.LANES
    plugin_attrib = "geolane_stale"
    interfaces = {"seen"}  # noqa: RUF012  # slixmpp's form


def is_worker_command(iq: Iq) -> bool:
    """Whether this IQ is a command of ours, well formed or not."""
    return has_command(iq, NODE_PREFIX)


def _lanes_to_text(lanes: Iterable[Grant]) -> list[str]:
    return [f"{grant.n} {grant.epoch} {grant.offset}" for grant in lanes]


def _lanes_from_text(fields: Fields, limit: int) -> tuple[Grant, ...]:
    lines = fields.get("lanes", [])
    if len(lines) > limit:
        raise BadStanza(f"lanes: more than {limit}")
    grants = []
    for line in lines:
        parts = line.split(" ")
        if len(parts) != 3:
            raise BadStanza("lanes: 'lane epoch offset' is needed")
        n, epoch, offset = (parse_integer(text, "lanes") for text in parts)
        grants.append(Grant(n, epoch, offset))
    return tuple(grants)


# Commands.


def command_to_xml(command: WorkerCommand) -> ET.Element:
    """The `<command/>` to send. Raises ValueError for more than 500 lanes: split them first."""
    fields = [("leader_epoch", [str(command.leader_epoch)]), ("boot", [command.boot])]
    if isinstance(command, LeaseCommand):
        fields += [
            ("transactional_id", [command.transactional_id]),
            ("producer_id", [str(command.producer_id)]),
            ("producer_epoch", [str(command.producer_epoch)]),
        ]
    elif isinstance(command, AssignCommand | ReleaseCommand):
        if len(command.lanes) > COMMAND_LANES_LIMIT:
            raise ValueError(f"a command carries at most {COMMAND_LANES_LIMIT} lanes")
        fields += [("topic", [command.topic]), ("lanes", _lanes_to_text(command.lanes))]
    node = NODE_PREFIX + _NAMES[type(command)]
    root = ET.Element(COMMAND_TAG, node=node, action="execute")
    root.append(fields_to_form("submit", node, fields))
    return root


def command_from_iq(iq: Iq) -> WorkerCommand:
    """The command in `iq`. Raises BadStanza for anything but a valid single-step execute."""
    node, leader_epoch, boot, fields = parse_execute(iq)
    match name := node.removeprefix(NODE_PREFIX):
        case "lease":
            return LeaseCommand(
                leader_epoch,
                boot,
                transactional_id=parse_word(
                    require_one_value(fields, "transactional_id"), "transactional_id"
                ),
                producer_id=parse_integer(
                    require_one_value(fields, "producer_id"), "producer_id", -1, BIGGEST * 1000
                ),
                producer_epoch=parse_integer(
                    require_one_value(fields, "producer_epoch"), "producer_epoch", -1, 32767
                ),
            )
        case "assign" | "release":
            where = parse_topic(require_one_value(fields, "topic"), "topic")
            lanes = _lanes_from_text(fields, COMMAND_LANES_LIMIT)
            if len({grant.n for grant in lanes}) != len(lanes):
                raise BadStanza("lanes: a lane is listed twice")
            return (AssignCommand if name == "assign" else ReleaseCommand)(
                leader_epoch, boot, where, lanes
            )
        case "lanes":
            return LanesCommand(leader_epoch, boot)
        case "drain":
            return DrainCommand(leader_epoch, boot)
        case "resume":
            return ResumeCommand(leader_epoch, boot)
        case "restart":
            return RestartCommand(leader_epoch, boot)
        case _:
            raise BadStanza("node: no such command")


# Answers.


def answer_to_xml(node: str, answer: WorkerAnswer) -> ET.Element:
    """The completed `<command/>` that answers a command of this `node`."""
    root = ET.Element(COMMAND_TAG, node=node, status="completed")
    root.append(fields_to_form("result", node, [("lanes", _lanes_to_text(answer.lanes))]))
    return root


def answer_from_result(iq: Iq) -> WorkerAnswer:
    """The answer in a result. Raises BadStanza."""
    _, fields = parse_completed(iq)
    return WorkerAnswer(_lanes_from_text(fields, ANSWER_LANES_LIMIT))


def make_refusal(iq: Iq, condition: str, text: str = "", stale: int | None = None) -> Iq:
    """The error that answers `iq` with an RFC 6120 `condition`; `stale` adds the epoch that was
    seen."""
    reply = iq.reply()
    reply["type"] = "error"
    error = reply["error"]
    error["type"] = _ERROR_TYPES.get(condition, "cancel")
    error["condition"] = condition if condition in error.conditions else "undefined-condition"
    if text:
        error["text"] = text
    if stale is not None:
        detail = StaleStanza()
        detail["seen"] = str(stale)
        error.xml.append(detail.xml)
    return reply


def stale_epoch_from_error(iq: Iq) -> int | None:
    """The epoch of the `<stale/>` in an error; None without a valid one."""
    found = iq.xml.find(f"{{{ns.CLIENT}}}error/{{{ns.LANES}}}stale")
    try:
        return None if found is None else parse_integer(found.get("seen"), "seen")
    except BadStanza:
        return None
