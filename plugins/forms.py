"""A command to a worker (XEP-0050) with its one form (XEP-0004), in both directions. Every field
must occur exactly once; otherwise BadStanza."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence

from slixmpp.stanza import Iq

from plugins import namespaces as ns
from plugins.values import (
    BadStanza,
    parse_integer,
    parse_word,
    replace_invalid_xml,
    require_only_child,
)

COMMAND_TAG = f"{{{ns.COMMANDS}}}command"
Fields = dict[str, list[str]]
_X, _FIELD, _VALUE = f"{{{ns.DATA}}}x", f"{{{ns.DATA}}}field", f"{{{ns.DATA}}}value"
_REPORTED, _ITEM = f"{{{ns.DATA}}}reported", f"{{{ns.DATA}}}item"


def has_command(iq: Iq, node_prefix: str) -> bool:
    """Whether this IQ has a command whose node begins like this, well formed or not."""
    command = iq.xml.find(COMMAND_TAG)
    return command is not None and command.get("node", "").startswith(node_prefix)


def parse_execute(iq: Iq) -> tuple[str, int, str, Fields]:
    """The node, the leader epoch, the boot and all fields of a single-step execute."""
    root = require_only_child(iq.xml, COMMAND_TAG)
    if root.get("action", "execute") != "execute" or root.get("sessionid"):
        raise BadStanza("action: must be execute, the only step of these commands")
    fields = fields_from_form(root, "submit")
    leader_epoch = parse_integer(require_one_value(fields, "leader_epoch"), "leader_epoch")
    boot = parse_word(require_one_value(fields, "boot"), "boot")
    return root.get("node", ""), leader_epoch, boot, fields


def parse_completed(iq: Iq) -> tuple[ET.Element, Fields]:
    """The completed `<command/>` of a result, and the fields of its form."""
    root = require_only_child(iq.xml, COMMAND_TAG)
    if root.get("status") != "completed":
        raise BadStanza("status: completed is needed")
    return root, fields_from_form(root, "result")


def fields_to_form(
    kind: str, node: str, fields: Iterable[tuple[str, list[str]]], multi: str = "lanes"
) -> ET.Element:
    """A form of type `kind` for the command `node`. `multi`: the field of several lines."""
    form = ET.Element(_X, type=kind)
    hidden = ET.SubElement(form, _FIELD, var="FORM_TYPE", type="hidden")
    ET.SubElement(hidden, _VALUE).text = node
    for name, values in fields:
        field = ET.SubElement(form, _FIELD, var=name)
        if name == multi:
            field.set("type", "text-multi")
        _add_values(field, values)
    return form


def _add_values(field: ET.Element, values: Iterable[str]) -> None:
    for value in values:
        ET.SubElement(field, _VALUE).text = replace_invalid_xml(value)


def fields_from_form(command: ET.Element, kind: str) -> Fields:
    """The fields of the command's one form of type `kind`, whose FORM_TYPE must be the command's
    node."""
    form = require_only_child(command, _X)
    if form.get("type") != kind:
        raise BadStanza(f"form: type {kind} is needed")
    fields = _read_fields(form)
    if fields.get("FORM_TYPE") != [command.get("node")]:
        raise BadStanza("FORM_TYPE: the command's node is needed")
    return fields


def _read_fields(parent: ET.Element) -> Fields:
    fields: Fields = {}
    for field in parent.iterfind(_FIELD):
        name = field.get("var", "")
        if name in fields:
            raise BadStanza(f"{name}: twice")
        fields[name] = [value.text or "" for value in field.iterfind(_VALUE)]
    return fields


def require_one_value(fields: Fields, name: str) -> str:
    values = fields.get(name, [])
    if len(values) != 1:
        raise BadStanza(f"{name}: one value is needed")
    return values[0]


def append_rows(form: ET.Element, names: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Add a table to a result (XEP-0004 3.4): its columns, then an item for each row."""
    reported = ET.SubElement(form, _REPORTED)
    for name in names:
        ET.SubElement(reported, _FIELD, var=name)
    for row in rows:
        item = ET.SubElement(form, _ITEM)
        for name, value in zip(names, row, strict=True):
            _add_values(ET.SubElement(item, _FIELD, var=name), [value])


def rows_from_form(command: ET.Element, limit: int) -> list[Fields]:
    """The rows of the table in the command's one form. Raises BadStanza for more than `limit`."""
    items = require_only_child(command, _X).findall(_ITEM)
    if len(items) > limit:
        raise BadStanza(f"item: more than {limit}")
    return [_read_fields(item) for item in items]
