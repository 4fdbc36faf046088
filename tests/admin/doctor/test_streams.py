"""The doctor on routers that run on Kafka Streams."""

from __future__ import annotations

import pytest

from agents.admin.doctor import streams
from agents.admin.doctor.judge.roles import Whom
from agents.admin.doctor.judge.verdict import Level
from agents.admin.doctor.streams import StreamsCheck, judge_java
from agents.base.errors import InstallError
from agents.settings import Router, Settings

STREAMS = Settings(router=Router(engine="kafka-streams"))


@pytest.mark.parametrize(
    ("said", "level"),
    [
        ('openjdk version "17.0.15" 2025-04-15\nOpenJDK Runtime', Level.OK),
        ('openjdk version "21" 2023-09-19', Level.OK),
        ('java version "1.8.0_202"', Level.FAULT),
        ("cannot execute", Level.FAULT),
        ("", Level.FAULT),
    ],
)
def test_the_version_of_java(said: str, level: Level) -> None:
    assert judge_java(said).level is level


def test_it_is_checked_only_where_such_a_router_runs() -> None:
    assert not StreamsCheck(Settings(), Whom("router-1")).list_checks()
    assert not StreamsCheck(STREAMS, Whom("node-iad-1")).list_checks()
    assert [c.key for c in StreamsCheck(STREAMS, Whom("router-1")).list_checks()] == ["router java"]


async def test_a_program_that_is_missing_is_a_fault_of_the_routers_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail() -> None:
        raise InstallError("its jars are missing")

    monkeypatch.setattr(streams, "require_installed", fail)
    for account, level in (("router-1", Level.FAULT), ("geolane", Level.OK)):
        [check] = StreamsCheck(STREAMS, Whom(account)).list_checks()
        assert (await check.look()).level is level
