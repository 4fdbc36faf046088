"""Runs a story: a text file of commands for tests/core/world.py, each followed by what the core
then wants done. The language is listed in README.md beside the stories."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from agents.core import effects as fx
from agents.core.events import AffiliationsRead, QuestionAsked
from agents.core.model import messages as msg
from agents.core.model.placement import Placed, State
from agents.core.model.topology import Partition
from tests.core.world import World

HERE = Path(__file__).parent
STORIES = sorted(HERE.glob("*.txt"))
PROMPT = "> "
INDENT = "    "
ANA = "ana@example.org"


@dataclass
class StoryWorld(World):
    """A world that writes down each effect."""

    told: list[str] = field(default_factory=list)
    asked: int = 0

    def _perform(self, effect: fx.Effect) -> None:
        self.told += [f"{INDENT}{line}" for line in lines_of(effect)]
        super()._perform(effect)


def retold(story: str) -> str:
    """The story with its comments and commands as they are, and the output as it is now."""
    world: StoryWorld | None = None
    lines: list[str] = []
    for line in story.splitlines():
        if line.startswith(INDENT):
            continue
        lines.append(line)
        if line.startswith(PROMPT):
            command, *words = line.removeprefix(PROMPT).split()
            if command == "fleet":
                nodes, lanes = (int(word.partition("=")[2]) for word in words)
                world = StoryWorld(nodes, lanes)
                world.tell(AffiliationsRead({ANA: "admin"}))
                world.told.clear()
                continue
            assert world is not None, "a story begins with `fleet nodes=N lanes=N`"
            world.told.clear()
            COMMANDS[command](world, words)
            lines += world.told
    return "\n".join(lines) + "\n"


# What an effect looks like


def lines_of(effect: fx.Effect) -> Iterable[str]:
    match effect:
        case fx.MakeLease(worker, boot):
            yield f"to Kafka: fence {worker}" + (f", lease for boot {boot}" if boot else "")
        case fx.Write():
            yield from (f"to Kafka: write {part}" for part in _written(effect))
        case fx.ReadRelease(worker):
            yield f"to Kafka: read the offsets that {worker} has released"
        case fx.ReadOffsets(partitions):
            yield f"to Kafka: read the offsets of {_labels(partitions)}"
        case fx.Send(worker, command):
            yield f"to {worker}: {_command(command)}"
        case fx.Ping(worker):
            yield f"to {worker}: ping"
        case fx.Say(text) | fx.Whisper(_, text):
            yield from (f"to people: {line}" for line in text.splitlines())
        case _:
            pass  # feeds, journal, plans


def _written(write: fx.Write) -> Iterable[str]:
    for partition, placed in write.partitions.items():
        yield f"{partition.label} {_placed(placed)}"
    for worker, lease in write.leases.items():
        yield f"lease of {worker}: boot {lease.boot}" + (", fenced" if lease.fenced else "")
    for name, intent in write.intents.items():
        yield f"intent {name}" + ("" if intent else " is deleted")
    if write.offsets:
        yield f"committed offsets of {_labels(write.offsets)}"


def _placed(placed: Placed) -> str:
    whose = f" {placed.worker}, boot {placed.boot}" if placed.worker else ""
    return f"{placed.state}{whose}, epoch {placed.epoch}, offset {placed.offset}"


def _labels(partitions: Iterable[Partition]) -> str:
    return ", ".join(partition.label for partition in sorted(partitions))


def _command(command: msg.WorkerCommand) -> str:
    match command:
        case msg.LeaseCommand(boot=boot, producer_id=producer) if producer < 0:
            return f"lease: boot {boot} is fenced"
        case msg.LeaseCommand(boot=boot, producer_epoch=epoch):
            return f"lease for boot {boot}, producer epoch {epoch}"
        case msg.AssignCommand(topic=topic, lanes=grants):
            given = (f"{Partition(topic, g.n).label} (epoch {g.epoch})" for g in grants)
            return f"assign {', '.join(given)}"
        case msg.ReleaseCommand(topic=topic, lanes=grants):
            asked = (f"{Partition(topic, g.n).label} (epoch {g.epoch})" for g in grants)
            return f"release {', '.join(asked)}"
        case _:
            return type(command).__name__.removesuffix("Command").lower()


# The commands


def _deliver(world: StoryWorld, words: list[str]) -> None:
    if words:
        [worker] = words
        world.deliver(next(i for i, send in enumerate(world.sends) if send.worker == worker))
    else:
        while world.sends:
            world.deliver(0)


def _lose(world: StoryWorld, words: list[str]) -> None:
    [worker] = words
    world.lose(next(i for i, send in enumerate(world.sends) if send.worker == worker))


def _kafka(world: StoryWorld, words: list[str]) -> None:
    if words:
        for _ in range(int(words[0])):
            world.kafka_step()
    else:
        world.kafka_steps()


def _commit(world: StoryWorld, words: list[str]) -> None:
    worker, count = words
    world.commit(worker, int(count))
    if worker not in world.procs:
        world.told.insert(0, f"{INDENT}Kafka refuses the commit, and {worker} ends")


def _frozen(frozen: bool) -> Callable[[StoryWorld, list[str]], None]:
    def command(world: StoryWorld, words: list[str]) -> None:
        for worker in words:
            world.procs[worker].frozen = frozen

    return command


def _say(world: StoryWorld, words: list[str]) -> None:
    world.asked += 1
    n, text = world.asked, " ".join(words)
    world.tell(QuestionAsked(ANA, "ana", text, True, f"s{n}", None, f"m{n}"))


def _settle(world: StoryWorld, words: list[str]) -> None:
    world.fair(int(words[0]), revive=False)
    world.told.clear()


def _owners(world: StoryWorld, _: list[str]) -> None:
    for partition, placed in sorted(world.partitions.items()):
        committed = world.committed.get(partition, 0)
        works = "" if _works(world, partition, placed) else ", nobody works it"
        world.told.append(
            f"{INDENT}{partition.label}: {_placed(placed)}; committed {committed}{works}"
        )


def _works(world: World, partition: Partition, placed: Placed) -> bool:
    process = world.procs.get(placed.worker)
    return (
        placed.state is State.ASSIGNED
        and process is not None
        and not process.frozen
        and partition in process.position
    )


def _each(act: Callable[[StoryWorld, str], object]) -> Callable[[StoryWorld, list[str]], None]:
    def command(world: StoryWorld, words: list[str]) -> None:
        for word in words:
            act(world, word)

    return command


COMMANDS: dict[str, Callable[[StoryWorld, list[str]], None]] = {
    "start": _each(lambda world, worker: world.start(worker)),
    "crash": _each(lambda world, worker: world.crash(worker)),
    "freeze": _frozen(True),
    "thaw": _frozen(False),
    "commit": _commit,
    "kafka": _kafka,
    "deliver": _deliver,
    "lose": _lose,
    "pass": _each(lambda world, seconds: world.pass_s(float(seconds))),
    "leader": lambda world, _: world.lead(),
    "say": _say,
    "settle": _settle,
    "owners": _owners,
}
