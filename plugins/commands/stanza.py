"""AdHoc and its answers <-> `<command/>` with forms; AdHocList and Listing <-> service discovery of
commands.

Input from a client is bounded here: 50 fields with one value each, 1000 characters per value."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from dataclasses import replace

import msgspec
from slixmpp.stanza import Iq

from agents.core.events import AdHoc
from agents.core.model.answers import AnswerData
from agents.core.model.forms import (
    Field,
    FieldKind,
    Form,
    FormAnswer,
    FormRefusal,
    FormReply,
    Listing,
    Mood,
    Option,
    Remark,
    Status,
)
from plugins import namespaces as ns
from plugins.feeds import append_moves, moves_from_xml
from plugins.lanes import COMMAND_TAG, make_refusal
from plugins.values import (
    TEXT_LIMIT,
    BadStanza,
    parse_integer,
    parse_optional_word,
    parse_word,
    replace_invalid_xml,
    require_only_child,
)

NODE_PREFIX = f"{ns.OPERATOR}#"
ACTIONS = ("execute", "prev", "next", "complete", "cancel")
FIELDS_LIMIT, OPTIONS_LIMIT, LISTED_LIMIT = 50, 1000, 200
MOVES_LIMIT = 1_000  # of a dry run
ANSWER_LIMIT = 100_000  # characters of a value in an answer
ANSWER_FIELDS_LIMIT = 2000
LINE_WIDTH = 44  # poezio cuts a fixed field at half the width of its window

_C, _D, _V, _I = (
    f"{{{ns.COMMANDS}}}",
    f"{{{ns.DATA}}}",
    f"{{{ns.VALIDATE}}}",
    f"{{{ns.DISCO_ITEMS}}}",
)
_PLAN = f"{{{ns.PLACEMENT}}}placement"
_JSON = f"{{{ns.JSON}}}json"
_SHOWN = ("prev", "next", "complete")  # their order in `<actions/>` (XEP-0050, schema)


# What a client asks.


def is_items_request(iq: Iq) -> bool:
    """Whether this asks for our items, of any kind."""
    return iq["type"] == "get" and iq.xml.find(f"{_I}query") is not None


def is_list_request(iq: Iq) -> bool:
    """Whether this asks for the commands that the sender may give."""
    query = iq.xml.find(f"{_I}query")
    return query is not None and query.get("node") == ns.COMMANDS


def command_step_from_iq(iq: Iq, ref: str, jid: str) -> AdHoc:
    """One step of a command. `jid` is the sender's bare JID. A node that is not ours gives an empty
    name. Raises BadStanza.

    ::

        <command xmlns='http://jabber.org/protocol/commands'
         node='urn:geolane:operator:1#drain' sessionid='9f3a'
                 action='next'>
         <x xmlns='jabber:x:data' type='submit'><field var='node'><value>iad-1</value></field></x>
        </command>
    """
    root = require_only_child(iq.xml, COMMAND_TAG)
    action = root.get("action", "execute")
    if action not in ACTIONS:
        raise BadStanza(f"action: one of {', '.join(ACTIONS)} is needed")
    node = root.get("node", "")
    name = node.removeprefix(NODE_PREFIX) if node.startswith(NODE_PREFIX) else ""
    fields = {} if action in ("cancel", "prev") else _fields_from_submit(root)
    return AdHoc(
        ref,
        jid,
        parse_optional_word(name, "node"),
        parse_optional_word(root.get("sessionid"), "sessionid"),
        action,
        fields,
    )


def _fields_from_submit(root: ET.Element) -> dict[str, str]:
    if root.find(f"{_D}x") is None:
        return {}
    form = require_only_child(root, f"{_D}x")
    if form.get("type") != "submit":
        raise BadStanza("form: type submit is needed")
    found = form.findall(f"{_D}field")
    if len(found) > FIELDS_LIMIT:
        raise BadStanza(f"form: more than {FIELDS_LIMIT} fields")
    fields: dict[str, str] = {}
    for x in found:
        name, values = x.get("var", ""), x.findall(f"{_D}value")
        if name in ("", "FORM_TYPE"):
            continue
        if parse_word(name, "field") in fields:
            raise BadStanza(f"{name}: twice")
        if len(values) > 1:
            raise BadStanza(f"{name}: one value is needed")
        text = (values[0].text or "") if values else ""
        if len(text) > TEXT_LIMIT:
            raise BadStanza(f"{name}: more than {TEXT_LIMIT} characters")
        fields[name] = text
    return fields


def command_step_to_xml(
    command: str,
    session: str = "",
    action: str = "execute",
    fields: Mapping[str, str] | None = None,
) -> ET.Element:
    """The `<command/>` that a client sends."""
    root = ET.Element(COMMAND_TAG, node=NODE_PREFIX + command, action=action)
    if session:
        root.set("sessionid", session)
    if fields:
        form = ET.SubElement(root, f"{_D}x", type="submit")
        _add_form_type(form, command)
        for name, value in fields.items():
            ET.SubElement(
                ET.SubElement(form, f"{_D}field", var=name), f"{_D}value"
            ).text = replace_invalid_xml(value)
    return root


def make_items_request(iq: Iq) -> Iq:
    """Ask which commands we may give."""
    iq["type"] = "get"
    ET.SubElement(iq.xml, f"{_I}query", node=ns.COMMANDS)
    return iq


# The answers.


def make_answer(iq: Iq, answer: FormAnswer) -> Iq:
    """The result or error that answers `iq`."""
    if isinstance(answer, FormRefusal):
        error = make_refusal(iq, answer.condition, replace_invalid_xml(answer.text))
        if answer.detail:
            ET.SubElement(error["error"].xml, f"{_C}{answer.detail}")
        return error
    result = iq.reply()
    result.xml.extend(
        [
            _listing_to_xml(answer, str(iq["to"]))
            if isinstance(answer, Listing)
            else _reply_to_xml(answer)
        ]
    )
    return result


def _listing_to_xml(listing: Listing, jid: str) -> ET.Element:
    root = ET.Element(f"{_I}query", node=ns.COMMANDS)
    for option in listing.commands:
        ET.SubElement(
            root,
            f"{_I}item",
            jid=jid,
            node=NODE_PREFIX + option.value,
            name=replace_invalid_xml(option.label),
        )
    return root


def _reply_to_xml(reply: FormReply) -> ET.Element:
    """One stage, in the form that clients show.

    ::

        <command xmlns='http://jabber.org/protocol/commands'
         node='urn:geolane:operator:1#drain' sessionid='9f3a'
                 status='executing'>
         <actions execute='complete'><prev/><complete/></actions>
         <note type='warn'>The fleet has changed since.</note>
         <x xmlns='jabber:x:data' type='form'><title>drain iad-1</title>
          <instructions>...</instructions>
          <field var='FORM_TYPE' type='hidden'><value>urn:geolane:operator:1#drain</value></field>
          <field var='text' type='fixed'>
            <value>Drain iad-1: lanes 3, 7 would move away.</value></field>
          <field var='text-line-2' type='fixed'>
            <value>RTT an event 12.1 -> 13.0 ms.</value></field></x>
         <placement xmlns='urn:geolane:placement:1' total='1'>
          <move lane='3' from='iad-1' to='ams-2' epoch='0' delta_ms='2.1'/></placement>
        </command>

    A text is one fixed field a line; `text-line-N` begins a new line, `text-more-N` continues the
    line before it. The `placement` is for programs that draw a dry run: up to 1,000 moves, and
    their `total`. A result may have its figures (XEP-0335): ``<json xmlns='urn:xmpp:json:0'>
    {"type":"nodes",...}</json>``.
    """
    root = ET.Element(
        COMMAND_TAG,
        node=NODE_PREFIX + reply.command,
        sessionid=reply.session,
        status=reply.status.value,
    )
    if reply.actions:
        actions = ET.SubElement(root, f"{_C}actions", execute=reply.actions[0])
        for name in sorted(reply.actions, key=_SHOWN.index):
            ET.SubElement(actions, f"{_C}{name}")
    for remark in reply.remarks:
        ET.SubElement(root, f"{_C}note", type=remark.mood.value).text = replace_invalid_xml(
            remark.text
        )
    if reply.form is not None:
        root.append(_form_to_xml(reply.form, reply.command))
    if reply.moves:
        plan = ET.SubElement(root, _PLAN, total=str(len(reply.moves)))
        append_moves(plan, reply.moves[:MOVES_LIMIT])
    if reply.data is not None:
        text = replace_invalid_xml(msgspec.json.encode(reply.data).decode())
        if len(text) <= ANSWER_LIMIT:
            ET.SubElement(root, _JSON).text = text
    return root


def _add_form_type(form: ET.Element, command: str) -> None:
    hidden = ET.SubElement(form, f"{_D}field", var="FORM_TYPE", type="hidden")
    ET.SubElement(hidden, f"{_D}value").text = NODE_PREFIX + command


def _form_to_xml(form: Form, command: str) -> ET.Element:
    root = ET.Element(f"{_D}x", type="result" if form.result else "form")
    ET.SubElement(root, f"{_D}title").text = replace_invalid_xml(form.title)
    if form.instructions:
        ET.SubElement(root, f"{_D}instructions").text = replace_invalid_xml(form.instructions)
    _add_form_type(root, command)
    for f in (part for whole in form.fields for part in _split_lines(whole)):
        x = ET.SubElement(root, f"{_D}field", var=f.var, type=f.kind.value)
        if f.label:
            x.set("label", replace_invalid_xml(f.label))
        if f.note:
            ET.SubElement(x, f"{_D}desc").text = replace_invalid_xml(f.note)
        if f.required:
            ET.SubElement(x, f"{_D}required")
        if f.value:
            ET.SubElement(x, f"{_D}value").text = replace_invalid_xml(f.value)
        for option in f.options:
            ET.SubElement(
                ET.SubElement(x, f"{_D}option", label=replace_invalid_xml(option.label)),
                f"{_D}value",
            ).text = replace_invalid_xml(option.value)
        if f.low is not None and f.high is not None:
            check = ET.SubElement(x, f"{_V}validate", datatype="xs:integer")
            ET.SubElement(check, f"{_V}range", min=str(f.low), max=str(f.high))
    return root


def _split_lines(f: Field) -> Iterator[Field]:
    """The field, or for a text of several or long lines a fixed field for each."""
    if f.kind is not FieldKind.FIXED:
        yield f
        return
    pieces = [
        (piece, "more" if i else "line")
        for line in f.value.split("\n")
        for i, piece in enumerate(_wrap_line(line))
    ]
    yield replace(f, value=pieces[0][0])
    for n, (piece, how) in enumerate(pieces[1:], 2):
        yield Field(f"{f.var}-{how}-{n}", FieldKind.FIXED, value=piece)


def _wrap_line(line: str) -> Iterator[str]:
    """Pieces of up to LINE_WIDTH characters, cut at single spaces; a longer word stays whole."""
    while len(line) > LINE_WIDTH:
        at = line.rfind(" ", 1, LINE_WIDTH + 1)
        at = at if at > 0 else line.find(" ", LINE_WIDTH)
        if at < 0:
            break
        yield line[:at]
        line = line[at + 1 :]
    yield line


def _join_lines(fields: list[Field]) -> list[Field]:
    """The opposite of `_split_lines`."""
    whole: list[Field] = []
    for f in fields:
        before = whole[-1] if whole else None
        if before is not None and before.kind is f.kind is FieldKind.FIXED:
            joint = {f"{before.var}-line-": "\n", f"{before.var}-more-": " "}
            glue = joint.get(f.var.rstrip("0123456789"))
            if glue is not None:
                whole[-1] = replace(before, value=f"{before.value}{glue}{f.value}"[:ANSWER_LIMIT])
                continue
        whole.append(f)
    return whole


# What a client reads.


def listing_from_result(iq: Iq) -> Listing:
    """The commands in an answer to `make_items_request`, without items that are not ours. Raises
    BadStanza."""
    found = require_only_child(iq.xml, f"{_I}query").findall(f"{_I}item")[:LISTED_LIMIT]
    ours = [
        (x.get("node", "").removeprefix(NODE_PREFIX), x)
        for x in found
        if x.get("node", "").startswith(NODE_PREFIX)
    ]
    return Listing(
        tuple(Option(parse_word(name, "node"), x.get("name", "")[:TEXT_LIMIT]) for name, x in ours)
    )


def reply_from_result(iq: Iq) -> FormReply:
    """The stage in a result. Raises BadStanza."""
    root = require_only_child(iq.xml, COMMAND_TAG)
    if not root.get("node", "").startswith(NODE_PREFIX):
        raise BadStanza("node: one of ours is needed")
    try:
        status = Status(root.get("status", ""))
        remarks = tuple(
            Remark(Mood(x.get("type", "info")), (x.text or "")[:ANSWER_LIMIT])
            for x in root.findall(f"{_C}note")[:FIELDS_LIMIT]
        )
    except ValueError:
        raise BadStanza("status or note: not a known value") from None
    form = (
        _form_from_xml(require_only_child(root, f"{_D}x"))
        if root.find(f"{_D}x") is not None
        else None
    )
    plan = root.find(_PLAN)
    if plan is not None and len(plan) > MOVES_LIMIT:
        raise BadStanza(f"placement: more than {MOVES_LIMIT} moves")
    return FormReply(
        parse_word(root.get("node", "").removeprefix(NODE_PREFIX), "node"),
        parse_word(root.get("sessionid"), "sessionid"),
        status,
        form,
        remarks,
        _actions_from_xml(root),
        moves_from_xml(plan) if plan is not None else (),
        _data_from_xml(root),
    )


def _data_from_xml(root: ET.Element) -> AnswerData | None:
    """The figures; None if there are none, or none of a kind that this version knows."""
    if root.find(_JSON) is None:
        return None
    text = require_only_child(root, _JSON).text or ""
    if len(text) > ANSWER_LIMIT:
        raise BadStanza(f"json: more than {ANSWER_LIMIT} characters")
    try:
        return msgspec.json.decode(text, type=AnswerData)
    except msgspec.DecodeError:
        return None


def _actions_from_xml(root: ET.Element) -> tuple[str, ...]:
    if root.find(f"{_C}actions") is None:
        return ()
    x = require_only_child(root, f"{_C}actions")
    names = [name for name in _SHOWN if x.find(f"{_C}{name}") is not None]
    first = x.get("execute", "next")
    return tuple(sorted(names, key=lambda name: (name != first, _SHOWN.index(name))))


def _form_from_xml(root: ET.Element) -> Form:
    if root.get("type") not in ("form", "result"):
        raise BadStanza("form: type form or result is needed")
    found = root.findall(f"{_D}field")
    if len(found) > ANSWER_FIELDS_LIMIT:
        raise BadStanza(f"form: more than {ANSWER_FIELDS_LIMIT} fields")
    fields = [_field_from_xml(x) for x in found if x.get("type") != "hidden" and x.get("var")]
    return Form(
        (root.findtext(f"{_D}title") or "")[:TEXT_LIMIT],
        (root.findtext(f"{_D}instructions") or "")[:TEXT_LIMIT],
        tuple(_join_lines(fields)),
        root.get("type") == "result",
    )


def _field_from_xml(x: ET.Element) -> Field:
    try:
        kind = FieldKind(x.get("type", "text-single"))
    except ValueError:
        raise BadStanza("field: an unknown type") from None
    options = tuple(
        Option((o.findtext(f"{_D}value") or "")[:TEXT_LIMIT], o.get("label", "")[:TEXT_LIMIT])
        for o in x.findall(f"{_D}option")[:OPTIONS_LIMIT]
    )
    bounds = x.find(f"{_V}validate/{_V}range")
    low = None if bounds is None else parse_integer(bounds.get("min"), "min")
    high = None if bounds is None else parse_integer(bounds.get("max"), "max")
    value = "\n".join(v.text or "" for v in x.findall(f"{_D}value"))[:ANSWER_LIMIT]
    return Field(
        parse_word(x.get("var"), "field"),
        kind,
        x.get("label", "")[:TEXT_LIMIT],
        value,
        options,
        x.find(f"{_D}required") is not None,
        (x.findtext(f"{_D}desc") or "")[:TEXT_LIMIT],
        low,
        high,
    )


def refusal_from_error(iq: Iq) -> FormRefusal:
    """The content of an error."""
    error = iq["error"]
    found = next((str(x.tag).removeprefix(_C) for x in error.xml if str(x.tag).startswith(_C)), "")
    return FormRefusal(str(error["condition"]), str(error["text"])[:TEXT_LIMIT], found)
