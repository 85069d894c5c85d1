"""``python -m service.cli`` is ``maze``."""

import sys

from service.cli import main

sys.exit(main())
