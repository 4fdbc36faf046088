"""A worker goes by what is tuned, refuses what is no value, and never goes back to something older."""

from __future__ import annotations

from agents.core.feeds import Tuning
from agents.settings import Settings
from agents.worker.tuned import Tuned


def test_the_newest_holds_and_what_is_left_out_is_as_the_settings_say() -> None:
    t = Tuned(Settings())
    assert t.take(Tuning(5, (("commit_gap_ms", "250"), ("ping_period_s", "4")))) == 4
    assert (t.commit_gap_ms, t.version) == (250, 5)
    t.take(Tuning(4, (("commit_gap_ms", "1"),)))
    assert (t.commit_gap_ms, t.version) == (250, 5)
    assert t.take(Tuning(6, (("batch_records", "10"),))) == 2
    assert (t.commit_gap_ms, t.batch_records, t.version) == (100, 10, 6)


def test_one_bad_value_refuses_all_and_shows_in_the_version() -> None:
    t = Tuned(Settings())
    t.take(Tuning(1, (("commit_gap_ms", "250"),)))
    t.take(Tuning(2, (("commit_gap_ms", "300"), ("batch_records", "0"))))
    assert (t.commit_gap_ms, t.batch_records, t.version) == (250, 5000, 1)
    t.take(Tuning(3, (("cooldown_s", "9"), ("unknown", "9"), ("commit_gap_ms", "300"))))
    assert (t.commit_gap_ms, t.version) == (300, 3), "what concerns others is passed over"
