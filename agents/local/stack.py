"""All parts of a run, in the order in which they start: servers, topics, lane map, processes. They
stop in reverse."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from agents.base.errors import InstallError, KafkaUnavailable, SettingsError
from agents.base.progress import PrintLine
from agents.base.text import counted
from agents.core.lanes.lane_map import build_lane_map
from agents.core.model.inventory import Inventory, InventoryFile
from agents.core.model.placement import State
from agents.core.model.topology import KAFKA_STREAMS, WorkerKind, WorkerSpec
from agents.geodata.gazetteer.load import load_place_index
from agents.kafka import compacted
from agents.kafka.rights import COORDINATOR
from agents.kafka.topics import provision_topics
from agents.local.audit.accounting import Accounting
from agents.local.audit.follower import Follower
from agents.local.demo import flights
from agents.local.demo.maps.apple_maps import AppleMaps
from agents.local.servers.children import Child, Family
from agents.local.servers.delays import Delays, choose_sites, keep_sites
from agents.local.servers.endings import Endings
from agents.local.servers.folder import RunFolder
from agents.local.servers.install import install_part
from agents.local.servers.servers import PEOPLE, Servers
from agents.router.java_program import require_installed
from agents.settings import Ejabberd, Flink, Geo, Kafka, Metrics, Settings, decode_toml

REFUSALS = 3
ANALYTICS_EMBEDDED, ANALYTICS_FLINK, ANALYTICS_OFF = "embedded", "flink", "off"
MAPS_OF_SETTINGS, MAPS_DEMO, MAPS_OFF = "settings", "demo", "off"
INVENTORY = Path(__file__).parent / "demo" / "data" / "inventory.toml"


@dataclass(frozen=True, slots=True)
class StackPlan:
    """What to run. `nodes` limits the inventory's nodes. `analytics`: ANALYTICS_OFF, for none;
    ANALYTICS_EMBEDDED or ANALYTICS_FLINK, for at least one; or empty, for those of the inventory.
    ANALYTICS_FLINK also starts a Flink, unless the settings name another than the default.
    `maps`: MAPS_OFF, for no geo worker; MAPS_OF_SETTINGS or MAPS_DEMO, for at least one; or empty,
    for those of the inventory. MAPS_DEMO also starts a server of invented maps.
    `secrets` is the folder of existing accounts' passwords. `metrics_from`: the coordinator serves
    its metrics on this port, each worker on the next.
    `sites`: see `choose_sites`. `delays`: the RTT table, `azure` or a file, for real delays;
    `broker_at`: the site of Kafka then, or empty for the first router's. `data_at`: see
    coordinator.data_at; if empty, kafka with delays, else origin: no node is nearer to Kafka."""

    base: Settings
    inventory: Path = INVENTORY
    nodes: int | None = None
    analytics: str = ""
    maps: str = ""
    kafka: str | None = None
    xmpp: str | None = None
    secrets: Path | None = None
    coordinators: int = 1
    metrics_from: int | None = None
    web: bool = True
    sites: str = ""
    delays: str = ""
    broker_at: str = ""
    data_at: str = ""

    @property
    def has_flink(self) -> bool:
        """Whether a Flink is started."""
        return self.analytics == ANALYTICS_FLINK and self.base.analytics.flink == Flink()

    def read_inventory(self) -> InventoryFile:
        """The inventory's file, with the wanted sites, at most `nodes` nodes, and the wanted
        analytics and geo workers. Raises SettingsError."""
        file, sites, home = self._choose_sites()
        if self.sites:
            file = keep_sites(file, sites, home)
        analytics, geo = file.analytics, file.geo
        # They read what the routers send, at the same place.
        if self.analytics:
            analytics = analytics or file.router[:1]
        if self.maps:
            geo = geo or file.router[:1]
        return msgspec.structs.replace(
            file,
            node=file.node[: self.nodes],
            analytics=analytics if self.analytics != ANALYTICS_OFF else [],
            geo=geo if self.maps != MAPS_OFF else [],
        )

    def read_delays(self) -> Delays | None:
        """The delays between the sites and Kafka; None without. Raises SettingsError."""
        if not self.delays:
            return None
        file, _, home = self._choose_sites()
        there = self.read_inventory()
        at = [w.site for w in (*there.node, *there.router, *there.analytics, *there.geo)]
        return Delays.from_table(self.delays, file, at, home)

    def _choose_sites(self) -> tuple[InventoryFile, tuple[str, ...], str]:
        """The whole inventory, the sites that take part, and the one where Kafka is."""
        file = decode_toml(self.inventory, InventoryFile)
        sites = choose_sites(file, self.sites, str(self.inventory))
        routers = [router.site for router in file.router if router.site in sites or not self.sites]
        return file, sites, self.broker_at or next(iter((*routers, *sites)), "")


class Stack:
    """One run's processes. Call `start`, `wait_until_ready`, then `run` until cancelled, and
    finally `stop`."""

    def __init__(self, folder: RunFolder, plan: StackPlan, say: PrintLine) -> None:
        self.folder = folder
        self.plan = plan
        self.family = Family()
        self.endings = Endings(say)
        self.inventory = Inventory.from_file(plan.read_inventory(), str(plan.inventory))
        self.delays = plan.read_delays()
        self._say = say
        self._secrets = plan.secrets or folder.secrets
        self._more = AsyncExitStack()
        if plan.metrics_from is not None and plan.metrics_from + len(self.workers) > 65535:
            raise SettingsError(
                f"--metrics-from {plan.metrics_from}: {len(self.workers)} more ports are needed, "
                "up to 65535"
            )
        if plan.xmpp and not plan.secrets:
            raise SettingsError(
                "--xmpp needs --secrets: the folder with the accounts' password files"
            )

    @property
    def workers(self) -> list[WorkerSpec]:
        return list(self.inventory.workers.values())

    @property
    def has_geo(self) -> bool:
        """Whether events without coordinates get them."""
        return bool(self.inventory.workers_of(WorkerKind.GEO))

    async def start(self, sample: Iterable[bytes], rate_eps: float) -> None:
        """Start servers, topics, lane map, then the processes. The lane map is made from `sample`
        and `rate_eps`, and the day is that of the flights at this rate.

        Raises GeolaneError; call `stop` even then."""
        await self.start_servers(sample, rate_eps)
        await self.start_processes(await asyncio.to_thread(flights.day_length_s, rate_eps))

    async def start_servers(self, sample: Iterable[bytes], rate_eps: float) -> None:
        """Start servers, topics and lane map only: `start` without the processes."""
        base = self.plan.base
        self.folder.empty_parts("journal.sqlite3*", "log/*", "settings/*")
        accounts = [w.worker for w in self.workers]
        self.servers = await Servers.start(
            self.folder,
            base,
            kafka=self.plan.kafka,
            xmpp=self.plan.xmpp,
            workers=accounts,
            say=self._say,
            web=self.plan.web,
            flink=self.plan.has_flink,
            endings=self.endings,
            delays=self.delays,
        )
        if base.router.engine == KAFKA_STREAMS:
            await self._install_streams()
        servers = self.servers
        self.base = msgspec.structs.replace(
            base, kafka=servers.kafka.admin, xmpp=servers.xmpp, ejabberd=servers.ejabberd
        )
        if servers.flink is not None:
            analytics = msgspec.structs.replace(base.analytics, flink=servers.flink.settings())
            self.base = msgspec.structs.replace(self.base, analytics=analytics)
        if self.plan.maps == MAPS_DEMO:
            await self._start_invented_maps()
        lanes, raw = base.coordinator.lanes, base.coordinator.raw_partitions
        await provision_topics(self.base.kafka, lanes, raw, embedded=self.plan.kafka is None)
        if (built := await compacted.read_newest_lane_map(self.base.kafka)) is None:
            passed: list[str] = []
            resolution = base.worker.cell_resolution
            built = await asyncio.to_thread(
                build_lane_map, sample, lanes, resolution, 1, total_eps=rate_eps, tell=passed.append
            )
            for line in passed:
                self._say(line)
            await compacted.publish_lane_map(self.base.kafka, built)
        self._say(f"topics and lane map: {len(built.cell_lanes)} cells on {counted(lanes, 'lane')}")

    async def _install_streams(self) -> None:
        try:
            await asyncio.to_thread(require_installed)
        except InstallError:
            self._say("the router on Kafka Streams is missing, and is built, once")
            await install_part("streams", self._say)

    async def _start_invented_maps(self) -> None:
        """A server that speaks as Apple's does; what it tells is called invented everywhere."""
        folder = self.folder.path / "maps"
        folder.mkdir(mode=0o700, exist_ok=True)
        maps = await self._more.enter_async_context(AppleMaps.started(folder))
        maps.atlas.index = await asyncio.to_thread(load_place_index)
        geo = msgspec.structs.replace(
            self.base.geo, geocoder="apple", travel_times="apple", apple=maps.settings
        )
        self.base = msgspec.structs.replace(self.base, geo=geo)
        self._say(f"maps: all places, names and traffic are invented, by {maps.settings.url}")

    async def start_processes(self, day_s: float) -> None:
        """Start the processes, after `start_servers`. `day_s`: how long a day of the stream
        takes."""
        lanes, raw = self.base.coordinator.lanes, self.base.coordinator.raw_partitions
        # before the processes start, so that nothing goes uncounted
        self.accounting = Accounting(self.base.kafka, lanes, raw)
        self.follower = Follower(self.base.kafka)
        self.accounting.rewound = self.follower.rewound
        await self.accounting.start()
        await self.follower.start()
        self._before = (
            self.follower.leader_epoch
        )  # records of older leaders name processes that are gone
        self._write_settings(day_s=day_s)
        self._start_processes()

    def _write_settings(self, *, day_s: float) -> None:
        """`day_s`: how long a replayed day takes. The replay is compressed, so the forecast's day
        and its look ahead are, too."""
        calm = self.base.coordinator.calm
        inventory = self.folder.settings / "inventory.toml"
        inventory.write_text(inventory_to_toml(self.plan.read_inventory()), "utf-8")
        coordinator = msgspec.structs.replace(
            self.base.coordinator,
            inventory=str(inventory),
            journal=str(self.folder.path / "journal.sqlite3"),
            data_at=self.plan.data_at or ("origin" if self.delays is None else "kafka"),
            day_s=day_s,
            calm=msgspec.structs.replace(calm, forecast_s=min(calm.forecast_s, day_s / 8)),
        )
        if self.delays is not None:
            table = str(self.delays.table.absolute())
            coordinator = msgspec.structs.replace(coordinator, rtt_table=table)
        self.base = msgspec.structs.replace(self.base, coordinator=coordinator)
        processes = (COORDINATOR, *(w.worker for w in self.workers))
        for i, account in enumerate((*processes, *(p.name for p in PEOPLE))):
            if not (self._secrets / account).exists() and account in {p.name for p in PEOPLE}:
                continue
            xmpp = msgspec.structs.replace(
                self.base.xmpp, password_file=str(self._secrets.absolute() / account)
            )
            metrics = self._metrics_of_process(i) if i < len(processes) else Metrics()
            is_worker = 0 < i < len(processes)  # workers do not use the admin API
            ejabberd = Ejabberd() if is_worker else self.base.ejabberd
            kafka = self._kafka_settings_of(
                account if i < len(processes) else COORDINATOR
            )  # a person's: for `geolane dead`
            if account == COORDINATOR and self.servers.broker is not None:
                kafka = (
                    self.servers.kafka
                )  # with the admin's password, for `geolane nodes`, which reads this file
            of_geo = WorkerKind.GEO.has_account(account)  # no other process needs keys of maps
            settings = msgspec.structs.replace(
                self.base,
                kafka=kafka,
                xmpp=xmpp,
                metrics=metrics,
                ejabberd=ejabberd,
                geo=self.base.geo if of_geo else Geo(),
            )
            write_settings(self.folder.settings / f"{account}.toml", settings)
        if (first := self.plan.metrics_from) is not None:
            upto = (
                f"{', '.join(processes[1:2])} on {first + 1}, and so on to "
                f"{first + len(processes) - 1}"
            )
            self._say(f"metrics on 127.0.0.1: coordinator on {first}, {upto}")

    def _kafka_settings_of(self, account: str) -> Kafka:
        """Kafka's settings as that process uses them, without the admin's login."""
        theirs = msgspec.structs.replace(
            self.servers.kafka, admin_username="", admin_password_file=""
        )
        if (spec := self.inventory.workers.get(account)) is not None:
            bootstrap = self.servers.bootstrap_at(spec.site)
            theirs = msgspec.structs.replace(theirs, bootstrap=bootstrap)
        kafka = theirs.for_account(account)
        given = (self._secrets / f"kafka-{kafka.username}").absolute()
        if kafka.username and not kafka.password_file and given.exists():
            kafka = msgspec.structs.replace(kafka, password_file=str(given))
        return kafka

    def _metrics_of_process(self, i: int) -> Metrics:
        """The metrics of the i-th process: none unless asked for, whatever the base says, since
        each process needs its own port."""
        return (
            Metrics()
            if self.plan.metrics_from is None
            else Metrics(port=self.plan.metrics_from + i)
        )

    def _make_child(self, name: str, account: str, *arguments: str) -> Child:
        # The user's pipeline is found from the user's current folder.
        env = {
            "PYTHONPATH": os.pathsep.join(
                filter(None, (os.getcwd(), os.environ.get("PYTHONPATH", "")))
            )
        }

        file = self.folder.settings / f"{account}.toml"
        return Child(self.folder, name, (*arguments, "--settings", str(file)), env, self.endings)

    def _start_processes(self) -> None:
        # They stop in reverse order: the coordinator first, so that it does not fence workers that
        # only shut down.
        self.family.start(
            *(
                self._make_child(w.worker, w.worker, w.kind.name, "--name", w.name)
                for w in self.workers
            )
        )
        self.family.start(self._make_child("coordinator", COORDINATOR, "coordinator"))
        self._say(f"{counted(len(self.workers), 'worker')} and the coordinator are starting")

    async def wait_until_ready(self, timeout_s: float = 120) -> None:
        """Return when every partition has an owner. Raises KafkaUnavailable, naming the logs, if
        that takes too long."""
        wanted = {*self.accounting.lanes}
        if self.base.router.engine != KAFKA_STREAMS:  # which shares out the raw partitions itself
            wanted |= {*self.accounting.raw}
        if self.has_geo:
            wanted.add(WorkerKind.GEO.partition(0))
        deadline = time.monotonic() + timeout_s
        while True:
            placed = self.follower.placed.items()
            owned = {
                p for p, r in placed if r.state is State.ASSIGNED and r.leader_epoch > self._before
            }
            if wanted <= owned:
                self._say(f"all {len(wanted)} partitions have an owner")
                break
            for child in self.family.children.values():
                if child.refusals >= REFUSALS:
                    why = self.endings.describe_last(child.name)
                    raise SettingsError(
                        f"{child.name} refuses to start; its log is {child.log_file}. {why}"
                    )
            if time.monotonic() > deadline:
                missing = len(wanted - owned)
                raise KafkaUnavailable(
                    f"{missing} of {len(wanted)} partitions have no owner after {timeout_s:g} s; "
                    f"see {self.folder.log}"
                )
            await asyncio.sleep(0.05)
        # Only once `coordinator` leads, so that the names tell which one leads.
        for n in range(2, self.plan.coordinators + 1):
            self.family.start(self._make_child(f"coordinator-{n}", COORDINATOR, "coordinator"))

    async def run(self) -> None:
        """Keep everything running until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.accounting.run())
            tasks.create_task(self.follower.run())
            tasks.create_task(self.family.watch_children())
            tasks.create_task(self.servers.keep_running())

    @asynccontextmanager
    async def working(self, sample: Iterable[bytes], rate_eps: float) -> AsyncIterator[None]:
        """Inside, everything is started, every partition has an owner, and all is kept running. It
        is stopped afterwards, even if it could not start."""
        keeping: asyncio.Task[None] | None = None
        try:
            await self.start(sample, rate_eps)
            keeping = asyncio.create_task(self.run())
            await self.wait_until_ready()
            yield
        finally:
            if keeping is not None:
                keeping.cancel()
                with suppress(asyncio.CancelledError):
                    await keeping
            await self.stop()

    def busiest_node(self) -> Child:
        """The node process with the most lanes. Raises SettingsError if no node has a lane."""
        nodes = [w.worker for w in self.inventory.workers_of(WorkerKind.NODE)]
        best = max(nodes, key=lambda w: (len(self.follower.lanes_of(w)), w))
        if not self.follower.lanes_of(best):
            raise SettingsError("no node has a lane, so there is none to kill")
        return self.family.children[best]

    def kill_process(self, name: str) -> None:
        """kill -9 one of the processes; its owner starts it again."""
        self.family.children[name].send_signal(signal.SIGKILL)

    async def stop(self) -> None:
        """End everything, in order, each part with its own bound."""
        await self.family.stop()
        for name in ("accounting", "follower", "servers"):
            if (part := getattr(self, name, None)) is not None:
                await part.stop()
        await self._more.aclose()


# Settings files as the stack writes them: one per process, mode 0600, read by agents.settings like
# any other.


def settings_to_toml(settings: Settings) -> str:
    """All tables with all keys. A JSON string, number or (lower-case) boolean is also valid
    TOML."""
    tables = []
    for table in msgspec.structs.fields(settings):
        tables += _table_lines(table.name, getattr(settings, table.name))
    return "\n".join(tables)


def _table_lines(name: str, value: msgspec.Struct) -> list[str]:
    """The table `name`, then the tables inside it."""
    values = {f.name: getattr(value, f.name) for f in msgspec.structs.fields(value)}
    lines = [
        f"{k} = {json.dumps(v)}" for k, v in values.items() if not isinstance(v, msgspec.Struct)
    ]
    inner = [
        t
        for k, v in values.items()
        if isinstance(v, msgspec.Struct)
        for t in _table_lines(f"{name}.{k}", v)
    ]
    return [f"[{name}]\n" + "\n".join(lines) + "\n", *inner]


def write_settings(path: Path, settings: Settings) -> Path:
    """Write the file; it is there as a whole or not at all."""
    new = path.with_suffix(".new")
    new.write_text(settings_to_toml(settings), "utf-8")
    new.chmod(0o600)
    return new.replace(path)


def inventory_to_toml(file: InventoryFile) -> str:
    """An inventory as TOML for the coordinator: every table, each key that has a value."""
    tables = (
        (table.name, row)
        for table in msgspec.structs.fields(file)
        for row in getattr(file, table.name)
    )
    return "\n".join(
        f"[[{name}]]\n"
        + "".join(
            f"{k} = {json.dumps(v)}\n"
            for k, v in msgspec.structs.asdict(row).items()
            if v is not None
        )
        for name, row in tables
    )
