"""Remembers what comfymon will replace, and tells at GET /originals what is not itself (any more)."""

from __future__ import annotations

import sys
from typing import Any, Dict, List, Tuple

from aiohttp import web

import server

NODE_CLASS_MAPPINGS: dict = {}
probe = sys.modules["_comfymon"]
NOTHING = object()


def look(module: str, path: str) -> Any:
    """What lies in the owner itself, as it lies there."""
    *owners, name = path.split(".")
    owner: Any = sys.modules.get(module)
    for part in owners:
        owner = getattr(owner, part, None)
    return getattr(owner, "__dict__", {}).get(name, NOTHING)


def rows() -> List[Tuple[str, str]]:
    return [(row["module"], row["attr"]) for row in probe.hooks()]


before: Dict[Tuple[str, str], Any] = {row: look(*row) for row in rows()}


@server.PromptServer.instance.routes.get("/originals")
async def originals(request: web.Request) -> web.Response:
    """?detach=1 takes the hooks off first, ?attach=1 puts them on."""
    for word in request.query:
        getattr(probe, word)()
    return web.json_response({
        "replaced": [":".join(row) for row in before if look(*row) is not before[row]],
        "attached": [":".join((row["module"], row["attr"])) for row in probe.hooks() if row["state"] == "attached"],
        "failures": {":".join((row["module"], row["attr"])): row["failures"] for row in probe.hooks() if row["failures"]}})
