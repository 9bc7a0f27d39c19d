"""Tells at GET /where which span was current when a prompt was queued."""

from __future__ import annotations

import sys
from typing import Any, List

from aiohttp import web

import execution
import server

NODE_CLASS_MAPPINGS: dict = {}
seen: List[Any] = []


def put(original: Any) -> Any:
    def noting(*args: Any, **kwargs: Any) -> Any:
        seen.append([str(number) for number in sys.modules["_comfymon"].current_ids() or ()])
        return original(*args, **kwargs)
    return noting


execution.PromptQueue.put = put(execution.PromptQueue.put)


@server.PromptServer.instance.routes.get("/where")
async def where(request: web.Request) -> web.Response:
    return web.json_response(seen)
