"""Where lanes go: `placing` asks, `planner` places, `calm` restrains, `fit` keeps to capacity,
`explain` says why in ms."""

from __future__ import annotations
