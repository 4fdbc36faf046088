"""The servers of a run: started here, or existing ones. Either way the result is how to reach
them."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from agents.base import log
from agents.base.errors import GeolaneError
from agents.base.files import read_or_make_password, replace_file
from agents.base.progress import PrintLine
from agents.base.supervisor import leaf_errors
from agents.kafka.java_client import java_properties
from agents.kafka.rights import CLIENT, COORDINATOR, client_rights, rights_of
from agents.kafka.users import Accounts
from agents.local.servers import webchat
from agents.local.servers.broker import Broker
from agents.local.servers.delay_proxy import DelayProxy
from agents.local.servers.delays import Delays, DistantBroker
from agents.local.servers.endings import Endings, Logs
from agents.local.servers.flink_cluster import FlinkCluster, is_flink_installed
from agents.local.servers.folder import RunFolder, default_folder
from agents.local.servers.install import install_part
from agents.local.servers.livepage import LivePlace, install_live_page
from agents.settings import ACCOUNT, Ejabberd, Kafka, Settings, Xmpp, read_secret
from ejabberd.provision import Person, provision_server
from ejabberd.server import Server

DOMAIN = "geolane.test"
PEOPLE = (Person("operator", "owner"), Person("ana", "admin"), Person("guest", "member"))
CHECK_S = 0.5
_log = log.get_logger("embedded.servers")


@dataclass(slots=True)
class Servers:
    """`kafka`, `xmpp` and `ejabberd` (the admin API) say how to reach them; `web` and `live` are
    the addresses of the chat page and the live page, `client_file` is what a user's own programs
    log in to Kafka with. `broker`, `client_file` and `server` are None if the servers are not ours,
    `web` and `live` if no page is served, `flink` if no Flink of ours is wanted, `proxy` if nothing
    is delayed."""

    kafka: Kafka
    xmpp: Xmpp
    ejabberd: Ejabberd
    broker: Broker | None = None
    client_file: Path | None = None
    server: Server | None = None
    flink: FlinkCluster | None = None
    proxy: DelayProxy | None = None
    web: str | None = None
    live: str | None = None
    endings: Endings | None = None
    _held: set[str] = field(default_factory=set)
    _logs: dict[str, Logs] = field(default_factory=dict)
    _again: Callable[[], Awaitable[None]] | None = None

    @classmethod
    async def start(
        cls,
        folder: RunFolder,
        base: Settings,
        *,
        kafka: str | None,
        xmpp: str | None,
        workers: Sequence[str],
        say: PrintLine,
        web: bool = True,
        flink: bool = False,
        endings: Endings | None = None,
        delays: Delays | None = None,
    ) -> Servers:
        """Start the servers that `kafka` (HOST:PORT) and `xmpp` (a domain) do not name, and, with
        `flink`, a Flink; all at once, since each takes seconds. `web`: an ejabberd of ours also
        serves the chat page. `delays`: between sites and a Kafka of ours.

        Raises InstallError, SettingsError, KafkaUnavailable, XmppError, FlinkUnavailable; then
        nothing is left running."""
        servers = cls(
            kafka=msgspec.structs.replace(base.kafka, bootstrap=kafka) if kafka else Kafka(),
            xmpp=msgspec.structs.replace(base.xmpp, domain=xmpp) if xmpp else Xmpp(domain=DOMAIN),
            ejabberd=base.ejabberd if xmpp else Ejabberd(),
            endings=endings,
        )
        try:
            async with asyncio.TaskGroup() as all_:
                if kafka is None:
                    all_.create_task(servers._start_kafka(folder, workers, say, delays))
                if xmpp is None:
                    all_.create_task(servers._start_ejabberd(folder, workers, say, web))
                if flink:
                    all_.create_task(servers._start_flink(folder, say))
        except BaseException as error:
            await servers.stop()
            raise next(leaf_errors(error)) from error  # one reason is enough
        return servers

    async def _start_kafka(
        self, folder: RunFolder, workers: Sequence[str], say: PrintLine, delays: Delays | None
    ) -> None:
        path = folder.path / "kafka"
        broker = Broker(path) if delays is None else DistantBroker(path, delays)
        await asyncio.to_thread(broker.end_stale_broker)
        # Each run begins with an empty stream.
        await asyncio.to_thread(shutil.rmtree, broker.folder / "data", ignore_errors=True)
        self.broker = broker
        self._logs["kafka"] = Logs(*broker.logs)
        if isinstance(broker, DistantBroker):
            log_file = folder.log / "delays.log"
            self.proxy = DelayProxy(broker.links, log_file)
            self._logs["delays"] = Logs(log_file)
            await self._start_server("delays", self.proxy.start)
            say(f"real delays: {broker.delays.describe()}")
        await self._start_server("kafka", broker.start)
        # the data is new, and so are the accounts in it
        await _give_accounts(broker.kafka, folder.secrets, workers)
        file = str(folder.secrets / f"kafka-{ACCOUNT}")
        self.kafka = msgspec.structs.replace(broker.kafka, username=ACCOUNT, password_file=file)
        self.client_file = folder.path / "kafka-client.conf"
        java = self.client_file.with_suffix(".properties")
        client = self.kafka.for_account(CLIENT)
        await asyncio.to_thread(_write_client_files, client, self.client_file, java)
        say(
            f"Kafka 4.3.1 at {broker.bootstrap}; your own programs log in with {self.client_file} "
            f"(Java's: {java.name})"
        )

    async def _start_ejabberd(
        self, folder: RunFolder, workers: Sequence[str], say: PrintLine, web: bool
    ) -> None:
        self.server = server = Server(folder.path / "ejabberd", DOMAIN)
        self._logs["ejabberd"] = Logs(
            server.folder / "log" / "ejabberd.log", server.folder / "server.out"
        )

        async def start() -> None:
            await server.start()
            # At each start, since a killed ejabberd may have lost what it had not yet written to
            # disk. The server is ours alone, so if the folder of passwords was lost, new ones
            # replace them.
            await provision_server(server.api, DOMAIN, workers, PEOPLE, folder.secrets, reset=True)

        self._again = start
        await self._start_server("ejabberd", start)
        self.xmpp = Xmpp(
            domain=DOMAIN, host="127.0.0.1", port=server.c2s_port, ca_file=str(server.ca_file)
        )
        self.ejabberd = Ejabberd(api_socket=str(server.api.socket_path))
        say(f"ejabberd at 127.0.0.1:{server.c2s_port}: accounts, room and feeds are ready")
        if not web:
            await asyncio.to_thread(webchat.clear_folder, server.web)
            return
        if await asyncio.to_thread(webchat.install_page, server.web, DOMAIN, self.xmpp.room):
            self.web = f"http://127.0.0.1:{server.http_port}/"
        else:
            say("no web chat: converse.js is missing; run: make install")
        names = ("127.0.0.1", "localhost")
        sockets = tuple(f"ws://{name}:{server.http_port}" for name in names)
        place = LivePlace(DOMAIN, "/ws", sockets)
        if await asyncio.to_thread(install_live_page, server.web / "live", place):
            self.live = f"http://127.0.0.1:{server.http_port}/live/"
        else:
            say("no live page: its libraries are missing; run: make install")

    async def _start_flink(self, folder: RunFolder, say: PrintLine) -> None:
        if not await asyncio.to_thread(is_flink_installed):
            say("Apache Flink is missing, and is installed, once")
            await install_part("flink", say)
        self.flink = cluster = FlinkCluster(folder.path / "flink")
        await asyncio.to_thread(cluster.end_stale)
        # Kafka begins with an empty stream, so no job goes on either.
        for kept in ("checkpoints", "savepoints"):
            await asyncio.to_thread(shutil.rmtree, cluster.folder / kept, ignore_errors=True)
        files = [file for part in cluster.parts for file in (cluster.log_of(part), part.printed)]
        self._logs["flink"] = Logs(*files)
        await self._start_server("flink", cluster.start)
        say(f"Flink's JobManager at {cluster.urls.jobmanager}, gateway at {cluster.urls.gateway}")

    def bootstrap_at(self, site: str) -> str:
        """How the workers of that site reach Kafka."""
        if isinstance(self.broker, DistantBroker):
            return self.broker.bootstrap_at(site)
        return self.kafka.bootstrap

    async def keep_running(self) -> None:
        """Start a server of ours again when it ends by itself (or is killed); runs until
        cancelled."""
        while True:
            await asyncio.sleep(CHECK_S)
            for name, gone, again in (
                (
                    "kafka",
                    self.broker is not None and self.broker.pid is None,
                    self.broker and self.broker.start,
                ),
                ("ejabberd", self.server is not None and self.server.pid is None, self._again),
                (
                    "delays",
                    self.proxy is not None and self.proxy.pid is None,
                    self.proxy and self.proxy.start,
                ),
                (
                    "flink",
                    self.flink is not None and self.flink.pid is None,
                    self.flink and self.flink.start,
                ),
            ):
                if gone and again and name not in self._held:
                    _log.warning("server_gone", server=name)
                    await self._note_ending(name, "it is started again")
                    try:
                        await self._start_server(name, again)
                        _log.info("server_back", server=name)
                        if self.endings is not None:
                            self.endings.note_restart(name)
                    except (GeolaneError, OSError) as e:  # OSError: its disk is full
                        _log.error("server_not_back", server=name, error=str(e))

    async def _start_server(self, name: str, start: Callable[[], Awaitable[None]]) -> None:
        """Start it. What its log says until it serves is no reason for a later end."""
        self._logs[name].mark_start()
        await start()
        self._logs[name].mark_start()

    async def _note_ending(self, name: str, how: str) -> None:
        if self.endings is not None:
            self.endings.note_ending(
                name, how, await asyncio.to_thread(self._logs[name].find_cause)
            )

    def hold_server(self, name: str) -> None:
        """Do not start `kafka`, `ejabberd`, `delays` or `flink` again until `release_server`: for a
        test that needs it away for a while."""
        self._held.add(name)

    def release_server(self, name: str) -> None:
        self._held.discard(name)

    async def stop(self) -> None:
        """Stop our servers, all at once; bounded by their own limits."""
        stops = [s.stop() for s in (self.server, self.broker, self.flink) if s is not None]
        for result in await asyncio.gather(*stops, return_exceptions=True):
            if isinstance(result, GeolaneError):
                _log.error("server_not_stopped", error=str(result))
            elif isinstance(result, BaseException):
                raise result
        if self.proxy is not None:  # after the broker, so that its log does not fill with errors
            await self.proxy.stop()


async def _give_accounts(admin: Kafka, secrets: Path, workers: Sequence[str]) -> None:
    """Give each process, and the user's own programs, an account of its own with the rights it
    needs."""
    processes = (COORDINATOR, *workers)
    files = {user: secrets / f"kafka-{user}" for user in (*processes, CLIENT)}
    for file in files.values():
        await asyncio.to_thread(read_or_make_password, file)
    accounts = Accounts(admin)
    await accounts.start()
    try:
        await accounts.set_passwords(files)  # none exists yet: the data is new
        wanted = [right for account in processes for right in rights_of(account)]
        await accounts.grant_rights([*wanted, *client_rights()], lambda did, what: None)
    finally:
        await accounts.stop()


def _write_client_files(kafka: Kafka, file: Path, java: Path) -> None:
    """Write the file that librdkafka's clients read (kcat), and the one of Kafka's own tools."""
    options = java_properties(kafka)
    replace_file(java, _format_properties(options))
    login = {"sasl.username": kafka.username, "sasl.password": read_secret(kafka.password_file)}
    own = {key: value for key, value in options.items() if key != "sasl.jaas.config"}
    replace_file(file, _format_properties(own | login))


def _format_properties(options: Mapping[str, str]) -> str:
    return "".join(f"{key}={value}\n" for key, value in options.items())


def end_leftovers(folder: RunFolder) -> None:
    """End the servers that a killed run left in this folder."""
    if (folder.path / "kafka").exists():
        Broker(folder.path / "kafka").end_stale_broker()
    if (folder.path / "flink").exists():
        FlinkCluster(folder.path / "flink").end_stale()
    if (folder.path / "ejabberd").exists():
        asyncio.run(Server(folder.path / "ejabberd", DOMAIN).stop())


# `make clean`: ends what a killed run left, and removes the run folder.


def main() -> None:
    """Raises SystemExit with one line while a run holds the folder."""
    path = default_folder()
    if not path.exists():
        return
    try:
        with RunFolder(path) as folder:
            end_leftovers(folder)
            shutil.rmtree(path)
    except GeolaneError as e:
        sys.exit(f"geolane: {e}")
    print(f"removed {path}")


if __name__ == "__main__":
    main()
