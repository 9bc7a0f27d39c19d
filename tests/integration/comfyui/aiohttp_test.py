"""Requests to a plain aiohttp server without ComfyUI, with whichever aiohttp this Python has."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Any, Awaitable, Callable, Dict, List, Optional, Tuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python"))
from base import Case, Span, _comfymon, only  # noqa: E402
from ringfile import LOCAL_ROOT, REMOTE_PARENT  # noqa: E402

import aiohttp  # noqa: E402
from aiohttp import web  # noqa: E402

TRACE = 0x11112222333344445555666677778888
CANARIES = ("query-canary", "cookie-canary", "token-canary", "body-canary", "user-canary")
Test = Callable[["Server"], Awaitable[None]]


async def ids(_request: web.Request) -> web.Response:
    return web.json_response([str(number) for number in _comfymon.current_ids() or ()])


async def echo(request: web.Request) -> web.Response:
    return web.json_response({"body": await request.text(), "id": request.match_info.get("id"), "query": dict(request.query)})


async def failing(_request: web.Request) -> web.Response:
    raise KeyError("what was wanted")


async def forbidden(_request: web.Request) -> web.Response:
    raise web.HTTPForbidden()


async def unavailable(_request: web.Request) -> web.Response:
    return web.Response(status=503)


async def slow(request: web.Request) -> web.Response:
    with _comfymon.trace("work"):
        await asyncio.sleep(float(request.query.get("s", "0.05")))
    return web.Response(text="done")


async def streaming(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse()
    await answer.prepare(request)
    for part in (b"one", b"two"):
        await answer.write(part)
        await asyncio.sleep(0.05)
    await answer.write_eof()
    return answer


async def websocket(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        with _comfymon.trace("message"):
            await socket.send_str("heard " + message.data)
    return socket


async def background(request: web.Request) -> web.Response:
    async def later() -> None:
        await asyncio.sleep(0.02)
        with _comfymon.trace("later"):
            pass
        request.app["later"].set()

    request.app["task"].append(asyncio.ensure_future(later()))
    return web.Response(text="accepted")


@web.middleware
async def outer(request: web.Request, handler: Any) -> Any:
    with _comfymon.trace("middleware"):
        return await handler(request)


def application(folder: str) -> web.Application:
    inner = web.Application()
    inner.router.add_get("/deep/{name}", echo)
    app = web.Application(middlewares=[outer])
    app.add_subapp("/sub", inner)
    app["task"], app["later"] = [], asyncio.Event()
    app.router.add_get("/ids", ids)
    app.router.add_route("*", "/things/{id}", echo)
    app.router.add_get(r"/number/{n:\d+}", echo)
    for name, handler in (("failing", failing), ("forbidden", forbidden), ("unavailable", unavailable), ("slow", slow),
                          ("streaming", streaming), ("ws", websocket), ("background", background)):
        app.router.add_get("/" + name, handler)
    app.router.add_static("/", folder)
    return app


class Server:
    """A server and a client on one loop."""

    def __init__(self, app: web.Application) -> None:
        self.app, self.runner = app, web.AppRunner(app, access_log=None)

    async def __aenter__(self) -> "Server":
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", 0)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
        self.url = f"http://127.0.0.1:{self.port}"
        self.session = aiohttp.ClientSession()
        return self

    async def __aexit__(self, *_: Any) -> None:
        await self.session.close()
        await self.runner.cleanup()

    async def get(self, path: str, headers: Optional[Dict[str, str]] = None, method: str = "GET", data: Any = None,
                  ) -> Tuple[int, str]:
        async with self.session.request(method, self.url + path, headers=headers, data=data) as answer:
            return answer.status, await answer.text()

    async def raw(self, text: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(text)
        answer = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        return answer


class Requests(Case):
    def setUp(self) -> None:
        super().setUp()
        self.static = tempfile.TemporaryDirectory()
        self.addCleanup(self.static.cleanup)
        Path(self.static.name, "page.html").write_text("<html></html>")
        _comfymon.attach()
        self.addCleanup(_comfymon.detach)

    def run_with(self, test: Test) -> None:
        async def main() -> None:
            async with Server(application(self.static.name)) as server:
                await asyncio.wait_for(test(server), 30)

        asyncio.run(main())

    def requests(self) -> List[Span]:
        return [s for s in self.ring().spans() if s.name == "aiohttp.request"]

    def named(self, name: str) -> List[Span]:
        return [s for s in self.ring().spans() if s.name == name]

    def again(self, **env: str) -> None:
        """The probe anew, with these variables."""
        os.environ.update(env)
        self.addCleanup(lambda: [os.environ.pop(name, None) for name in env])
        _comfymon.stop(0)
        for path in Path(self.folder).glob("ring-*"):
            path.unlink()
        self.assertTrue(_comfymon.start(run_dir=self.folder, sender=False))

    def test_the_hooks_are_on(self) -> None:
        states = {h["attr"]: h["state"] for h in _comfymon.hooks() if h["module"].startswith("aiohttp")}
        self.assertEqual(set(states.values()), {"attached"}, states)
        self.assertEqual(len(states), 4)

    def test_resource_route_and_status_of_every_kind_of_answer(self) -> None:
        wanted = [("GET", "/ids", 200, "GET /ids"), ("GET", "/things/7?a=b", 200, "GET /things/{id}"),
                  ("POST", "/things/7", 200, "POST /things/{id}"), ("GET", "/number/12", 200, "GET /number/{n}"),
                  ("GET", "/sub/deep/x", 200, "GET /sub/deep/{name}"), ("GET", "/page.html", 200, "GET /"),
                  ("GET", "/nowhere", 404, "GET /"), ("POST", "/ids", 405, "POST 405"), ("GET", "/forbidden", 403, "GET /forbidden"),
                  ("GET", "/failing", 500, "GET /failing"), ("GET", "/unavailable", 503, "GET /unavailable"),
                  ("PROPFIND", "/ids", 405, "_OTHER 405")]

        async def test(server: Server) -> None:
            for method, path, status, _ in wanted:
                self.assertEqual((await server.get(path, method=method))[0], status, path)

        self.run_with(test)
        told = self.requests()
        self.assertEqual([(s.resource, s.meta["http.status_code"]) for s in told],
                         [(resource, str(status)) for _, _, status, resource in wanted])
        for span, (method, path, status, resource) in zip(told, wanted):
            shown = resource.split()[1] if "{" in resource else path.split("?")[0]
            self.assertEqual("/" + span.meta["http.url"].split("/", 3)[3], shown)
            self.assertEqual(span.meta.get("http.route", str(status)), resource.split()[1])
            self.assertEqual((span.type, span.meta["component"], span.meta["span.kind"]), ("web", "aiohttp", "server"))
            self.assertEqual((span.error, span.parent_id), (status >= 500, 0))
        self.assertEqual(told[9].meta["error.type"], "builtins.KeyError")
        self.assertIn("in failing", told[9].meta["error.stack"])
        self.assertNotIn("error.type", told[10].meta, "no exception, only its status")
        self.assertEqual(self.ring().open_slots(), [])

    def test_handlers_run_inside_the_request(self) -> None:
        async def test(server: Server) -> None:
            trace_id, span_id = json.loads((await server.get("/ids"))[1])
            request, middleware = only(self.requests()), only(self.named("middleware"))
            self.assertEqual((int(trace_id), int(span_id)), (request.trace_id, middleware.span_id))
            self.assertEqual(middleware.parent_id, request.span_id)

        self.run_with(test)

    def test_answers_are_the_same_without_us(self) -> None:
        answers: List[List[Any]] = []

        async def test(server: Server) -> None:
            answers.append([await server.get(path, method=method, data=data) for method, path, data in (
                ("GET", "/things/7?a=b", None), ("POST", "/things/x", "a body"), ("GET", "/failing", None),
                ("GET", "/streaming", None), ("GET", "/nowhere", None), ("GET", "/forbidden", None))])

        self.run_with(test)
        _comfymon.detach()
        self.run_with(test)
        self.assertEqual(answers[0], answers[1])

    def test_nothing_secret_is_written(self) -> None:
        async def test(server: Server) -> None:
            await server.get("/things/1?api_key=query-canary#query-canary", method="POST", data="body-canary",
                             headers={"Authorization": "Bearer token-canary", "Cookie": "session=cookie-canary"})
            await server.raw(b"GET http://user-canary:pass@example.com/things/2?k=query-canary HTTP/1.1\r\nHost: x y/user-canary\r\n"
                             b"Connection: close\r\n\r\n")

        self.run_with(test)
        written = next(iter(Path(self.folder).glob("ring-*.cm"))).read_bytes()
        for canary in CANARIES:
            self.assertNotIn(canary.encode(), written)
        self.assertEqual(self.requests()[1].meta["http.url"], "/things/{id}", "a host that is none is left out")

    def test_a_callers_trace_goes_on(self) -> None:
        async def test(server: Server) -> None:
            await server.get("/ids", {"traceparent": f"00-{TRACE:032x}-00000000000000aa-01",
                                      "tracestate": "other=1,dd=s:2;o:rum;p:00000000000000bb;t.dm:-4;t.usr.id:Zm9v"})
            await server.get("/ids", {"x-datadog-trace-id": str(TRACE & (1 << 64) - 1), "x-datadog-parent-id": "170",
                                      "x-datadog-sampling-priority": "-1", "x-datadog-origin": "synthetics",
                                      "x-datadog-tags": f"_dd.p.tid={TRACE >> 64:016x},_dd.p.dm=-3,_dd.p.other=1"})

        self.run_with(test)
        w3c, datadog = self.requests()
        for span, priority, mechanism, tags in (
                (w3c, 2, 4, {"_dd.origin": "rum", "_dd.parent_id": "00000000000000bb", "_dd.p.usr.id": "Zm9v"}),
                (datadog, -1, 3, {"_dd.origin": "synthetics", "_dd.p.other": "1"})):
            self.assertEqual((span.trace_id, span.parent_id), (TRACE, 0xaa))
            self.assertEqual((span.priority, span.mechanism), (priority, mechanism))
            self.assertEqual({k: v for k, v in span.meta.items() if k.startswith("_dd.")}, tags)
            self.assertEqual(span.flags & (LOCAL_ROOT | REMOTE_PARENT), LOCAL_ROOT | REMOTE_PARENT)
        for span in self.named("middleware"):
            self.assertEqual((span.trace_id, span.flags & REMOTE_PARENT), (TRACE, 0))
            self.assertIn(span.priority, (2, -1))

    def test_what_is_malformed_starts_a_trace_of_its_own(self) -> None:
        async def test(server: Server) -> None:
            for headers in ({"traceparent": "00-zz-aa-01"}, {"traceparent": "\u00e9" * 60}, {"x-datadog-trace-id": "-5"},
                            {"x-datadog-trace-id": "1" * 5000}, {"x-datadog-trace-id": "0", "x-datadog-parent-id": "7"}):
                await server.get("/ids", headers)

        self.run_with(test)
        told = self.requests()
        self.assertEqual(len({s.trace_id for s in told}), 5)
        self.assertEqual({(s.parent_id, s.flags & REMOTE_PARENT) for s in told}, {(0, 0)})

    def test_the_styles_of_the_environment_decide(self) -> None:
        both = {"traceparent": f"00-{TRACE:032x}-00000000000000aa-01", "x-datadog-trace-id": "99", "x-datadog-parent-id": "98"}

        async def test(server: Server) -> None:
            await server.get("/ids", both)

        seen = []
        for env in ({"DD_TRACE_PROPAGATION_STYLE": "tracecontext"}, {"DD_TRACE_PROPAGATION_STYLE_EXTRACT": "datadog"},
                    {"DD_TRACE_PROPAGATION_STYLE_EXTRACT": "none"}):
            self.again(**env)
            self.run_with(test)
            seen.append(only(self.requests()).parent_id)
        self.assertEqual(seen, [0xaa, 98, 0])

    def test_many_requests_at_once_keep_apart(self) -> None:
        async def test(server: Server) -> None:
            answers = await asyncio.gather(*[server.get("/slow?s=0.02") for _ in range(200)])
            self.assertEqual({status for status, _ in answers}, {200})

        self.run_with(test)
        told, middleware = self.requests(), {s.span_id: s for s in self.named("middleware")}
        self.assertEqual((len(told), len(middleware), len({s.trace_id for s in told})), (200, 200, 200))
        parents = {s.span_id: s.trace_id for s in told}
        for work in self.named("work"):
            between = middleware[work.parent_id]
            self.assertEqual(parents[between.parent_id], work.trace_id)
        self.assertEqual(self.ring().open_slots(), [])

    def test_requests_on_one_connection_follow_each_other(self) -> None:
        async def test(server: Server) -> None:
            await server.raw(b"GET /ids HTTP/1.1\r\nHost: h\r\n\r\nGET /forbidden HTTP/1.1\r\nHost: h\r\n\r\n"
                             b"GET /ids HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")

        self.run_with(test)
        self.assertEqual([(s.resource, s.parent_id) for s in self.requests()],
                         [("GET /ids", 0), ("GET /forbidden", 0), ("GET /ids", 0)])
        self.assertEqual(self.requests()[0].meta["http.url"], "http://h/ids")

    def test_bytes_that_are_no_request_are_told_as_refused(self) -> None:
        async def test(server: Server) -> None:
            self.assertIn(b" 400 ", (await server.raw(b"GET /ids HTTP/9.9.9\r\nbroken\r\n\r\n")).split(b"\r\n")[0])

        self.run_with(test)
        self.assertEqual([(s.meta["http.status_code"], s.error) for s in self.requests()], [("400", False)])

    def test_a_stream_lasts_to_its_end(self) -> None:
        async def test(server: Server) -> None:
            self.assertEqual((await server.get("/streaming"))[1], "onetwo")

        self.run_with(test)
        self.assertGreater(only(self.requests()).duration_ns, 90_000_000)

    def test_a_websocket_ends_at_the_upgrade_and_talks_on_its_own(self) -> None:
        async def test(server: Server) -> None:
            async with server.session.ws_connect(server.url + "/ws?token=query-canary") as socket:
                await socket.send_str("hello")
                self.assertEqual((await socket.receive()).data, "heard hello")
                span = only(self.requests())
                self.assertEqual((span.resource, span.meta["http.status_code"], span.error), ("GET /ws", "101", False))
                self.assertEqual(self.ring().open_slots(), [])
                await asyncio.sleep(0.1)

        self.run_with(test)
        self.assertLess(only(self.requests()).duration_ns, 90_000_000)
        self.assertNotIn(only(self.requests()).span_id, {s.parent_id for s in self.named("message")})

    def test_a_request_in_flight_can_be_seen_with_its_route(self) -> None:
        async def test(server: Server) -> None:
            waiting = asyncio.ensure_future(server.get("/slow?s=0.2"))
            await asyncio.sleep(0.1)
            self.assertEqual([(s.name, s.resource) for s in self.ring().open_slots()], [("aiohttp.request", "GET /slow")])
            await waiting

        self.run_with(test)

    def test_a_cancelled_request_ends_without_an_error(self) -> None:
        async def test(server: Server) -> None:
            waiting = asyncio.ensure_future(server.get("/slow?s=60"))
            await asyncio.sleep(0.1)
            handlers = [t for t in asyncio.all_tasks() if "RequestHandler" in repr(t)]
            self.assertTrue(handlers)
            for task in handlers:
                task.cancel()
            await asyncio.wait(handlers, timeout=10)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)

        self.run_with(test)
        span = only(self.requests())
        self.assertEqual((span.resource, span.error), ("GET /slow", False))
        self.assertEqual(self.ring().open_slots(), [])

    def test_what_a_handler_leaves_running_stays_in_the_trace(self) -> None:
        async def test(server: Server) -> None:
            await server.get("/background")
            await server.app["later"].wait()

        self.run_with(test)
        later = only(self.named("later"))
        self.assertEqual(later.trace_id, only(self.requests()).trace_id)

    def test_a_server_that_runs_already_can_be_watched_and_left_alone_again(self) -> None:
        _comfymon.detach()

        async def test(server: Server) -> None:
            await server.get("/ids")
            _comfymon.attach()
            await server.get("/ids")
            _comfymon.detach()
            self.assertEqual((await server.get("/ids"))[0], 200)

        self.run_with(test)
        self.assertEqual(len(self.requests()), 1)

    def test_the_environment_names_the_service_or_turns_it_off(self) -> None:
        async def test(server: Server) -> None:
            await server.get("/ids")

        self.again(DD_AIOHTTP_SERVICE="front")
        self.run_with(test)
        self.assertEqual(only(self.requests()).service, "front")
        code = "import sys; sys.path.insert(0, sys.argv[1]); import aiohttp.web, _comfymon; _comfymon.attach(); " \
               "print([h['attr'] for h in _comfymon.hooks() if h['module'].startswith('aiohttp')])"
        node = Path(_comfymon.__spec__.origin).parent
        said = subprocess.run([sys.executable, "-c", code, str(node)], env={**os.environ, "DD_TRACE_AIOHTTP_ENABLED": "false"},
                              text=True, capture_output=True, check=True).stdout
        self.assertEqual(said.strip(), "[]")

    def test_statuses_that_are_errors_can_be_chosen(self) -> None:
        async def test(server: Server) -> None:
            for path in ("/unavailable", "/forbidden", "/failing", "/ids"):
                await server.get(path)

        self.again(DD_TRACE_HTTP_SERVER_ERROR_STATUSES="400-499, 503,junk,-1,600-1")
        self.run_with(test)
        self.assertEqual([s.error for s in self.requests()], [True, True, False, False])

    def test_a_stranger_cannot_fill_the_arena_nor_a_tag(self) -> None:
        async def test(server: Server) -> None:
            for number in range(300):
                await server.get(f"/things/{number}?q={number}", {
                    "x-datadog-trace-id": "1", "x-datadog-parent-id": "1", "x-datadog-tags": f"_dd.p.key{number}=v,_dd.p.usr=u",
                    "User-Agent": f"agent {number}", "x-datadog-origin": f"o{number}"},
                    method=("GET", "PROPFIND", "MKCOL", "COPY", "LOCK", "SEARCH")[number % 6])

        before = len(self.ring().strings)
        self.run_with(test)
        self.assertLess(len(self.ring().strings) - before, 60)
        told = self.requests()
        self.assertEqual(len(told), 300)
        self.assertEqual((told[0].meta["_dd.p.key0"], told[-1].meta["_dd.p.usr"]), ("v", "u"))
        self.assertEqual(sum(key.startswith("_dd.p.key") for s in told for key in s.meta), 31, "the first few keys")

    def test_what_is_too_long_is_clipped_on_a_characters_edge(self) -> None:
        async def test(server: Server) -> None:
            await server.get("/nowhere/" + "x" * 3000, {"User-Agent": "a" + "\u00e9" * 300})
            await server.get("/ids", {"Host": "h" * 200})

        self.run_with(test)
        long, host = self.requests()
        self.assertEqual(len(long.meta["http.url"]), 512)
        self.assertEqual(long.meta["http.useragent"], "a" + "\u00e9" * 127)
        self.assertEqual(host.meta["http.url"], "/ids")

    def test_nothing_fails_inside(self) -> None:
        async def test(server: Server) -> None:
            for path in ("/ids", "/failing", "/nowhere", "/forbidden", "/sub/deep/x"):
                await server.get(path)

        self.run_with(test)
        self.assertEqual({h["attr"]: h["failures"] for h in _comfymon.hooks() if h["failures"]}, {})


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)  # aiohttp's account of the handlers that fail on purpose
    print(f"aiohttp {aiohttp.__version__}, Python {sys.version.split()[0]}", file=sys.stderr)
    unittest.main()
