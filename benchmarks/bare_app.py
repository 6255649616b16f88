"""The server that our gateway runs on, with an app that answers at once: `python -m benchmarks.bare_app PORT`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import uvicorn
from pydantic_core import from_json, to_json
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

if TYPE_CHECKING:
    from starlette.requests import Request


async def call(request: Request) -> Response:
    """Read the arguments, and give them back."""
    args = from_json(await request.body())["args"]
    return Response(to_json({"status": "ok", "result": args}), media_type="application/json")


if __name__ == "__main__":
    uvicorn.run(
        Starlette(routes=[Route("/v1/tools/{tool}/calls", call, methods=["POST"])]),
        port=int(sys.argv[1]),
        http="h11",
        loop="uvloop",
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
    )
