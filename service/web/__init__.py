"""The page at ``/`` as it is served: ES modules, one style sheet, and at set-up the packages of its lock file.

``vendor/`` holds the files of Preact, htm and uPlot that browsers load; ``python -m tools.page`` brings them.
"""

from pathlib import Path

FOLDER = Path(__file__).parent
VENDOR = FOLDER / "vendor"
