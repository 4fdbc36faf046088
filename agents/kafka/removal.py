"""A worker's account and rights taken away at Kafka again: what agents/kafka/accounts.py gave, and nothing else's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from aiokafka.protocol.admin import DeleteAclsRequest

from agents.kafka.accounts import Accounts, _until
from agents.kafka.rights import Right
from agents.kafka.wire import ALLOW, SCRAM, AlterUserScramCredentials, Operation, Pattern, Resource, _AlterScram

Tell = Callable[[str, str], None]
_NOT_THERE = {0, 91}  # RESOURCE_NOT_FOUND
_NO_AUTHORIZER = 54  # SECURITY_DISABLED


class _Forget(AlterUserScramCredentials):
    """Take the user's credential of one mechanism away."""

    def __init__(self, user: str, mechanism: int) -> None:
        super().__init__([])
        self._deletions: list[tuple[Any, ...]] = [(user, mechanism, {})]

    def build(self, request_struct_class: type[_AlterScram]) -> _AlterScram:
        return request_struct_class(self._deletions, [], {})


class Removal(Accounts):
    """As Accounts, the other way round: `start`, then use; doing it twice does no harm."""

    async def user(self, user: str, tell: Tell) -> None:
        """It can log in no more; connections that it has live on. Raises KafkaError, KafkaUnavailable."""
        number, _ = SCRAM[self._kafka.sasl_mechanism]
        response = await self._ask("take Kafka's account away", _Forget(user, number))
        for _, code, message, _ in response.results:
            if code not in _NOT_THERE:
                raise self._refused(f"Kafka's account {user} cannot be taken away", code, message)
        tell("gone", f"Kafka's account {user}")

    async def taken(self, rights: Sequence[Right], tell: Tell) -> None:
        """They have these no more. Raises KafkaError, KafkaUnavailable."""
        for right in rights:
            kind, pattern, operation = Resource(right.resource), Pattern(right.pattern), Operation(right.operation)
            request = DeleteAclsRequest(
                int(kind), right.name, int(pattern), f"User:{right.user}", "*", int(operation), ALLOW
            )
            response = await self._ask("take rights away", request)
            for code, message, _ in response.filter_responses:
                if code == _NO_AUTHORIZER:
                    return
                if code:
                    raise self._refused(f"{right} cannot be taken from {right.user}", code, message)
        await _until(lambda: self._none_of(rights), "rights were taken away, and are seen")
        for user in dict.fromkeys(right.user for right in rights):
            tell("gone", f"{sum(r.user == user for r in rights)} rights of {user}")

    async def _none_of(self, rights: Sequence[Right]) -> bool:
        return not any([await self._have([right]) for right in rights])
