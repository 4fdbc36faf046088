"""Every story happens as its file says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.core.stories.script import COMMANDS, HERE, STORIES, retold


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.stem)
def test_a_story_happens_as_it_is_told(story: Path) -> None:
    told = story.read_text("utf-8")
    assert retold(told) == told


def test_every_command_is_in_the_readme_and_in_a_story() -> None:
    readme = (HERE / "README.md").read_text("utf-8")
    told = "\n".join(story.read_text("utf-8") for story in STORIES)
    assert len(STORIES) >= 7
    for command in COMMANDS:
        assert f"`{command}" in readme
        assert f"> {command}" in told or f"> {command}\n" in told
