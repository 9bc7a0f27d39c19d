"""Cost of watching a request to an aiohttp server, against the same request unwatched, in microseconds of CPU.

Server and client are one process on one connection, so that the difference is all ours; the smallest of many rounds,
watched and unwatched in turn. Prints JSON lines, see report.py.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.environ.get("COMFYMON_BUILD", "build/release"), "node", "comfymon"))

import _comfymon  # noqa: E402
from report import report  # noqa: E402
from aiohttp import web  # noqa: E402

REQUESTS, ROUNDS = 400, 30
GOAL_US = 15.0
PLAIN = b"GET /history/%d?max_items=1 HTTP/1.1\r\nHost: 127.0.0.1:8188\r\nUser-Agent: bench\r\n\r\n"
TRACED = PLAIN[:-2] + b"traceparent: 00-11112222333344445555666677778888-00000000000000aa-01\r\ntracestate: dd=s:2;t.dm:-4\r\n\r\n"


async def handler(request: web.Request) -> web.Response:
    return web.Response(text=request.match_info["id"])


class Server:
    def __init__(self, folder: str) -> None:
        self.folder = folder

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/history/{id}", handler)
        self.runner = web.AppRunner(app, access_log=None)
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", 0)
        await site.start()
        port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", port)

    async def round(self, text: bytes) -> float:
        """CPU per request of one round."""
        begin = time.process_time()
        for number in range(REQUESTS):
            self.writer.write(text % number)
            head = await self.reader.readuntil(b"\r\n\r\n")
            await self.reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
        return (time.process_time() - begin) / REQUESTS * 1e6

    def restart(self) -> None:
        """A ring of its own for each round: none is full."""
        _comfymon.stop(0)
        for name in os.listdir(self.folder):
            os.unlink(os.path.join(self.folder, name))
        if not _comfymon.start(run_dir=self.folder, sender=False, ring_bytes=8 << 20):
            raise SystemExit(_comfymon.status()["reason"])


async def measure(folder: str) -> None:
    server = Server(folder)
    await server.start()
    best = {"bare": float("inf"), "watched": float("inf"), "traced": float("inf")}
    for _ in range(ROUNDS):
        for name in best:
            server.restart()
            _comfymon.detach() if name == "bare" else _comfymon.attach()
            best[name] = min(best[name], await server.round(TRACED if name == "traced" else PLAIN))
            status = _comfymon.status()
            if status["lost"] or (name != "bare" and status["spans"] != REQUESTS):
                raise SystemExit(f"not every request was told: {status}")
    server.writer.close()
    await server.runner.cleanup()
    for name, title in (("watched", "aiohttp request"), ("traced", "aiohttp request of a traced client")):
        report(title, best[name] - best["bare"], "us", "request unwatched", best["bare"], GOAL_US)


def main() -> None:
    folder = tempfile.mkdtemp(dir="/dev/shm")
    try:
        asyncio.run(measure(folder))
    finally:
        _comfymon.stop(0)
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
