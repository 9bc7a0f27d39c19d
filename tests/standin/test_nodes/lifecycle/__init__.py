"""Registers an official lifecycle handler and reports its events at GET /lifecycle."""
from __future__ import annotations

from typing import Any

from aiohttp import web
from comfy_api.latest import ComfyExtension, ExecutionLifecycle

import server

events: list[list[Any]] = []


class Handler(ExecutionLifecycle.Handler):
    def on_queued(self, event: Any) -> None:
        events.append(["queued", event.prompt_id])

    def on_started(self, event: Any) -> None:
        events.append(["started", event.prompt_id])

    def on_succeeded(self, event: Any) -> None:
        events.append(["succeeded", event.prompt_id])

    def on_failed(self, event: Any) -> None:
        events.append(["failed", event.prompt_id])

    def on_interrupted(self, event: Any) -> None:
        events.append(["interrupted", event.prompt_id])


class Extension(ComfyExtension):
    async def on_load(self) -> None:
        await ExecutionLifecycle().register(Handler())


async def comfy_entrypoint() -> ComfyExtension:
    return Extension()


@server.PromptServer.instance.routes.get("/lifecycle")
async def lifecycle(request: web.Request) -> web.Response:
    return web.json_response(events)
