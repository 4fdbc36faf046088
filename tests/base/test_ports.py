"""Free ports: given once by a process, also to who has not bound them yet."""

from __future__ import annotations

import socket

import pytest

from agents.base import ports
from agents.base.errors import SettingsError


def test_none_is_given_twice_and_all_are_below_those_of_outgoing_connections(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ports, "_given", set())
    given = [ports.find_free_port() for _ in range(500)]
    assert len(set(given)) == 500
    assert min(given) >= ports.FIRST
    assert max(given) < ports.END


def test_of_several_in_a_row_none_is_given_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "_given", set())
    rows = [ports.find_free_port(20) for _ in range(20)]
    assert len({port for first in rows for port in range(first, first + 20)}) == 400


def test_a_port_where_somebody_listens_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "_given", set())
    with socket.create_server(("127.0.0.1", port := ports.find_free_port())):
        assert ports.is_taken(port)
        monkeypatch.setattr(ports, "_given", set(range(ports.FIRST, ports.END)) - {port})
        with pytest.raises(SettingsError, match="too few free ports"):
            ports.find_free_port()
    assert not ports.is_taken(port)
