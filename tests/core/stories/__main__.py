"""`python -m tests.core.stories`: write the output of every story again."""

from __future__ import annotations

from tests.core.stories.script import STORIES, retold

for story in STORIES:
    story.write_text(retold(story.read_text("utf-8")), "utf-8")
