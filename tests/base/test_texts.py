"""Files as people name them: with a byte order mark, line ends of Windows, UTF-16, NUL bytes, a cut
archive, or without an end."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable
from pathlib import Path

import pytest

from agents.admin import inventory_file
from agents.base import json_lines
from agents.base.errors import SettingsError
from agents.base.files import BOM, MAX_BYTES, SECRET_BYTES, read_or_make_password
from agents.core.model.inventory import InventoryFile
from agents.geodata import RTT_TABLE, read_rtt
from agents.kafka.connection import client_kwargs
from agents.local.stack import INVENTORY
from agents.settings import Kafka, decode_toml, load_settings, read_secret
from agents.xmpp.stream import tls_context
from ejabberd.api import Endpoint, HttpsApi

SETTINGS = b'[coordinator]\nlanes = 7 # caf\xc3\xa9\n[kafka]\nbootstrap = "a:1"\n'
READERS: dict[str, tuple[bytes, Callable[[Path], object]]] = {
    "settings": (SETTINGS, load_settings),
    "inventory": (INVENTORY.read_bytes(), lambda path: decode_toml(path, InventoryFile)),
    "password": (b"sesame\n", lambda path: read_secret(str(path))),
    "password made once": (b"sesame\n", read_or_make_password),
    "rtt table": (RTT_TABLE.read_bytes(), lambda path: read_rtt(path).regions),
}


@pytest.fixture(params=READERS)
def reader(request: pytest.FixtureRequest) -> tuple[bytes, Callable[[Path], object]]:
    return READERS[request.param]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.touch(0o600)
    return path


@pytest.mark.parametrize("mark", [b"", BOM])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_byte_order_mark_and_any_line_end_change_nothing(
    file: Path, reader: tuple[bytes, Callable[[Path], object]], mark: bytes, end: bytes
) -> None:
    data, read = reader
    file.write_bytes(data)
    plain = read(file)
    file.write_bytes(mark + data.replace(b"\n", end))
    assert read(file) == plain


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda data: data.decode().encode("utf-16"), "is UTF-16; save it as UTF-8"),
        (lambda data: data.decode().encode("utf-16-le"), "has a NUL byte at 1"),
        (lambda data: data.replace(b"\n", b"\0\n", 1), "has a NUL byte"),
        (lambda data: data.replace(b"\n", b"\xe9\n", 1), r"is not UTF-8 \(line 1\)"),
    ],
)
def test_what_is_not_utf8_is_refused_by_name(
    file: Path,
    reader: tuple[bytes, Callable[[Path], object]],
    change: Callable[[bytes], bytes],
    says: str,
) -> None:
    data, read = reader
    file.write_bytes(change(data))
    with pytest.raises(SettingsError, match=f"{file}.*{says}"):
        read(file)


def test_a_row_is_added_in_the_files_own_line_ends_behind_its_mark(file: Path) -> None:
    before = BOM + INVENTORY.read_bytes().replace(b"\n", b"\r\n")
    file.write_bytes(before)
    assert inventory_file.add_row(file, inventory_file.Row("iad-9", "iad", 1500.0))
    added = file.read_bytes()
    assert added.startswith(BOM)
    assert added.count(b"\n") == added.count(b"\r\n") > before.count(b"\n")
    inventory_file.remove_row(file, "iad-9")
    assert file.read_bytes() == before


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_mark_before_the_first_event_is_not_part_of_it(pack: Callable[[bytes], bytes]) -> None:
    file = io.BufferedReader(io.BytesIO(pack(BOM + b'{"id":"a"}\r\n\r\n{"id":"b"}')))
    assert list(json_lines.read_events(file)) == [b'{"id":"a"}', b'{"id":"b"}']


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ('{"id":"a"}\n'.encode("utf-16"), "is UTF-16"),
        (gzip.compress(b'{"id":"a"}\n' * 999, mtime=0)[:-9], "cannot be unpacked"),
        (gzip.compress(b'{"id":"a"}\n', mtime=0)[:12] + b"\xff" * 20, "cannot be unpacked"),
    ],
)
def test_a_file_of_events_that_cannot_be_read_is_refused(
    tmp_path: Path, data: bytes, says: str
) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(data)
    with path.open("rb") as file, pytest.raises(SettingsError, match=f"{path}: {says}"):
        list(json_lines.read_events(file))


def test_a_password_with_a_control_character_is_refused_and_not_repeated(file: Path) -> None:
    file.write_bytes(b"ses\x1bame\n")
    with pytest.raises(SettingsError, match="has a control character") as e:
        read_secret(str(file))
    assert "ame" not in str(e.value).replace(str(file), "")


ENDLESS = Path("/dev/zero")


def _api(ca_file: str) -> HttpsApi:
    return HttpsApi(Endpoint("https://a.test/api", "admin@a.test", "x", "y", ca_file))


@pytest.mark.parametrize(
    "read",
    [
        *(read for _, read in READERS.values()),
        lambda path: tls_context(str(path)),
        lambda path: tls_context("", str(path)),
        lambda path: client_kwargs(Kafka(security="SSL", ca_file=str(path))),
        lambda path: _api(str(path)),
    ],
    ids=[*READERS, "ca of XMPP", "certificate of XMPP", "ca of Kafka", "ca of the API"],
)
def test_a_file_without_an_end_is_refused_by_name(read: Callable[[Path], object]) -> None:
    refusals = "is not read, because it has more than", "others can read this secret"
    with pytest.raises(SettingsError, match=f"{ENDLESS}: ({'|'.join(refusals)})"):
        read(ENDLESS)


def test_a_password_is_no_longer_than_one(file: Path) -> None:
    file.chmod(0o600)
    file.write_bytes(b"x" * (SECRET_BYTES + 1))
    with pytest.raises(
        SettingsError, match=f"{file}: is not read, because it has more than 64 KiB"
    ):
        read_secret(str(file))


def test_a_file_of_events_without_line_ends_is_refused(tmp_path: Path) -> None:
    packed = tmp_path / "bomb.gz"
    with gzip.open(packed, "wb", 1) as file:
        for _ in range(20):
            file.write(bytes(1 << 20))
    for path in (ENDLESS, packed):
        with (
            path.open("rb") as some,
            pytest.raises(SettingsError, match=f"{path}: a line has more than"),
        ):
            list(json_lines.read_events(some))


def test_what_just_fits_is_read(file: Path) -> None:
    file.write_bytes(b"#" * MAX_BYTES)
    assert load_settings(file)
