"""Apple's two tokens. We sign the first (a JWT, ES256) with the Maps key, and swap it for the
second, an access token of half an hour, which every request carries.

https://developer.apple.com/documentation/applemapsserverapi/creating-and-using-tokens-with-maps-server-api
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from agents.base.errors import ProviderUnavailable, SettingsError
from agents.base.files import SECRET_BYTES, read_whole_file
from agents.base.supervisor import retrieve_error
from agents.geo.apple.answers import TokenResponse
from agents.settings import Apple, find_secret_file

CREDENTIAL = "apple-maps-key"
JWT_VALID_S = 1200
"""Apple names no maximum; a leaked one is worth little."""
EARLY_S = 60.0
"""An access token is replaced this long before it expires."""
MAX_VALID_S = 86_400.0
_TOKEN = re.compile(r"[\x21-\x7e]{1,16384}")


@dataclass(frozen=True, slots=True)
class MapsKey:
    """A team's Maps key."""

    team_id: str = field(repr=False)
    key_id: str = field(repr=False)
    private_key: ec.EllipticCurvePrivateKey = field(repr=False)

    def sign(self, now: float) -> str:
        """A JWT for `/v1/token`. `now`: epoch seconds; Apple wants them whole."""
        claims = {
            "iss": self.team_id,
            "iat": int(now),
            "exp": int(now) + JWT_VALID_S,
            "scope": "server_api",
        }
        return jwt.encode(claims, self.private_key, "ES256", {"kid": self.key_id})


def read_key(apple: Apple) -> MapsKey:
    """The key of the settings. Blocks. Raises SettingsError, without a word of the key's."""
    for name in ("team_id", "key_id"):
        if not getattr(apple, name):
            raise SettingsError(f"geo.apple.{name}: is missing; Apple's developer account shows it")
    file = find_secret_file(apple.key_file, CREDENTIAL)
    if file is None:
        raise SettingsError(
            "geo.apple.key_file: is missing; name the .p8 file of the Maps key, mode 0600, or give "
            f"the unit LoadCredential={CREDENTIAL}:FILE"
        )
    return MapsKey(apple.team_id, apple.key_id, _read_private_key(file))


def _read_private_key(file: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = load_pem_private_key(read_whole_file(file, SECRET_BYTES), None)
    except OSError as e:
        raise SettingsError(f"{file}: the key cannot be read ({e.strerror})") from e
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # from None: the library's words may hold some of the key's
        raise SettingsError(
            f"{file}: is not a private key in PEM; use the .p8 file as Apple gives it"
        ) from None
    if not (isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name == "secp256r1"):
        raise SettingsError(f"{file}: is not a key for ES256 (P-256); use Apple's .p8 file")
    return key


@dataclass(slots=True)
class AccessTokens:
    """Keeps one access token, and swaps a JWT for the next before it expires. However many ask, one
    request to Apple is under way. `swap`: sends a JWT to `/v1/token`; raises ProviderUnavailable.
    `now`: epoch seconds."""

    key: MapsKey
    swap: Callable[[str], Awaitable[TokenResponse]]
    now: Callable[[], float] = time.time
    _token: str = field(default="", repr=False)
    _replace_at: float = 0.0
    _under_way: asyncio.Task[str] | None = field(default=None, repr=False)
    _given: deque[str] = field(default_factory=lambda: deque(maxlen=8), repr=False)

    async def get(self) -> str:
        """A valid access token. Raises ProviderUnavailable."""
        if self._token and self.now() < self._replace_at:
            return self._token
        if self._under_way is None or self._under_way.done():
            self._under_way = asyncio.create_task(self._fetch())
            self._under_way.add_done_callback(retrieve_error)
        return await asyncio.shield(self._under_way)  # if one caller gives up, the others go on

    def drop(self, token: str) -> None:
        """Apple refused this token. A newer one is kept."""
        if token == self._token:
            self._token = ""

    def hide(self, text: str) -> str:
        """`text` without the secrets that it may repeat."""
        for secret in (self.key.team_id, self.key.key_id, *self._given):
            text = text.replace(secret, "(hidden)")
        return text

    async def close(self) -> None:
        if self._under_way is not None:
            self._under_way.cancel()
            await asyncio.wait([self._under_way])

    async def _fetch(self) -> str:
        begun = self.now()
        signed = self.key.sign(begun)
        self._given.append(signed)
        got = await self.swap(signed)
        # It becomes a header's value, and comes from outside.
        if not (_TOKEN.fullmatch(got.access_token) and got.expires_in_seconds > 0):
            raise ProviderUnavailable("Apple gives an access token that cannot be used", 60.0)
        self._given.append(got.access_token)
        valid_s = min(got.expires_in_seconds, MAX_VALID_S)
        self._token = got.access_token
        self._replace_at = begun + max(valid_s - EARLY_S, valid_s / 2)
        return self._token
