"""The ceiling: an application that reads a body and answers with always the same one, on the ranker's own server.

`python -m bench.echo PORT BYTES`
"""

import asyncio
import socket
import sys
from typing import Literal

import uvicorn
import uvloop
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.asgi import ASGIApp, Receive, Scope, Send


def echo(num_bytes: int) -> ASGIApp:
    body = b'"' + b"x" * (num_bytes - 2) + b'"'
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]

    async def app(_: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body", False):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


def run(
    app: ASGIApp, port: int, *, has_lifespan: bool, http: Literal["httptools"] | type[HttpToolsProtocol] = "httptools"
) -> None:
    """Serves until it is killed, with the settings of `service.serve`."""
    config = uvicorn.Config(
        app,
        loop="none",
        http=http,
        ws="none",
        lifespan="on" if has_lifespan else "off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
    )
    with (
        socket.create_server(("127.0.0.1", port), backlog=2_048) as listener,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(uvicorn.Server(config).serve(sockets=[listener]))


if __name__ == "__main__":
    run(echo(int(sys.argv[2])), int(sys.argv[1]), has_lifespan=False)
