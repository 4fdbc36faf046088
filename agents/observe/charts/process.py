"""Draws one picture at a time, each in a process of its own: matplotlib takes a second of work and
100 MB, which the coordinator is spared."""

from __future__ import annotations

import asyncio
import os
import sys

import msgspec

from agents.base.errors import PictureError
from agents.core.model.charts import Map, Picture

DRAW_S = 20.0
PNG = b"\x89PNG\r\n\x1a\n"


class Drawing:
    """Draws pictures, one after the other."""

    def __init__(self) -> None:
        self._one = asyncio.Lock()

    async def draw_png(self, picture: Picture) -> bytes:
        """The picture as a PNG of 1080 x 720 dots. Raises PictureError."""
        kind = "map" if isinstance(picture, Map) else "plot"
        async with self._one:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "agents.observe.charts.draw", kind),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env={
                    **os.environ,
                    "MPLBACKEND": "Agg",
                    "OMP_NUM_THREADS": "1",
                    "OPENBLAS_NUM_THREADS": "1",
                },
            )
            try:
                async with asyncio.timeout(DRAW_S):
                    out, errors = await process.communicate(msgspec.json.encode(picture))
            except TimeoutError:
                raise PictureError(f"the picture was not drawn within {DRAW_S:.0f} s") from None
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
        if process.returncode or not out.startswith(PNG):
            last = errors.decode(errors="replace").strip().splitlines()[-1:] or ["it says nothing"]
            raise PictureError(f"the picture could not be drawn: {last[0][:200]}")
        return out
