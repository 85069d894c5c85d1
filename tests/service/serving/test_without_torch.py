"""The process that serves a dense agent never imports torch."""

import subprocess
import sys

CODE = """
import asyncio, sys
from types import SimpleNamespace
from service.serving.hot_route import ActionRoute
from tests.service.serving.asgi_client import Client
from tests.service.serving.checkpoints import make_checkpoint
from tests.service.serving.memory_stores import MemoryStores

stores = MemoryStores()
stores.add("r", "c", make_checkpoint().to_bytes())
with asyncio.Runner() as runner:
    client = Client(ActionRoute(stores, SimpleNamespace(agents_cached=1, max_body_bytes=1000)), runner)
    answer = client.post("r", {"observation": [0, 0, 0, 0]})
assert answer.status == 200, answer
print("torch" in sys.modules)
"""


def test_torch_stays_out_of_a_process_that_served_a_dense_agent() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("False\n", 0), done.stderr
