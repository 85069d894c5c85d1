"""``python -m maze_core.cli`` is ``maze-run``."""

import sys

from maze_core.cli import main

if __name__ == "__main__":
    sys.exit(main())
