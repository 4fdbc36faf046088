"""Who may ask the stand-in of Apple Maps, and how often: the JWT is checked as Apple documents it,
with code that shares nothing with the one that signs."""

from __future__ import annotations

import base64
import binascii
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

DAY_S = 86_400.0
TOKENS = 1000


@dataclass(slots=True)
class MapsAccess:
    """`skew_s`: how far ahead of this clock a JWT may have been made. `token_valid_s`: how long the
    access tokens are valid that are given out. `daily_quota`: calls in a day, which begins
    `day_begins_s` after midnight UTC; `counts_tokens`: whether a call for a token is one."""

    team_id: str
    key_id: str
    public_key: ec.EllipticCurvePublicKey
    skew_s: float = 60.0
    token_valid_s: int = 1800
    daily_quota: int = 25_000
    day_begins_s: float = 0.0
    counts_tokens: bool = True
    calls: dict[int, int] = field(default_factory=dict)
    _tokens: dict[str, float] = field(default_factory=dict, repr=False)

    def count_call(self, now: float, *, for_token: bool) -> bool:
        """Whether the quota allows this one."""
        if for_token and not self.counts_tokens:
            return True
        day = int((now - self.day_begins_s) // DAY_S)
        self.calls = {day: self.calls.get(day, 0) + 1}
        return self.calls[day] <= self.daily_quota

    def issue_token(self, now: float) -> str:
        token = secrets.token_urlsafe(96)
        self._tokens[token] = now + self.token_valid_s
        while len(self._tokens) > TOKENS:
            del self._tokens[next(iter(self._tokens))]
        return token

    def knows_token(self, authorization: str, now: float) -> bool:
        return self._tokens.get(_bearer(authorization), 0.0) > now

    def accepts_jwt(self, authorization: str, origin: str, now: float) -> bool:
        try:
            return self._judge_jwt(_bearer(authorization), origin, now)
        except (ValueError, TypeError, AttributeError, InvalidSignature, binascii.Error):
            return False

    def _judge_jwt(self, jwt: str, origin: str, now: float) -> bool:
        signed, _, signature = jwt.rpartition(".")
        header, claims = (_decode_object(part) for part in signed.split("."))
        if (header["alg"], header["kid"], header["typ"]) != ("ES256", self.key_id, "JWT"):
            return False
        self._check_signature(signed, _decode(signature))
        made, expires = claims["iat"], claims["exp"]
        if not (type(made) is int and type(expires) is int):
            return False
        if not made - self.skew_s <= now < expires:
            return False
        if "origin" in claims and not origin:
            return False
        scopes = str(claims.get("scope", "server_api")).split()
        return claims["iss"] == self.team_id and "server_api" in scopes

    def _check_signature(self, signed: str, raw: bytes) -> None:
        """Raises InvalidSignature. JOSE has r and s one after the other, 32 bytes each."""
        if len(raw) != 64:
            raise InvalidSignature
        r, s = (int.from_bytes(half, "big") for half in (raw[:32], raw[32:]))
        algorithm = ec.ECDSA(hashes.SHA256())
        self.public_key.verify(encode_dss_signature(r, s), signed.encode("ascii"), algorithm)


def _bearer(authorization: str) -> str:
    scheme, _, value = authorization.partition(" ")
    return value if scheme == "Bearer" else ""


def _decode(part: str) -> bytes:
    return base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)


def _decode_object(part: str) -> Mapping[str, Any]:  # Any: JSON
    """Raises ValueError for a name that comes twice, as Apple refuses it."""
    found: dict[str, Any] = json.loads(_decode(part), object_pairs_hook=_unique, strict=True)
    return _Claims(found)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) != len({name for name, _ in pairs}):
        raise ValueError("a name comes twice")
    return dict(pairs)


class _Claims(dict[str, Any]):
    """A claim that is not there is None."""

    def __missing__(self, name: str) -> None:
        return None
