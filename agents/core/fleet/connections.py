"""Our own connections to XMPP and Kafka, and our lead. While one is away, a worker's silence proves
nothing (PROTOCOL 2.10)."""

from __future__ import annotations

from dataclasses import dataclass

from agents.core.events import (
    KafkaDown,
    KafkaUp,
    Led,
    LinkDown,
    LinkUp,
    NotLeading,
    WriteRefused,
    WriteTaken,
)
from agents.core.fleet.fleet import Fleet
from agents.core.fleet.incidents import News
from agents.core.fleet.liveness import Liveness
from agents.core.fleet.membership import Membership

ConnectionEvent = (
    KafkaDown | KafkaUp | WriteRefused | WriteTaken | LinkUp | LinkDown | NotLeading | Led
)


@dataclass(slots=True)
class Connections:
    """`led`: whether this leader has held the leader's address before."""

    fleet: Fleet
    liveness: Liveness
    news: News
    membership: Membership
    led: bool = False

    def handle_change(self, event: ConnectionEvent, now: float) -> None:
        """Note what we can reach. Whenever something is back, silence counts for nothing for a
        while (`begin_grace_period`)."""
        match event:
            case KafkaDown():
                if self.liveness.kafka_up:
                    self.news.report_kafka_down(now)
                self.liveness.kafka_up = False
            case KafkaUp():
                if not self.liveness.kafka_up:
                    self.liveness.begin_grace_period(now)
                    self.news.report_kafka_up(now)
                self.liveness.kafka_up = True
            case WriteRefused(why):
                self.liveness.writes_taken = False
                self.news.report_write_refused(why, now)
            case WriteTaken():
                self.liveness.writes_taken = True
                self.liveness.begin_grace_period(now)
                self.news.report_write_taken(now)
            case LinkDown() | NotLeading():
                if self.liveness.link_up:
                    self.news.report_link_down(now)
                self.liveness.link_up = False
                self.fleet.note_link_lost()
                self.membership.note_link_lost()
            case Led():
                self.liveness.link_up = True
                self.liveness.begin_grace_period(now)
                self.news.report_link_up(now)
                if not self.led and self.fleet.leader_epoch > 1:
                    self.news.add_line(
                        f"I lead now (leader epoch {self.fleet.leader_epoch}). The workers keep "
                        "what they have."
                    )
                self.led = True
