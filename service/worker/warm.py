"""What the forkserver imports once, so that a run's child starts in milliseconds. Nothing else imports it.

The forkserver is a plain process without threads: it imports and forks, and never computes. It lives in a
session of its own, for a signal to the worker's group is the worker's to handle, and dies with the worker.
"""

import contextlib
import os

from service.worker.isolation import die_with_parent

with contextlib.suppress(PermissionError):
    os.setsid()
die_with_parent()

import torch  # noqa: E402  (after the two calls above: it takes seconds)

torch.set_num_threads(1)


import maze_core.agent  # noqa: E402
import maze_core.runners.evaluation  # noqa: E402
import maze_core.runners.training  # noqa: E402, F401
import service.worker.child  # noqa: E402
import service.worker.jobs  # noqa: E402, F401
