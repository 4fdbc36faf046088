"""Topics and accounts at a Kafka of one's own that denies what nobody allowed."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from pathlib import Path

import msgspec
import pytest
import uvloop

from agents import settings
from agents.base.errors import KafkaError, KafkaUnavailable, SettingsError
from agents.kafka import compacted
from agents.kafka.rights import rights_of_accounts
from agents.kafka.topics import fleet_topics, reconcile_topics
from agents.kafka.users import Accounts
from tests.admin.provision.support import ACCOUNTS, LANES, RAW, Denying
from tests.kafka.secured import secret

pytestmark = pytest.mark.asyncio(loop_scope="package")


# ---- topics ----


async def test_topics_are_made_once_and_altered_where_they_may_be(denying: Denying) -> None:
    assert list(denying.made[:8]) == [
        f"made: topic {name}: partitions {n}, copies 1"
        for name, n in (
            ("events.raw", RAW),
            ("events.lanes", LANES),
            ("events.clean", LANES),
            ("events.unplaced", 1),
            ("events.dead", 1),
            ("events.dead.replayed", 1),
            ("placement", 1),
            ("lanemap", 1),
        )
    ]
    wanted = fleet_topics(LANES, RAW, settings.Topics(raw_retention_h=48.0, min_isr=1))
    for dry, did in (
        (True, "changed"),
        (False, "changed"),
        (False, "unchanged"),
        (True, "unchanged"),
    ):
        denying.told.clear()
        await reconcile_topics(denying.kafka.admin, wanted, denying.tell, dry=dry)
        words = ": retention.ms 604800000 -> 172800000" if did == "changed" else ""
        assert denying.told[0] == f"{did}: topic events.raw{words}"
        assert denying.told[1:] == [f"unchanged: topic {t.name}" for t in wanted[1:]]


async def test_a_topic_that_would_lose_records_is_put_right(denying: Denying) -> None:
    [raw, *_] = fleet_topics(LANES, RAW)
    theirs = dataclasses.replace(
        raw,
        name="theirs",
        config={"message.timestamp.type": "CreateTime", "max.message.bytes": "1000"},
    )
    await reconcile_topics(denying.kafka.admin, (theirs,), denying.tell)
    denying.told.clear()
    await reconcile_topics(
        denying.kafka.admin, (dataclasses.replace(raw, name="theirs"),), denying.tell
    )
    assert denying.told == [
        "changed: topic theirs: message.timestamp.type CreateTime -> LogAppendTime, "
        "max.message.bytes 1000 -> 8388608"
    ]


async def test_what_cannot_be_altered_is_refused_before_anything_is(denying: Denying) -> None:
    kafka = denying.kafka.admin
    copies = msgspec.structs.replace(kafka, topics=settings.Topics(replication=3))
    for with_, wanted, why in (
        (
            kafka,
            fleet_topics(LANES + 2, RAW),
            r"events\.lanes has 6 partitions, the settings say 8: correct coordinator\.lanes",
        ),
        (
            copies,
            fleet_topics(LANES, RAW),
            r"kafka\.topics\.replication is 3, and .* has 1 brokers",
        ),
    ):
        denying.told.clear()
        with pytest.raises(KafkaError, match=why):
            await reconcile_topics(with_, wanted, denying.tell)
        assert denying.told == []


async def test_who_may_not_provision_is_told_what_is_missing(denying: Denying) -> None:
    kafka = await denying.account("nobody", [])
    with pytest.raises(
        KafkaError, match=r"lacks a right on Topic \S+ \(`geolane provision` gives rights\)"
    ):
        await reconcile_topics(kafka, fleet_topics(LANES, RAW), denying.tell)
    accounts = Accounts(kafka)
    await accounts.start()
    with pytest.raises(
        KafkaError,
        match=r"cannot be read: nobody lacks a right; it needs Alter and Describe on Cluster",
    ):
        await accounts.grant_rights(rights_of_accounts(ACCOUNTS), denying.tell)
    file = Path(secret(denying.folder / "kafka-other", "x"))
    with pytest.raises(
        KafkaError,
        match=r"account other cannot be made: nobody lacks a right; it needs Alter .*--print",
    ):
        await accounts.provision_users({"other": file}, denying.tell)
    await accounts.stop()


async def test_without_an_admins_right_password_it_says_so(denying: Denying) -> None:
    wrong = msgspec.structs.replace(
        denying.kafka.admin, password_file=secret(denying.folder / "wrong", "wrong")
    )
    with pytest.raises(
        KafkaUnavailable,
        match="no broker accepted our login: check address, certificate and password",
    ):
        await reconcile_topics(wrong, fleet_topics(LANES, RAW), denying.tell)


# ---- accounts and rights ----


async def test_accounts_and_rights_twice_are_once(denying: Denying) -> None:
    for first in (True, False):
        denying.told.clear()
        await denying.account("node-b", rights_of_accounts(["node-b"]))
        account, given = denying.told
        assert account.startswith(
            "set: Kafka's account node-b" if first else "unchanged: Kafka's account node-b"
        )
        assert given.startswith(
            "made: rights of node-b: Write on Topic events.clean"
            if first
            else "unchanged: rights of node-b"
        )


async def test_a_new_password_takes_the_old_ones_place(denying: Denying) -> None:
    await denying.account("node-c", [])
    secret(denying.folder / "kafka-node-c", "another")
    accounts = Accounts(denying.kafka.admin)
    await accounts.start()
    denying.told.clear()
    await accounts.provision_users({"node-c": denying.folder / "kafka-node-c"}, denying.tell)
    await accounts.stop()
    assert denying.told[0].startswith("set: Kafka's account node-c")


async def test_an_account_that_was_not_made_here_keeps_its_password(denying: Denying) -> None:
    """Somebody else's at this Kafka, also with another mechanism than ours; the folder of passwords
    may be another machine's."""
    await denying.accounts({"theirs": [], "node-e": []})
    other = msgspec.structs.replace(denying.kafka.admin, sasl_mechanism="SCRAM-SHA-256")
    for kafka, user in ((denying.kafka.admin, "node-d"), (other, "node-f")):
        accounts = Accounts(denying.kafka.admin)
        await accounts.start()
        accounts._kafka = kafka
        await accounts.set_passwords(
            {user: Path(secret(denying.folder / "kafka-theirs", "its own"))}
        )
        await accounts.stop()
    folder = denying.folder / "elsewhere"
    folder.mkdir()
    secret(folder / "kafka-node-e", "its own")
    files = {user: folder / f"kafka-{user}" for user in ("node-d", "node-e", "node-f", "node-new")}
    accounts = Accounts(denying.kafka.admin)
    await accounts.start()
    try:
        denying.told.clear()
        for dry in (True, False):
            with pytest.raises(SettingsError) as refused:
                await accounts.provision_users(files, denying.tell, dry=dry)
            assert str(refused.value).splitlines() == [
                f"Kafka's account {user} exists and was not made here: there is no "
                f"{folder}/kafka-{user}. Put its password "
                "into that file (mode 0600), or give --reset-password to replace it"
                for user in ("node-d", "node-f")
            ]
        assert denying.told == []
        assert [file.name for file in folder.iterdir()] == ["kafka-node-e"], (
            "nothing is made for the others either"
        )
        assert await accounts._can_log_in("node-d", denying.folder / "kafka-theirs")

        for dry in (True, False):
            await accounts.provision_users(files, denying.tell, dry=dry, reset=True)
        said = [
            line.partition(":")[0] + line.partition("account")[2].partition(":")[0]
            for line in denying.told
        ]
        assert said == 2 * ["set node-d", "unchanged node-e", "set node-f", "set node-new"]
        assert not await accounts._can_log_in("node-d", denying.folder / "kafka-theirs")
        for user, file in files.items():
            assert await accounts._can_log_in(user, file)

        denying.told.clear()
        await accounts.provision_users(files, denying.tell)
        assert {line.partition(":")[0] for line in denying.told} == {"unchanged"}
    finally:
        await accounts.stop()


async def test_a_connection_over_tls_ends_at_once(denying: Denying) -> None:
    """Under uvloop, as processes run: it waited 30 s for a broker that had just sent something
    else."""

    async def read() -> float:
        longest = 0.0
        for _ in range(8):
            began = time.monotonic()
            await compacted.read_newest_lane_map(denying.kafka.admin)
            longest = max(longest, time.monotonic() - began)
        return longest

    assert await asyncio.to_thread(uvloop.run, read()) < 10
