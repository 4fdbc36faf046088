"""Sends requests to Apple Maps Server API: each is counted in the budget first and carries the
access token, and Apple's refusals become errors of ours.

401: a new token, and once again. 429: the day has ended. 403, or 401 again: the key is refused, and
Apple is left alone for a while. 5xx and silence: agents/geo/online.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from agents.base.errors import ProviderUnavailable
from agents.core.model.times import format_duration
from agents.geo.apple.answers import TokenResponse
from agents.geo.apple.budget import CallBudget, CallPriority
from agents.geo.apple.tokens import AccessTokens, MapsKey
from agents.geo.online import Online, Refusal

T = TypeVar("T")
KEY_REFUSED_S = 300.0
OTHER_REFUSAL_S = 60.0
_KEY_REFUSED = (401, 403)
CLOCK_OFF_S = 30.0


@dataclass(slots=True)
class AppleClient:
    """Apple's server, as one team uses it."""

    online: Online
    budget: CallBudget
    tokens: AccessTokens

    @classmethod
    def connect(cls, online: Online, budget: CallBudget, key: MapsKey) -> AppleClient:
        async def swap(jwt: str) -> TokenResponse:
            return await client._swap(jwt)

        client = cls(online, budget, AccessTokens(key, swap, budget.now))
        online.hide = client.tokens.hide
        return client

    async def ask(
        self, path: str, params: Mapping[str, str], answer: type[T], priority: CallPriority
    ) -> T | Refusal:
        """The answer to a GET, or the refusal if the request itself is wrong (400).

        Raises ProviderUnavailable."""
        token = await self.tokens.get()
        got = await self._send(path, params, answer, priority, token)
        if isinstance(got, Refusal) and got.status == 401:
            self.tokens.drop(token)
            token = await self.tokens.get()
            got = await self._send(path, params, answer, priority, token)
        if isinstance(got, Refusal):
            if got.status == 400:
                return got
            raise await self._judge(got)
        await self.budget.note_success()
        return got

    async def close(self) -> None:
        await self.tokens.close()

    async def _send(
        self,
        path: str,
        params: Mapping[str, str],
        answer: type[T],
        priority: CallPriority,
        token: str,
    ) -> T | Refusal:
        return await self.online.request(
            path,
            answer,
            before=lambda: self.budget.count_call(priority),
            headers={"authorization": f"Bearer {token}"},
            params=params,
        )

    async def _swap(self, jwt: str) -> TokenResponse:
        """Whether it counts for Apple's quota is not documented, so it counts for ours."""
        got = await self._send("/v1/token", {}, TokenResponse, CallPriority.TOKEN, jwt)
        if isinstance(got, Refusal):
            raise await self._judge(got)
        return got

    async def _judge(self, refusal: Refusal) -> ProviderUnavailable:
        if refusal.status == 429:
            await self.budget.end_day()
            left = await self.budget.left()
            return ProviderUnavailable(
                f"{self.online.name} says that the team's quota is used up ({refusal.in_words})",
                max(1.0, left.ended_for_s),
            )
        if refusal.status in _KEY_REFUSED:
            return self.online.refuse_for(
                KEY_REFUSED_S,
                f"refuses the team's key ({refusal.in_words}): {self._describe_clock()}check team "
                "id, key id, key and clock with `geolane doctor`, then restart the geo worker",
            )
        return self.online.refuse_for(
            OTHER_REFUSAL_S, f"refuses the request ({refusal.in_words}): check geo.apple.url"
        )

    def _describe_clock(self) -> str:
        """Apple refuses what was signed at another time; empty if ours is right, or not known."""
        ahead_s = self.online.ahead_s or 0.0
        if abs(ahead_s) < CLOCK_OFF_S:
            return ""
        side = "ahead of" if ahead_s > 0 else "behind"
        return f"this machine's clock is {format_duration(abs(ahead_s))} {side} Apple's; "
