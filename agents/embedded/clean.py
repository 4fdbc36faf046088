"""`make clean`: ends what a killed run left, and removes the run folder."""

from __future__ import annotations

import shutil
import sys

from agents.embedded.folder import RunFolder, default_folder
from agents.embedded.servers import end_leftovers
from agents.errors import GeolaneError


def main() -> None:
    """Raises SystemExit with one line while a run has the folder."""
    path = default_folder()
    if not path.exists():
        return
    try:
        with RunFolder(path) as folder:
            end_leftovers(folder)
            shutil.rmtree(path)
    except GeolaneError as e:
        sys.exit(f"geolane: {e}")
    print(f"removed {path}")


if __name__ == "__main__":
    main()
