"""Text from the wire becomes a bounded value here or raises BadStanza. Text to the wire becomes
valid XML."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET

from agents.base.text import to_one_line

_INTEGER = re.compile(r"-?[0-9]{1,18}")
_NUMBER = re.compile(r"-?[0-9]{1,18}(\.[0-9]{1,18})?([eE][+-]?[0-9]{1,3})?")
_WORD = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_TOPIC = re.compile(r"[A-Za-z0-9_-]{1,64}/[A-Za-z0-9._-]{1,200}")
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

BIGGEST = 10**15
TEXT_LIMIT = 1000


class BadStanza(ValueError):
    """The input violates PROTOCOL 4. The message names the element or field, and may be sent
    back."""


def replace_invalid_xml(text: str) -> str:
    """`text` with every character that XML 1.0 cannot carry replaced: one of them would end the
    stream."""
    return _NOT_XML.sub("\ufffd", text)


def parse_integer(text: str | None, name: str, low: int = 0, high: int = BIGGEST) -> int:
    """A whole number in ASCII digits from `low` to `high`. Raises BadStanza."""
    if text is None or not _INTEGER.fullmatch(text) or not low <= (value := int(text)) <= high:
        raise BadStanza(f"{name}: a whole number from {low} to {high} is needed")
    return value


def parse_number(text: str | None, name: str, low: float = 0.0, high: float = 1e15) -> float:
    """A finite number from `low` to `high`. Raises BadStanza."""
    if text is None or not _NUMBER.fullmatch(text) or not low <= (value := float(text)) <= high:
        raise BadStanza(f"{name}: a number from {low:g} to {high:g} is needed")
    return value


def parse_word(text: str | None, name: str) -> str:
    """1 to 128 of A-Z a-z 0-9 _ . : - (boots, names, states). Raises BadStanza."""
    if text is None or not _WORD.fullmatch(text):
        raise BadStanza(f"{name}: 1 to 128 letters, digits, _ . : - are needed")
    return text


def parse_optional_word(text: str | None, name: str) -> str:
    """Like `parse_word`, or empty."""
    return parse_word(text, name) if text else ""


def parse_topic(text: str | None, name: str) -> str:
    """A Kafka topic with its cluster, `main/events.lanes`. Raises BadStanza."""
    if text is None or not _TOPIC.fullmatch(text):
        raise BadStanza(f"{name}: CLUSTER/TOPIC is needed")
    return text


def parse_sentence(text: str | None, at_most: int = TEXT_LIMIT) -> str:
    """Free text for people: one line of at most `at_most` characters, without control
    characters."""
    return to_one_line(text or "", at_most)


def format_number(value: float) -> str:
    """A number for the wire, to three decimals; 0 if it is not finite."""
    rounded = round(value, 3) if math.isfinite(value) else 0.0
    return str(int(rounded)) if rounded == int(rounded) else repr(rounded)


def require_only_child(parent: ET.Element, tag: str) -> ET.Element:
    """The one child of `parent` with this `{namespace}name`. Raises BadStanza if there is none, or
    more than one."""
    found = parent.findall(tag)
    if len(found) != 1:
        raise BadStanza(f"{tag}: exactly one is needed")
    return found[0]
