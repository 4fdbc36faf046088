"""The engine's checkpoint in the compacted topic `hotspots.state`: one record of progress, written
with each transaction, and now and then a snapshot of the detector in several records.

What the newest snapshot does not have is read again from `events.lanes`; the progress says which
rises of it were told already."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator, Mapping

import msgspec
import numpy as np

from agents.core.model.hotspots import Hotspot, Rise
from kernels.hotspots.detector import Saved

PROGRESS = b"progress"
_CHUNK_BYTES = 900_000
_MOST_BYTES = 4 << 30
_ID_BYTES = 8


class CheckpointUnusable(Exception):
    """The topic does not hold what was written to it; the text says what is wrong."""


class Snapshot(msgspec.Struct, frozen=True):
    """Which snapshot is the newest: its `id` and number of `chunks`, and the offset in each
    partition of `events.lanes` with which it goes on."""

    id: int
    chunks: int
    positions: dict[int, int]


class JobRecord(msgspec.Struct, frozen=True):
    """The Flink job that an engine looks after, written before it is submitted. `script`: a hash of
    what it runs. It reads records that were appended at `from_ms` or later, the first of which is
    of `since_s`. `start_from`: the savepoint or checkpoint that it begins from; `deletable`:
    whether that is nobody's but geolane's. `checkpoint`: the newest of its own that was seen.
    `seen`: whether the JobManager has shown it."""

    job_id: str
    script: str
    from_ms: int
    since_s: int
    start_from: str = ""
    checkpoint: str = ""
    seen: bool = False
    deletable: bool = False

    def is_deletable(self, path: str) -> bool:
        """A checkpoint, or the savepoint that it began from if that is; but not the savepoint of
        somebody else."""
        return "/chk-" in path or (self.deletable and path == self.start_from)


class FlinkProgress(msgspec.Struct, frozen=True):
    """`position`: the offset in `hotspots.rises` with which it goes on. `recent`: the rises after
    slot `told_s` that were told. `job`: None before the first."""

    position: int
    recent: list[Rise] = []
    job: JobRecord | None = None


class Progress(msgspec.Struct, frozen=True):
    """`count`: transactions since the first; it is committed as the offset of `hotspots/0`.
    `told_s`: the slot up to which all rises were told. `open`: the hotspots that last. `flink`: of
    the engine that reads the rises of a Flink job, which makes no snapshots."""

    count: int
    told_s: int
    snapshot: Snapshot
    open: list[Hotspot] = []
    version: int = 1
    flink: FlinkProgress | None = None

    def encode(self) -> bytes:
        return msgspec.json.encode(self)

    @classmethod
    def decode(cls, value: bytes) -> Progress:
        """Raises CheckpointUnusable."""
        try:
            found = msgspec.json.decode(value, type=cls)
        except msgspec.DecodeError as e:
            raise CheckpointUnusable(f"the progress in hotspots.state cannot be read: {e}") from e
        if found.version != 1:
            raise CheckpointUnusable(
                f"the progress in hotspots.state is of version {found.version}: another version "
                "of geolane wrote it"
            )
        return found


def _key_of_chunk(n: int) -> bytes:
    return b"snapshot/%d" % n


def split_snapshot(
    snapshot_id: int, saved: Saved, before: int
) -> Iterator[tuple[bytes, bytes | None]]:
    """The records of a snapshot, as (key, value): its chunks, and a tombstone for each chunk that
    only the one before it had. `before`: how many that one had."""
    packed = io.BytesIO()
    np.savez(packed, allow_pickle=False, **saved)
    whole = zlib.compress(packed.getbuffer(), 1)
    mark = snapshot_id.to_bytes(_ID_BYTES)
    starts = range(0, len(whole), _CHUNK_BYTES)
    for n, start in enumerate(starts):
        yield _key_of_chunk(n), mark + whole[start : start + _CHUNK_BYTES]
    for n in range(len(starts), before):
        yield _key_of_chunk(n), None


def join_snapshot(rows: Mapping[bytes, bytes], snapshot: Snapshot) -> Saved:
    """The snapshot from the topic's rows. Raises CheckpointUnusable."""
    mark = snapshot.id.to_bytes(_ID_BYTES)
    chunks = [rows.get(_key_of_chunk(n), b"") for n in range(snapshot.chunks)]
    if wrong := [n for n, chunk in enumerate(chunks) if not chunk.startswith(mark)]:
        raise CheckpointUnusable(f"hotspots.state lacks parts {wrong[:5]} of its snapshot")
    try:
        unpack = zlib.decompressobj()
        whole = unpack.decompress(b"".join(c[_ID_BYTES:] for c in chunks), _MOST_BYTES)
        with np.load(io.BytesIO(whole), allow_pickle=False) as arrays:
            return dict(arrays)
    except (zlib.error, ValueError, OSError, EOFError, KeyError) as e:
        raise CheckpointUnusable(f"the snapshot in hotspots.state cannot be read: {e}") from e
