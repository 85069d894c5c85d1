"""``python -m service.cli`` is ``maze``."""

import sys

from service.cli import main

if __name__ == "__main__":
    sys.exit(main())
