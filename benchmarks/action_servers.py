"""The servers that ``serve_actions`` compares, each in a process of its own on the same uvicorn settings.

``python -m benchmarks.action_servers bare PORT`` reads the body and answers constant bytes: the least that any
ASGI application under uvicorn costs. ``python -m benchmarks.action_servers service PORT`` is the real service as
``maze api`` runs it, security layer and all, on the database that ``MAZE_DATABASE_URL`` names, without tokens;
``guarded`` in its place is the same with tokens and a rate limit that nobody meets.
"""

import sys

import uvicorn
from starlette.types import Receive, Scope, Send

from service.fast_path import protocol_of
from service.http_server import serve_api
from service.main import create_app
from service.process import bind
from service.settings import Settings

HOST = "127.0.0.1"
_BODY = b'{"action":1,"checkpoint":"ckpt_00000000000000000000000000"}'
_HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(_BODY))]


async def bare_app(scope: Scope, receive: Receive, send: Send) -> None:
    """Read the body, answer constant bytes."""
    while (await receive()).get("more_body", False):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
    await send({"type": "http.response.body", "body": _BODY})


def main() -> None:
    """Serve one of them until the process is stopped."""
    kind, port = sys.argv[1], int(sys.argv[2])
    listener = bind(HOST, port)
    if kind != "bare":
        guarded = kind == "guarded"
        settings = Settings(auth=guarded, rate_limit_per_s=1e6 if guarded else 0, log_level="warning")
        application = create_app(settings)
        sys.exit(serve_api(application, protocol_of(application, settings), listener))
    config = uvicorn.Config(bare_app, log_config=None, access_log=False, lifespan="off", server_header=False)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
