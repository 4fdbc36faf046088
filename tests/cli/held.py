"""Real output held against the types that `geolane json-schema` is made from."""

from __future__ import annotations

import json
from typing import TypeVar

import msgspec

T = TypeVar("T")


def hold_line(text: str, kind: type[T]) -> T:
    """The value of this line. It must have each field with its type, and no others."""
    value = msgspec.json.decode(text, type=kind)
    assert json.loads(msgspec.json.encode(value)) == json.loads(text), "fields that no type has"
    return value
