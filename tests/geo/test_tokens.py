"""Apple's tokens: what we sign is what the stand-in of Apple accepts, with code of its own; one
request fetches the next token, however many ask; nothing secret is shown."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from agents import settings
from agents.base.errors import ProviderUnavailable, SettingsError
from agents.geo.apple.answers import TokenResponse
from agents.geo.apple.tokens import EARLY_S, AccessTokens, MapsKey, read_key
from agents.local.demo.maps.apple_access import MapsAccess

NOW = 1_795_000_000.5
TEAM, KEY = "TEAMTEAM01", "KEYKEYKE01"
PRIVATE = ec.generate_private_key(ec.SECP256R1())


def pem_of(key: Any) -> bytes:  # Any: a private key of any kind
    return bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


@pytest.fixture
def access() -> MapsAccess:
    return MapsAccess(TEAM, KEY, PRIVATE.public_key())


@pytest.fixture
def put_key(tmp_path: Path) -> Callable[..., settings.Apple]:
    def put(content: bytes, mode: int = 0o600) -> settings.Apple:
        file = tmp_path / "key.p8"
        file.write_bytes(content)
        file.chmod(mode)
        return settings.Apple(team_id=TEAM, key_id=KEY, key_file=str(file))

    return put


# What we sign.


def test_what_we_sign_is_accepted(
    put_key: Callable[..., settings.Apple], access: MapsAccess
) -> None:
    signed = read_key(put_key(pem_of(PRIVATE))).sign(NOW)
    assert access.accepts_jwt(f"Bearer {signed}", "", NOW)
    header, claims = (
        json.loads(base64.urlsafe_b64decode(part + "==")) for part in signed.split(".")[:2]
    )
    assert header == {"alg": "ES256", "kid": KEY, "typ": "JWT"}
    assert claims == {
        "iss": TEAM,
        "iat": 1_795_000_000,
        "exp": 1_795_001_200,
        "scope": "server_api",
    }


GOOD = {"iss": TEAM, "iat": int(NOW), "exp": int(NOW) + 1200, "scope": "server_api"}


@pytest.mark.parametrize(
    ("claims", "header"),
    [
        ({"iss": "TEAMTEAM02"}, {}),
        ({"iss": None}, {}),
        ({"iat": int(NOW) * 1000}, {}),
        ({"iat": NOW}, {}),
        ({"iat": None}, {}),
        ({"iat": int(NOW) + 61}, {}),
        ({"exp": int(NOW)}, {}),
        ({"exp": str(int(NOW) + 1200)}, {}),
        ({"scope": "mapkit_js"}, {}),
        ({"origin": "example.org"}, {}),
        ({}, {"kid": "KEYKEYKE02"}),
        ({}, {"typ": "X"}),
        ({}, {"kid": None}),
    ],
)
def test_the_stand_in_refuses_what_apple_would(
    access: MapsAccess, claims: dict[str, Any], header: dict[str, Any]
) -> None:
    def signed(claims: dict[str, Any], header: dict[str, Any]) -> str:
        kept = {name: value for name, value in (GOOD | claims).items() if value is not None}
        return jwt.encode(kept, PRIVATE, "ES256", {"kid": KEY} | header)

    def without_kid() -> str:
        return jwt.encode(GOOD, PRIVATE, "ES256")

    assert access.accepts_jwt(f"Bearer {signed({}, {})}", "", NOW)
    bad = without_kid() if header == {"kid": None} else signed(claims, header)
    assert not access.accepts_jwt(f"Bearer {bad}", "", NOW)


def test_the_stand_in_refuses_other_keys_algorithms_and_forms(access: MapsAccess) -> None:
    good = jwt.encode(GOOD, PRIVATE, "ES256", {"kid": KEY})
    other = jwt.encode(GOOD, ec.generate_private_key(ec.SECP256R1()), "ES256", {"kid": KEY})
    hs256 = jwt.encode(GOOD, "x" * 64, "HS256", {"kid": KEY})
    head, body, signature = good.split(".")
    twice = base64.urlsafe_b64encode(
        b'{"alg":"ES256","kid":"%s","typ":"JWT","typ":"JWT"}' % KEY.encode()
    ).rstrip(b"=")
    flipped = ("A" if signature[0] != "A" else "B") + signature[1:]
    for bad in (
        other,
        hs256,
        f"{head}.{body}.{flipped}",
        f"{head}.{body}.",
        f"{twice.decode()}.{body}.{signature}",
        f"{head}.{body}",
        "",
        "a.b.c",
        "..",
    ):
        assert not access.accepts_jwt(f"Bearer {bad}", "", NOW), bad
    assert not access.accepts_jwt(good, "", NOW)
    assert not access.accepts_jwt(f"Basic {good}", "", NOW)


# The key's file.


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"sesame",
        b"\xff\xfe",
        b"-----BEGIN PRIVATE KEY-----\nc2VzYW1l\n-----END PRIVATE KEY-----\n",
        pem_of(rsa.generate_private_key(65537, 2048)),
        pem_of(ed25519.Ed25519PrivateKey.generate()),
        pem_of(ec.generate_private_key(ec.SECP384R1())),
        PRIVATE.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        ),
        PRIVATE.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"sesame"),
        ),
    ],
    ids=["empty", "text", "binary", "broken", "RSA", "Ed25519", "P-384", "public", "encrypted"],
)
def test_a_file_that_is_not_a_key_of_apples_is_refused_and_not_repeated(
    put_key: Callable[..., settings.Apple], content: bytes
) -> None:
    with pytest.raises(SettingsError, match=r"key\.p8: is not a .*key") as refused:
        read_key(put_key(content))
    assert "sesame" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_a_key_that_others_can_read_is_refused(put_key: Callable[..., settings.Apple]) -> None:
    with pytest.raises(SettingsError, match="chmod 600"):
        read_key(put_key(pem_of(PRIVATE), 0o640))


def test_the_key_may_be_a_credential(
    put_key: Callable[..., settings.Apple], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_key(pem_of(PRIVATE), 0o440)
    (tmp_path / "key.p8").rename(tmp_path / "apple-maps-key")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert read_key(settings.Apple(team_id=TEAM, key_id=KEY)).key_id == KEY


@pytest.mark.parametrize("missing", ["team_id", "key_id", "key_file"])
def test_what_is_missing_is_named(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    whole = settings.Apple(team_id=TEAM, key_id=KEY, key_file="key.p8")
    with pytest.raises(SettingsError, match=f"geo.apple.{missing}: is missing"):
        read_key(msgspec.structs.replace(whole, **{missing: ""}))


# The access token.


class Swap:
    """Counts, and waits until `go` is set."""

    def __init__(self, valid_s: float = 1800.0) -> None:
        self.valid_s, self.count, self.now = valid_s, 0, NOW
        self.go = asyncio.Event()
        self.go.set()
        self.error: Exception | None = None
        self.tokens = AccessTokens(MapsKey(TEAM, KEY, PRIVATE), self, lambda: self.now)

    async def __call__(self, jwt: str) -> TokenResponse:
        self.count += 1
        await self.go.wait()
        if self.error:
            raise self.error
        return TokenResponse(f"token-{self.count}", self.valid_s)


async def test_however_many_ask_one_request_is_under_way() -> None:
    swap = Swap()
    swap.go.clear()
    asking = [asyncio.create_task(swap.tokens.get()) for _ in range(50)]
    await asyncio.sleep(0)
    asking[0].cancel()  # whoever asked first gives up: the others still get it
    await asyncio.sleep(0)
    swap.go.set()
    got = await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(got[0], asyncio.CancelledError)
    assert (set(got[1:]), swap.count) == ({"token-1"}, 1)


async def test_if_it_fails_all_who_wait_are_told_once() -> None:
    swap = Swap()
    swap.error = ProviderUnavailable("away", 1.0)
    got = await asyncio.gather(*(swap.tokens.get() for _ in range(5)), return_exceptions=True)
    assert (got, swap.count) == ([swap.error] * 5, 1)
    swap.error = None
    assert await swap.tokens.get() == "token-2"


async def test_it_is_replaced_a_minute_early() -> None:
    swap = Swap()
    assert await swap.tokens.get() == "token-1"
    swap.now = NOW + 1800 - EARLY_S - 1
    assert await swap.tokens.get() == "token-1"
    swap.now += 1
    assert await swap.tokens.get() == "token-2"


async def test_a_token_of_seconds_is_used_for_half_of_them() -> None:
    swap = Swap(valid_s=30)
    await swap.tokens.get()
    swap.now += 14
    assert await swap.tokens.get() == "token-1"
    swap.now += 1
    assert await swap.tokens.get() == "token-2"


async def test_a_token_that_was_refused_is_dropped_but_not_the_next_one() -> None:
    swap = Swap()
    old = await swap.tokens.get()
    swap.tokens.drop(old)
    new = await swap.tokens.get()
    swap.tokens.drop(old)  # a request from before is refused, too
    assert await swap.tokens.get() == new == "token-2"


async def test_whoever_closes_ends_what_is_under_way() -> None:
    swap = Swap()
    swap.go.clear()
    asking = asyncio.create_task(swap.tokens.get())
    await asyncio.sleep(0)
    await swap.tokens.close()
    with pytest.raises(asyncio.CancelledError):
        await asking
