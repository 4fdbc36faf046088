"""A replay that was interrupted goes on with the first event that was not appended."""

from __future__ import annotations

from agents.local.demo.replay import count_prefix


def test_only_events_of_the_share_count_in_their_order() -> None:
    share = [(b"1", b"a"), (b"2", b"b"), (None, b"c")]
    assert count_prefix(share, []) == 0
    assert count_prefix(share, [(b"0", b"x"), *share[:2], (b"9", b"from geo")]) == 2
    assert count_prefix(share, [share[0], (b"9", b"from geo"), *share[1:]]) == 3
    assert count_prefix(share, [share[1], share[2]]) == 0
    assert count_prefix([], share) == 0
