"""The proxy does to a request what its rule says, and to nothing else; what is behind it here only
notes what comes."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from agents.base import ports
from tests.fixtures.request_proxy import Api, Do, Fault, Point, RequestProxy, Rule, request_proxy

OWNER = "w"
BEFORE_END = Point(Api.END_TXN)
_BOUND_S = 5.0
_METADATA = 3


def text(words: str) -> bytes:
    return struct.pack(">h", len(words)) + words.encode()


def request(key: int, correlation: int, epoch: int = 0) -> bytes:
    """Of the oldest version that the proxy reads: transactional id, producer id and epoch, and no
    more."""
    head = struct.pack(">hhi", key, 0, correlation) + text("client")
    return (
        head + text(OWNER) + (b"" if key == Api.INIT_PRODUCER_ID else struct.pack(">qh", 7, epoch))
    )


@dataclass
class Broker:
    """Notes (key, correlation id) of what comes, and answers each with error 0, and epoch 0 of
    producer 7."""

    came: list[tuple[int, int]] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                (size,) = struct.unpack(">i", await reader.readexactly(4))
                key, _, correlation = struct.unpack_from(">hhi", await reader.readexactly(size))
                self.came.append((key, correlation))
                many = key == Api.ADD_PARTITIONS
                body = struct.pack(">ii", correlation, 0)
                body += (
                    struct.pack(">i", 1) + text("t") + struct.pack(">iih", 1, 0, 0)
                    if many
                    else struct.pack(">hqh", 0, 7, 0)
                )
                writer.write(struct.pack(">i", len(body)) + body)
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()


class Client:
    """One connection through the proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, key: int, correlation: int) -> None:
        frame = request(key, correlation)
        self.writer.write(struct.pack(">i", len(frame)) + frame)
        await self.writer.drain()

    async def answered(self) -> int:
        """The correlation id of the next answer."""
        async with asyncio.timeout(_BOUND_S):
            (size,) = struct.unpack(">i", await self.reader.readexactly(4))
            found: int = struct.unpack_from(">i", await self.reader.readexactly(size))[0]
        return found

    async def ask(self, key: int, correlation: int) -> None:
        await self.send(key, correlation)
        assert await self.answered() == correlation


class Line:
    """A broker, the proxy before it, and clients."""

    def __init__(self, broker: Broker, proxy: RequestProxy, port: int) -> None:
        self.broker, self.proxy, self._port = broker, proxy, port
        self._clients: list[Client] = []

    async def client(self) -> Client:
        self._clients.append(Client(*await asyncio.open_connection("127.0.0.1", self._port)))
        return self._clients[-1]

    def close(self) -> None:
        for client in self._clients:
            client.writer.close()

    async def next_transaction(self, client: Client) -> None:
        """After one whose end was answered: its partitions, and its end, before which the late copy
        comes."""
        await client.ask(Api.ADD_PARTITIONS, 90)
        await client.ask(Api.END_TXN, 91)


@asynccontextmanager
async def line() -> AsyncIterator[Line]:
    broker, port, upstream = Broker(), ports.find_free_port(), ports.find_free_port()
    server = await asyncio.start_server(broker.serve, "127.0.0.1", upstream)
    try:
        async with request_proxy(port, upstream) as proxy:
            made = Line(broker, proxy, port)
            try:
                yield made
            finally:
                made.close()
    finally:
        server.close()


async def begun(line: Line, do: Do, **more: int) -> tuple[Client, Fault]:
    """A client that has its lease, and a rule for the EndTxn of its first transaction, which has
    begun."""
    fault = line.proxy.add(Rule(OWNER, Api.END_TXN, do, BEFORE_END, **more))
    client = await line.client()
    await client.ask(Api.INIT_PRODUCER_ID, 1)
    await client.ask(Api.ADD_PARTITIONS, 2)
    return client, fault


async def test_what_is_held_comes_at_its_point_and_not_before() -> None:
    async with line() as made:
        client, fault = await begun(made, Do.HOLD)
        await client.send(Api.END_TXN, 3)
        again = await made.client()
        await again.ask(Api.END_TXN, 4)
        assert fault.taken.is_set()
        assert (Api.END_TXN, 3) not in made.broker.came
        await made.next_transaction(again)
        assert made.broker.came[-3:] == [
            (Api.ADD_PARTITIONS, 90),
            (Api.END_TXN, 3),
            (Api.END_TXN, 91),
        ]
        assert fault.answer == 0


async def test_an_answer_is_lost_and_a_copy_comes_later() -> None:
    async with line() as made:
        client, fault = await begun(made, Do.LOSE_ANSWER)
        await client.send(Api.END_TXN, 3)
        await client.ask(
            _METADATA, 4
        )  # the broker answers in order: the next answer is of another request
        assert (Api.END_TXN, 3) in made.broker.came
        again = await made.client()
        await again.ask(Api.END_TXN, 5)
        await made.next_transaction(again)
        assert made.broker.came.count((Api.END_TXN, 3)) == 2
        assert fault.delivered.is_set()


async def test_what_is_sent_twice_is_answered_once() -> None:
    async with line() as made:
        client, _ = await begun(made, Do.TWICE)
        await client.ask(Api.END_TXN, 3)
        await made.next_transaction(client)
        assert made.broker.came[-3:] == [
            (Api.ADD_PARTITIONS, 90),
            (Api.END_TXN, 3),
            (Api.END_TXN, 91),
        ]


async def test_a_reset_is_seen_at_once_and_the_request_comes_later() -> None:
    async with line() as made:
        client, _ = await begun(made, Do.RESET)
        await client.send(Api.END_TXN, 3)
        with pytest.raises(ConnectionResetError):
            await client.answered()
        again = await made.client()
        await again.ask(Api.END_TXN, 4)
        await made.next_transaction(again)
        assert made.broker.came.count((Api.END_TXN, 3)) == 1


async def test_a_rule_for_one_connection_leaves_the_others_alone() -> None:
    async with line() as made:
        client, fault = await begun(made, Do.HOLD, connection=2)
        await client.ask(Api.END_TXN, 3)
        await client.ask(Api.ADD_PARTITIONS, 4)
        assert not fault.taken.is_set()
    async with line() as made:
        _, fault = await begun(made, Do.HOLD, connection=2)
        other = await made.client()
        await other.send(Api.END_TXN, 3)
        async with asyncio.timeout(_BOUND_S):
            await fault.taken.wait()


async def test_who_is_silenced_is_heard_again_only_when_it_is_said() -> None:
    async with line() as made:
        client, fault = await begun(made, Do.HOLD)
        fault.silence_when = fault.taken
        await client.send(Api.END_TXN, 3)
        with pytest.raises(ConnectionResetError):
            await client.answered()
        other = await made.client()
        await other.send(Api.END_TXN, 4)
        with pytest.raises(ConnectionResetError):
            await other.answered()
        made.proxy.listen_again(OWNER)
        await (await made.client()).ask(Api.END_TXN, 5)
        assert [c for c in made.broker.came if c[0] == Api.END_TXN] == [(Api.END_TXN, 5)]


async def test_requests_without_a_transactional_id_pass() -> None:
    async with line() as made:
        client = await made.client()
        await client.ask(_METADATA, 1)
        assert made.broker.came == [(_METADATA, 1)]
