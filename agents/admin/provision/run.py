"""`geolane provision`: XMPP, then Kafka. It prints a line for each thing: whether it was made,
changed or there already."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

from agents.admin.provision import dry_run
from agents.admin.provision.feeds import check_feeds
from agents.admin.provision.options import ProvisionOptions
from agents.base import json_lines
from agents.base.errors import SettingsError
from agents.base.files import read_whole_file, strip_bom
from agents.base.progress import PrintLine, ReportStep, StepOutcome
from agents.core.lanes.lane_map import LaneMap, build_lane_map
from agents.core.model.topology import TOPIC_LANEMAP
from agents.kafka import compacted, verification
from agents.kafka.topics import fleet_topics, reconcile_topics
from agents.kafka.users import Accounts
from ejabberd.api import api_from_settings
from ejabberd.provision import provision_dry_run, provision_server


async def run(asked: ProvisionOptions, say: PrintLine) -> None:
    """Raises SettingsError, XmppError, KafkaError. Completed steps stay, and the next run continues
    from there."""
    logging.getLogger("aiokafka").setLevel(
        logging.CRITICAL
    )  # an account that cannot log in is a result here, not an error
    if asked.printed:
        for line in await dry_run.list_commands(asked):
            say(line)
        return

    if not asked.dry:
        await asyncio.to_thread(_make_folder, asked.secrets)

    def print_step(did: StepOutcome, what: str) -> None:
        would = "would be " if asked.dry and did not in ("unchanged", "note") else ""
        say(f"{would}{did}: {what}")

    if asked.only != "kafka":
        await _provision_xmpp(asked, print_step)
    if asked.only != "xmpp":
        await _provision_kafka(asked, print_step)


def _make_folder(secrets: Path) -> None:
    try:
        secrets.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as e:
        raise SettingsError(
            f"{secrets}: cannot be created ({e.strerror}); name another folder with --secrets"
        ) from e
    if not os.access(secrets, os.W_OK | os.X_OK):
        raise SettingsError(
            f"{secrets}: passwords cannot be written there; name another folder with --secrets"
        )


async def _provision_xmpp(asked: ProvisionOptions, tell: ReportStep) -> None:
    api, xmpp = api_from_settings(asked.settings), asked.settings.xmpp
    if asked.dry:
        await provision_dry_run(
            api, xmpp.domain, asked.workers, asked.people, asked.secrets, tell, reset=asked.reset
        )
        return
    await provision_server(
        api, xmpp.domain, asked.workers, asked.people, asked.secrets, tell, reset=asked.reset
    )
    await check_feeds(xmpp, asked.secrets, asked.workers)
    tell("unchanged", f"all feeds, as {xmpp.coordinator} sees them at {xmpp.host}:{xmpp.port}")


async def _provision_kafka(asked: ProvisionOptions, tell: ReportStep) -> None:
    kafka, coordinator = asked.settings.kafka, asked.settings.coordinator
    await reconcile_topics(
        kafka.admin,
        fleet_topics(coordinator.lanes, coordinator.raw_partitions, kafka.topics),
        tell,
        dry=asked.dry,
    )
    await verification.require_safe_brokers(kafka.admin)
    users, rights = asked.kafka_users, asked.kafka_rights
    if users or rights:
        accounts = Accounts(kafka.admin)
        await accounts.start()
        try:
            await accounts.provision_users(users, tell, dry=asked.dry, reset=asked.reset)
            await accounts.grant_rights(rights, tell, dry=asked.dry)
        finally:
            await accounts.stop()
    await _publish_lane_map(asked, tell)


async def _publish_lane_map(asked: ProvisionOptions, tell: ReportStep) -> None:
    """Publish a lane map if there is none. An existing one stays."""
    kafka = asked.settings.kafka.admin
    passed: list[str] = []
    wanted = await asyncio.to_thread(_read_wanted_map, asked, passed.append)
    for line in passed:
        tell("note", line)
    there = await compacted.read_newest_lane_map(kafka) if await _has_topic(asked) else None
    if there is not None:
        tell(
            "unchanged",
            f"lane map, version {there.version}: {len(there.cell_lanes)} cells on {there.lanes} "
            "lanes",
        )
    elif wanted is None:
        tell(
            "note",
            "no lane map: routers wait for one. Give --sample FILE (events, a line each) or "
            "--lanemap FILE",
        )
    else:
        if not asked.dry:
            await compacted.publish_lane_map(kafka, wanted)
        tell(
            "made",
            f"lane map, version {wanted.version}: {len(wanted.cell_lanes)} cells on {wanted.lanes} "
            "lanes",
        )


async def _has_topic(asked: ProvisionOptions) -> bool:
    found: list[str] = []
    coordinator = asked.settings.coordinator
    wanted = [
        t
        for t in fleet_topics(coordinator.lanes, coordinator.raw_partitions)
        if t.name == TOPIC_LANEMAP
    ]
    await reconcile_topics(
        asked.settings.kafka.admin, tuple(wanted), lambda did, _: found.append(did), dry=True
    )
    return found != ["made"]


def _read_wanted_map(asked: ProvisionOptions, passed: PrintLine) -> LaneMap | None:
    lanes, resolution = asked.settings.coordinator.lanes, asked.settings.worker.cell_resolution
    if asked.lanemap is not None:
        wanted = LaneMap.decode(strip_bom(read_whole_file(asked.lanemap), asked.lanemap).strip())
        if wanted.lanes != lanes:
            raise SettingsError(
                f"{asked.lanemap}: is for {wanted.lanes} lanes, coordinator.lanes is {lanes}"
            )
        return wanted
    if asked.sample is not None:
        with asked.sample.open("rb") as file:
            return build_lane_map(json_lines.read_events(file), lanes, resolution, 1, tell=passed)
    return None
