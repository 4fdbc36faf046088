"""The cases as data: what happens to one request of a worker's transaction, and where in a later
one a copy of it still arrives. 6 requests x 4 faults x 6 places = 144; in a third of them the
worker is also killed or fenced."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from tests.fixtures.request_proxy import Api, Do, Point

PLACES: dict[str, Point] = {
    "before Produce": Point(Api.PRODUCE),
    "between two Produce": Point(Api.PRODUCE, 2),
    "before the offsets": Point(Api.ADD_OFFSETS),
    "between the offsets' two": Point(Api.TXN_OFFSET_COMMIT),
    "before EndTxn": Point(Api.END_TXN),
    "after EndTxn": Point(Api.END_TXN, after=True),
}
"""Where in the next transaction the late copy arrives: before the request of that kind. "Before the
offsets" is before AddOffsetsToTxn, "between the offsets' two" is before TxnOffsetCommit. Those are
sent beside AddPartitionsToTxn and Produce, which the copy may come before or after."""

Loss = Literal["", "killed", "fenced"]
Moment = Literal["when it is taken", "when it is late"]

MAX_EPOCH = 32_766
"""The last epoch under which a producer id may be used; the next fence, or commit by EndTxn 5, gets
another id."""


@dataclass(frozen=True, slots=True)
class Case:
    """`warm`: transactions before the one with the fault. `loss`, `moment`: what also becomes of
    the worker, and when. `pause_s`: from the late copy's answer to the next request, so that
    markers are written, or are not, by then. `epoch`: which one its first lease is to have been
    made after, 0 for a new transactional id."""

    n: int
    request: Api
    do: Do
    place: str
    loss: Loss
    moment: Moment
    warm: int
    pause_s: float
    epoch: int

    def is_replayed(self, transactions: int) -> bool:
        """Whether a copy of an *answered* request comes under an epoch that is still good, as it is
        under `transaction.version` 0, and is one that changes a transaction. Nothing tells it from
        a new one, and no client sends it: that takes somebody who plays the bytes of a connection
        again, whom TLS keeps out."""
        return (
            transactions < 2
            and self.do is Do.TWICE
            and self.request in (Api.END_TXN, Api.TXN_OFFSET_COMMIT)
        )

    @property
    def words(self) -> str:
        also = f", {self.loss} {self.moment}" if self.loss else ""
        since = f", from epoch {self.epoch}" if self.epoch else ""
        return (
            f"{self.request.words} {self.do.value}, late {self.place}{also}, after "
            f"{self.warm}{since}"
        )


def cases(seed: int, *, first_epoch: int = 0) -> list[Case]:
    """All 144; the same for the same seed. `first_epoch`: leases begin between that epoch and the
    last one, so that the producer id changes within a case."""
    return list(_cases(random.Random(seed), first_epoch))


def _cases(rng: random.Random, first_epoch: int) -> Iterator[Case]:
    n = 0
    for request in Api:
        for do in Do:
            killed, fenced = rng.sample(list(PLACES), 2)
            for place in PLACES:
                loss: Loss = "killed" if place == killed else "fenced" if place == fenced else ""
                moment: Moment = rng.choice(("when it is taken", "when it is late"))
                epoch = rng.randint(first_epoch, MAX_EPOCH) if first_epoch else 0
                warm, pause_s = rng.randint(1, 3), rng.choice((0.0, 0.1))
                yield Case(n, request, do, place, loss, moment, warm, pause_s, epoch)
                n += 1
