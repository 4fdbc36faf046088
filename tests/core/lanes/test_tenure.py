"""PROTOCOL 2.1 and 2.5 as a worker keeps them, whatever the order, the repetition and the age of
what it is told."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agents.base.errors import CommandRefused, StaleEpoch
from agents.core.lanes.tenure import Drain, End, GiveBack, Take, TakeLease, Tenure
from agents.core.model.messages import (
    AssignCommand,
    DrainCommand,
    Grant,
    LanesCommand,
    LeaseCommand,
    ReleaseCommand,
    ResumeCommand,
    WorkerAnswer,
    WorkerCommand,
)
from agents.core.model.topology import WorkerKind

B = "BOOT"
LEASE = LeaseCommand(1, B, "geolane-node-iad-1", 7, 3)


def leased() -> Tenure:
    t = Tenure(WorkerKind.NODE.topic, B)
    assert t.obey(LEASE) == [TakeLease(LEASE)]
    return t


def assign(
    *grants: tuple[int, int, int],
    leader: int = 1,
    boot: str = B,
    topic: str = WorkerKind.NODE.topic,
) -> AssignCommand:
    return AssignCommand(leader, boot, topic, tuple(Grant(*g) for g in grants))


def release(*grants: tuple[int, int], leader: int = 1) -> ReleaseCommand:
    return ReleaseCommand(
        leader, B, WorkerKind.NODE.topic, tuple(Grant(n, e, 0) for n, e in grants)
    )


def test_a_boot_takes_one_lease_and_the_same_again_is_nothing() -> None:
    t = leased()
    assert t.obey(LEASE) == []
    [end] = t.obey(LeaseCommand(1, B, LEASE.transactional_id, 7, 4))
    assert isinstance(end, End)
    with pytest.raises(CommandRefused):
        t.obey(assign((1, 1, 0)))


def test_a_fenced_boot_that_is_told_so_ends() -> None:
    for t in (Tenure(WorkerKind.NODE.topic, B), leased()):
        [end] = t.obey(LeaseCommand(1, B, "x", -1, 0))
        assert isinstance(end, End)
        assert t.ended


def test_no_assign_before_the_lease() -> None:
    with pytest.raises(CommandRefused, match="no lease"):
        Tenure(WorkerKind.NODE.topic, B).obey(assign((1, 1, 0)))


def test_another_boots_command_is_refused() -> None:
    with pytest.raises(CommandRefused, match="gone"):
        leased().obey(assign((1, 1, 0), boot="OTHER"))


def test_an_older_leader_is_refused() -> None:
    t = leased()
    t.obey(LanesCommand(5, B))
    with pytest.raises(StaleEpoch) as e:
        t.obey(assign((1, 1, 0), leader=4))
    assert e.value.seen == 5


def test_another_topic_is_refused() -> None:
    with pytest.raises(CommandRefused, match="lanes, not main"):
        leased().obey(assign((1, 1, 0), topic=WorkerKind.ROUTER.topic))


def test_take_give_back_take_again() -> None:
    t = leased()
    assert t.obey(assign((1, 3, 40))) == [Take(WorkerKind.NODE.partition(1), 3, 40)]
    assert t.obey(assign((1, 3, 40))) == []
    asked = release((1, 3))
    assert t.obey(asked) == [GiveBack(WorkerKind.NODE.partition(1), 3)]
    assert t.answer_command(asked) is None
    assert t.obey(asked) == []
    t.note_released(WorkerKind.NODE.partition(1), 55)
    assert t.answer_command(asked) == WorkerAnswer((Grant(1, 3, 55),))
    assert t.obey(asked) == []
    assert t.answer_command(asked) == WorkerAnswer((Grant(1, 3, 55),))
    with pytest.raises(StaleEpoch) as e:
        t.obey(assign((1, 3, 40)))
    assert e.value.seen == 3
    assert t.obey(assign((1, 5, 90))) == [Take(WorkerKind.NODE.partition(1), 5, 90)]


def test_a_release_of_what_is_not_owned_is_answered_and_noted() -> None:
    t = leased()
    asked = ReleaseCommand(1, B, WorkerKind.NODE.topic, (Grant(2, 7, 30),))
    assert t.obey(asked) == []
    assert t.answer_command(asked) == WorkerAnswer((Grant(2, 7, 30),))
    with pytest.raises(StaleEpoch):
        t.obey(assign((2, 7, 30)))


def test_a_partition_that_was_never_heard_of_is_not_owned() -> None:
    t = leased()
    assert t.owned_epoch(9) == 0
    assert t.answer_command(release((9, 1))) == WorkerAnswer()


def test_a_release_that_is_too_old_or_too_new_is_refused() -> None:
    t = leased()
    t.obey(assign((1, 3, 40)))
    with pytest.raises(StaleEpoch) as e:
        t.obey(release((1, 2)))
    assert e.value.seen == 3
    with pytest.raises(CommandRefused, match="epoch 4, which is not owned yet"):
        t.obey(release((1, 4)))
    assert t.obey(release((1, 2), (1, 3))) == [GiveBack(WorkerKind.NODE.partition(1), 3)]


def test_the_stale_ones_of_several_are_left_out() -> None:
    t = leased()
    t.obey(release((1, 9)))
    assert t.obey(assign((1, 9, 0), (2, 1, 0))) == [Take(WorkerKind.NODE.partition(2), 1, 0)]
    assert t.answer_command(LanesCommand(1, B)) == WorkerAnswer((Grant(2, 1, 0),))


def test_a_higher_epoch_of_what_is_owned_starts_it_anew() -> None:
    t = leased()
    t.obey(assign((1, 1, 0)))
    assert t.obey(assign((1, 2, 10))) == [Take(WorkerKind.NODE.partition(1), 2, 10)]
    with pytest.raises(StaleEpoch):
        t.obey(assign((1, 1, 0)))


def test_drain_and_resume() -> None:
    t = leased()
    assert t.obey(DrainCommand(1, B)) == [Drain(True)]
    assert t.obey(DrainCommand(1, B)) == []
    assert t.obey(ResumeCommand(1, B)) == [Drain(False)]


grants = st.lists(
    st.tuples(st.integers(0, 2), st.integers(1, 6), st.integers(0, 50)),
    min_size=1,
    max_size=3,
    unique_by=lambda g: g[0],
)
boots = st.sampled_from([B, B, B, B, "OTHER"])
commands: st.SearchStrategy[WorkerCommand] = st.one_of(
    st.builds(assign, leader=st.integers(1, 3), boot=boots).flatmap(
        lambda c: grants.map(
            lambda g: AssignCommand(
                c.leader_epoch, c.boot, WorkerKind.NODE.topic, tuple(Grant(*x) for x in g)
            )
        )
    ),
    st.tuples(st.integers(1, 3), boots, grants).map(
        lambda c: ReleaseCommand(c[0], c[1], WorkerKind.NODE.topic, tuple(Grant(*x) for x in c[2]))
    ),
    st.builds(
        LeaseCommand,
        st.integers(1, 3),
        boots,
        st.just(LEASE.transactional_id),
        st.just(7),
        st.sampled_from([3, 3, 3, 4]),
    ),
)


class AnyOrder(RuleBasedStateMachine):
    """Commands of any age, in any order, repeated; releases that finish at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.t = Tenure(WorkerKind.NODE.topic, B)
        self.gone: dict[int, int] = {}  # partition -> highest epoch that was released
        self.taken: dict[int, list[int]] = {}
        self.leader = 0
        self.leases = 0

    @rule(command=commands)
    def told(self, command: WorkerCommand) -> None:
        before = dict(self.t.owned_epochs())
        try:
            effects = self.t.obey(command)
        except (StaleEpoch, CommandRefused):
            assert dict(self.t.owned_epochs()) == before, "a refusal changes nothing"
            return
        assert command.boot == B
        assert command.leader_epoch >= self.leader
        self.leader = command.leader_epoch
        for effect in effects:
            if isinstance(effect, Take):
                n = effect.partition.n
                assert effect.epoch > self.gone.get(n, 0), "no epoch comes back after its release"
                assert effect.epoch > max(self.taken.get(n, [0])), (
                    "no epoch is taken twice, or after a higher one"
                )
                assert self.leases == 1, "no work without the lease"
                self.taken.setdefault(n, []).append(effect.epoch)
            elif isinstance(effect, TakeLease):
                self.leases += 1
            elif isinstance(effect, GiveBack):
                assert self.t.owned_epoch(effect.partition.n) == effect.epoch
        if isinstance(command, ReleaseCommand):
            for grant in command.lanes:
                if not self.t.owned_epoch(grant.n):
                    self.gone[grant.n] = max(self.gone.get(grant.n, 0), grant.epoch)
        assert self.t.obey(command) == [] or self.t.ended, "the same again is a no-op"

    @precondition(lambda self: any(self.t.is_asked_back(n) for n in range(3)))
    @rule(offset=st.integers(0, 99))
    def release_finishes(self, offset: int) -> None:
        n = next(n for n in range(3) if self.t.is_asked_back(n))
        epoch = self.t.owned_epoch(n)
        self.t.note_released(WorkerKind.NODE.partition(n), offset)
        self.gone[n] = max(self.gone.get(n, 0), epoch)
        assert self.t.released_offset(n, epoch) == offset

    @invariant()
    def one_lease(self) -> None:
        assert self.leases <= 1

    @invariant()
    def what_is_owned_is_above_what_was_released(self) -> None:
        for n, epoch in self.t.owned_epochs():
            assert epoch > self.gone.get(n, 0)


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)


PICKS = st.lists(st.integers(0, 5), max_size=25)


@given(PICKS, PICKS)
def test_once_all_is_released_nothing_that_arrives_late_brings_it_back(
    before: list[int], after: list[int]
) -> None:
    """assign 1, release 1, assign 2, ... in any order, with losses and copies; then each release;
    then anything again."""
    story: list[WorkerCommand] = []
    for epoch in (1, 2, 3):
        story += [assign((0, epoch, epoch * 10)), release((0, epoch))]
    t = leased()
    for pick in [*before, 1, 3, 5, *after]:
        with suppress(StaleEpoch, CommandRefused):
            for effect in t.obey(story[pick]):
                if isinstance(effect, GiveBack):
                    t.note_released(effect.partition, 99)
    assert t.owned_epoch(0) == 0
