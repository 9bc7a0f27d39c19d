"""HTTP and websocket side: one aiohttp application on the main thread's loop.

send_sync may be called from any thread. custom nodes may append middlewares and routes
until add_routes() has run; every route exists plain and under /api.
"""
from __future__ import annotations

import asyncio
import json
import logging
import os
import ssl
import struct
import sys
import traceback
import uuid
from typing import Any, Callable, Optional

import aiohttp
from aiohttp import web

import comfy.model_management
import execution
import nodes
import standin_profile
import torch
from comfy.cli_args import args
from comfyui_version import __version__
from standin_profile import CONTEXT, PROFILE, check_context

MAX_BODY_BYTES = 100 << 20


@web.middleware
async def cache_control(request: web.Request, handler: Callable[..., Any]) -> Any:
    response = await handler(request)
    if request.path.endswith((".js", ".css")):
        response.headers.setdefault("Cache-Control", "no-cache")
    return response


@web.middleware
async def origin_only_middleware(request: web.Request, handler: Callable[..., Any]) -> Any:
    """Browsers of another site may not post; clients without an Origin may."""
    origin, host = request.headers.get("Origin"), request.headers.get("Host")
    if origin and host and origin.split("//", 1)[-1].split(":")[0] != host.split(":")[0]:
        return web.Response(status=403)
    return await handler(request)


class PromptServer:
    instance: "PromptServer"

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        PromptServer.instance = self
        self.loop = loop
        self.messages: asyncio.Queue[Any] = asyncio.Queue() if sys.version_info >= (3, 10) \
            else asyncio.Queue(loop=loop)
        self.number = 0
        self.port: Optional[int] = None
        self.client_id: Optional[str] = None
        self.last_node_id: Optional[str] = None
        self.last_prompt_id: Optional[str] = None
        self.sockets: dict[str, web.WebSocketResponse] = {}
        self.sockets_metadata: dict[str, Any] = {}
        self.on_prompt_handlers: list[Callable[[Any], Any]] = []
        self.prompt_queue: Any = None
        if PROFILE.style == "async":
            self.prompt_queue = execution.PromptQueue(self)
        self.app = web.Application(client_max_size=MAX_BODY_BYTES,
                                   middlewares=[cache_control, origin_only_middleware])
        self.routes = web.RouteTableDef()
        self._declare_routes()

    # ---- messages ----

    def send_sync(self, event: Any, data: Any, sid: Optional[str] = None) -> None:
        self.loop.call_soon_threadsafe(self.messages.put_nowait, (event, data, sid))

    def queue_updated(self) -> None:
        self.send_sync("status", {"status": self.get_queue_info()}, **CONTEXT)

    def get_queue_info(self) -> dict[str, Any]:
        return {"exec_info": {"queue_remaining": self.prompt_queue.get_tasks_remaining()}}

    async def publish_loop(self) -> None:
        while True:
            event, data, sid = await self.messages.get()
            await self.send(event, data, sid)

    async def send(self, event: Any, data: Any, sid: Optional[str] = None) -> None:
        if isinstance(event, int) or isinstance(data, (bytes, bytearray)):
            number = event if isinstance(event, int) else 1
            message: Any = struct.pack(">I", number) + bytes(data)
        else:
            message = json.dumps({"type": event, "data": data})
        for name, socket in list(self.sockets.items()):
            if sid is not None and name != sid:
                continue
            try:
                if isinstance(message, str):
                    await socket.send_str(message)
                else:
                    await socket.send_bytes(message)
            except (aiohttp.ClientError, ConnectionError, RuntimeError) as error:
                logging.warning("send error: %s", error)

    # ---- prompts ----

    def add_on_prompt_handler(self, handler: Callable[[Any], Any]) -> None:
        self.on_prompt_handlers.append(handler)

    def trigger_on_prompt(self, json_data: Any) -> Any:
        for handler in self.on_prompt_handlers:
            try:
                json_data = handler(json_data)
            except Exception:
                logging.warning("An error occurred in an on_prompt handler\n%s",
                                traceback.format_exc())
        return json_data

    async def _post_prompt(self, request: web.Request) -> web.Response:
        logging.info("got prompt")
        json_data = self.trigger_on_prompt(await request.json())
        number = float(json_data["number"]) if "number" in json_data else self.number
        if "number" not in json_data:
            if json_data.get("front"):
                number = -number
            self.number += 1
        if "prompt" not in json_data:
            return web.json_response({"error": {
                "type": "no_prompt", "message": "No prompt provided", "details": "",
                "extra_info": {}}, "node_errors": {}}, status=400)
        prompt = json_data["prompt"]
        prompt_id = str(json_data.get("prompt_id", uuid.uuid4()))
        if PROFILE.uuid_ids and not _is_uuid(prompt_id):
            return web.json_response({"error": {
                "type": "invalid_prompt_id", "message": "prompt_id must be a UUID", "details": "",
                "extra_info": {}}, "node_errors": {}}, status=400)
        valid, error, outputs, node_errors = await self._validate(
            prompt_id, prompt, json_data.get("partial_execution_targets"))
        if not valid:
            logging.warning("invalid prompt: %s", error)
            return web.json_response({"error": error, "node_errors": node_errors}, status=400)
        extra_data = json_data.get("extra_data", {})
        if "client_id" in json_data:
            extra_data["client_id"] = json_data["client_id"]
        self.prompt_queue.put(self._queue_item(number, prompt_id, prompt, extra_data, outputs),
                              **CONTEXT)
        return web.json_response({"prompt_id": prompt_id, "number": number,
                                  "node_errors": node_errors})

    async def _validate(self, prompt_id: str, prompt: Any, targets: Any) -> Any:
        validate = execution.current("validate_prompt")
        if PROFILE.validate_args == 1:
            return validate(prompt)
        if PROFILE.validate_args == 2:
            return await validate(prompt_id, prompt)
        return await validate(prompt_id, prompt, targets, **CONTEXT)

    def _queue_item(self, number: float, prompt_id: str, prompt: Any, extra_data: dict[str, Any],
                    outputs: list[str]) -> tuple[Any, ...]:
        item = (number, prompt_id, prompt, extra_data, outputs)
        if not PROFILE.six_tuple:
            return item
        secrets = {name: extra_data.pop(name)
                   for name in ("auth_token_comfy_org", "api_key_comfy_org") if name in extra_data}
        return (*item, secrets)

    # ---- websocket ----

    async def _websocket(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        sid = request.rel_url.query.get("clientId", "") or uuid.uuid4().hex
        self.sockets.pop(sid, None)
        self.sockets[sid] = socket
        self.sockets_metadata[sid] = {"feature_flags": {}}
        try:
            await self.send("status", {"status": self.get_queue_info(), "sid": sid}, sid)
            if self.client_id == sid and self.last_node_id is not None:
                await self.send("executing", {"node": self.last_node_id}, sid)
            async for message in socket:
                if message.type == aiohttp.WSMsgType.ERROR:
                    logging.warning("websocket closed: %s", socket.exception())
                elif message.type == aiohttp.WSMsgType.TEXT:
                    await self._client_said(message.data, sid)
        finally:
            self.sockets.pop(sid, None)
            self.sockets_metadata.pop(sid, None)
        return socket

    async def _client_said(self, text: str, sid: str) -> None:
        try:
            said = json.loads(text)
        except ValueError:
            return
        if isinstance(said, dict) and said.get("type") == "feature_flags":
            self.sockets_metadata[sid]["feature_flags"] = said.get("data", {})
            await self.send("feature_flags", {"supports_preview_metadata": True,
                                              "max_upload_size": MAX_BODY_BYTES}, sid)

    # ---- other routes ----

    def _declare_routes(self) -> None:
        self.routes.get("/ws")(self._websocket)
        self.routes.get("/prompt")(self._get_prompt)
        self.routes.post("/prompt")(self._post_prompt)
        self.routes.get("/queue")(self._get_queue)
        self.routes.post("/queue")(self._post_queue)
        self.routes.get("/history")(self._get_history)
        self.routes.get("/history/{prompt_id}")(self._get_history)
        self.routes.post("/history")(self._post_history)
        self.routes.post("/interrupt")(self._post_interrupt)
        self.routes.post("/free")(self._post_free)
        self.routes.get("/system_stats")(self._system_stats)
        self.routes.get("/object_info")(self._object_info)
        if PROFILE.jobs_api:
            self.routes.get("/jobs/{prompt_id}")(self._get_job)
        self.routes.post("/standin/reboot")(self._reboot)

    async def _get_prompt(self, request: web.Request) -> web.Response:
        return web.json_response(self.get_queue_info())

    async def _get_queue(self, request: web.Request) -> web.Response:
        running, pending = self.prompt_queue.get_current_queue()
        return web.json_response({"queue_running": [item[:5] for item in running],
                                  "queue_pending": [item[:5] for item in pending]})

    async def _post_queue(self, request: web.Request) -> web.Response:
        asked = await request.json()
        if asked.get("clear"):
            self.prompt_queue.wipe_queue()
        for prompt_id in asked.get("delete", []):
            self.prompt_queue.delete_queue_item(lambda item: item[1] == prompt_id)
        return web.Response(status=200)

    async def _get_history(self, request: web.Request) -> web.Response:
        prompt_id = request.match_info.get("prompt_id")
        limit = request.rel_url.query.get("max_items")
        return web.json_response(self.prompt_queue.get_history(
            prompt_id=prompt_id, max_items=int(limit) if limit else None))

    async def _post_history(self, request: web.Request) -> web.Response:
        asked = await request.json()
        if asked.get("clear"):
            self.prompt_queue.wipe_history()
        for prompt_id in asked.get("delete", []):
            self.prompt_queue.delete_history_item(prompt_id)
        return web.Response(status=200)

    async def _post_interrupt(self, request: web.Request) -> web.Response:
        try:
            asked = await request.json()
        except ValueError:
            asked = {}
        wanted = asked.get("prompt_id") if isinstance(asked, dict) else None
        running, _ = self.prompt_queue.get_current_queue()
        if wanted is None or any(item[1] == wanted for item in running):
            nodes.interrupt_processing()
        return web.Response(status=200)

    async def _post_free(self, request: web.Request) -> web.Response:
        asked = await request.json()
        for name in ("unload_models", "free_memory"):
            if asked.get(name):
                self.prompt_queue.set_flag(name, True)
        return web.Response(status=200)

    async def _system_stats(self, request: web.Request) -> web.Response:
        device = comfy.model_management.get_torch_device()
        free, total = (comfy.model_management.get_free_memory(device),
                       comfy.model_management.get_total_memory(device))
        return web.json_response({
            "system": {"os": os.name, "comfyui_version": __version__,
                       "python_version": sys.version, "pytorch_version": torch.__version__,
                       "embedded_python": False, "argv": sys.argv,
                       "ram_total": comfy.model_management.HOST_BYTES,
                       "ram_free": comfy.model_management.HOST_BYTES},
            "devices": [{"name": comfy.model_management.get_torch_device_name(device),
                         "type": device.type, "index": device.index, "vram_total": total,
                         "vram_free": free, "torch_vram_total": total, "torch_vram_free": free}],
            "standin": {"profile": PROFILE.name, "pid": os.getpid(),
                        "early_torch_imports": standin_profile.early_torch_imports}})

    async def _object_info(self, request: web.Request) -> web.Response:
        return web.json_response({name: {"name": name, "input": node.INPUT_TYPES(),
                                         "output": list(node.RETURN_TYPES),
                                         "output_node": bool(getattr(node, "OUTPUT_NODE", False))}
                                  for name, node in nodes.NODE_CLASS_MAPPINGS.items()})

    async def _get_job(self, request: web.Request) -> web.Response:
        prompt_id = request.match_info["prompt_id"]
        running, pending = self.prompt_queue.get_current_queue()
        state = "in_progress" if any(item[1] == prompt_id for item in running) else \
            "pending" if any(item[1] == prompt_id for item in pending) else None
        done = self.prompt_queue.get_history(prompt_id=prompt_id).get(prompt_id)
        if state is None and done is None:
            return web.json_response({"error": "no such job"}, status=404)
        if state is None:
            events = {event for event, _ in done["status"]["messages"]}
            state = "cancelled" if "execution_interrupted" in events else \
                "completed" if done["status"]["completed"] else "failed"
        return web.json_response({"id": prompt_id, "status": state})

    async def _reboot(self, request: web.Request) -> web.Response:
        """What a manager's restart does: the same process starts again, nothing exits."""
        session = os.environ.get("__COMFY_CLI_SESSION__")
        if session:
            with open(session + ".reboot", "w", encoding="utf-8"):
                pass
            os._exit(0)
        os.execv(sys.executable, [sys.executable, *sys.argv])

    # ---- start ----

    def add_routes(self) -> None:
        twins = web.RouteTableDef()
        for route in self.routes:
            if isinstance(route, web.RouteDef):
                twins.route(route.method, "/api" + route.path)(route.handler, **route.kwargs)
        self.app.add_routes(twins)
        self.app.add_routes(self.routes)
        self.app.router.add_get("/", self._index)

    async def _index(self, request: web.Request) -> web.Response:
        return web.Response(text="stand-in", content_type="text/html")

    async def start(self, address: str, port: int, on_start: Any = None) -> None:
        runner = web.AppRunner(self.app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, address, port, ssl_context=_tls())
        try:
            await site.start()
        except OSError as error:
            logging.error("cannot listen on %s:%s: %s", address, port, error)
            raise SystemExit(1) from error
        self.port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
        logging.info("Starting server\n")
        logging.info("To see the GUI go to: http://%s:%s", address, self.port)
        if on_start is not None:
            on_start(address, self.port)


def _tls() -> Optional[ssl.SSLContext]:
    if not (args.tls_keyfile and args.tls_certfile):
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(args.tls_certfile, args.tls_keyfile)
    return context


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


class _FutureServer(PromptServer):
    def send_sync(self, event: Any, data: Any, sid: Optional[str] = None,  # type: ignore[override]
                  *, host_context: Any) -> None:
        check_context(host_context)
        super().send_sync(event, data, sid)


if PROFILE.future:
    _FutureServer.__name__ = _FutureServer.__qualname__ = "PromptServer"
    PromptServer = _FutureServer  # type: ignore[misc]
if PROFILE.minimal:
    del PromptServer.add_on_prompt_handler
