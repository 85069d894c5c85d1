"""The two servers that ``serve_actions`` compares, each in a process of its own on the same uvicorn settings.

``python -m benchmarks.action_servers bare PORT`` reads the body and answers constant bytes: the least that any
ASGI application under uvicorn costs. ``python -m benchmarks.action_servers service PORT`` is the real service,
security layer and all, on the database that ``MAZE_DATABASE_URL`` names.
"""

import sys

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

_BODY = b'{"action":1,"checkpoint":"ckpt_00000000000000000000000000"}'
_HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(_BODY))]


async def bare_app(scope: Scope, receive: Receive, send: Send) -> None:
    """Read the body, answer constant bytes."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body", False):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
    await send({"type": "http.response.body", "body": _BODY})


def service_app() -> ASGIApp:
    """The service as ``maze api`` runs it, without tokens on loopback."""
    from service.main import create_app
    from service.settings import Settings

    return create_app(Settings(auth=False, log_level="warning"))


def main() -> None:
    """Serve one of the two until the process is stopped."""
    kind, port = sys.argv[1], int(sys.argv[2])
    app: ASGIApp = bare_app if kind == "bare" else service_app()
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=port,
        loop="uvloop",
        http="httptools",
        lifespan="off" if kind == "bare" else "on",
        access_log=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main()
