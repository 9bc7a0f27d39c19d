"""ComfyUI's own server: every route of every generation, and the trace of whoever posts a prompt."""

from __future__ import annotations

import sys
import unittest
from pathlib import Path
from typing import List

sys.path.insert(0, str(Path(__file__).resolve().parent))
from comfyhost import HERE, LOCAL_ROOT, PROFILES, REMOTE_PARENT, ComfyError, Host, Span, only, wait_for, workflow  # noqa: E402

TRACE = 0xabcdef00000000001234567890abcdef
PARENT = 0x1122334455667788
WHERE = str(HERE / "nodes" / "where")


def requests(comfy: Host, resource: str = "") -> List[Span]:
    return [s for s in comfy.spans("aiohttp.request") if not resource or s.resource == resource]


class EveryGeneration(unittest.TestCase):
    def test_each_route_plain_and_under_api(self) -> None:
        for profile in PROFILES:
            with self.subTest(profile=profile), Host(profile=profile) as comfy:
                for prefix in ("", "/api"):
                    comfy.request("GET", prefix + "/history/some-id?token=canary-in-query")
                    with self.assertRaises(ComfyError) as refused:
                        comfy.request("POST", prefix + "/prompt", {"client_id": "x"}, {"Authorization": "Bearer canary-in-header"})
                    self.assertEqual(refused.exception.status, 400)
                    with self.assertRaises(ComfyError):
                        comfy.request("GET", prefix + "/no/such/thing?canary-in-query")
                comfy.request("GET", "/")
                wait_for(lambda: bool(requests(comfy, "GET /")))  # the client may have its answer first
                told = [(s.resource, s.meta["http.status_code"], s.meta.get("http.route")) for s in requests(comfy)]
                told = [one for one in told if one[0] != "GET /prompt"]
                wanted = []
                for prefix in ("", "/api"):
                    wanted += [(f"GET {prefix}/history/{{prompt_id}}", "200", prefix + "/history/{prompt_id}"),
                               (f"POST {prefix}/prompt", "400", prefix + "/prompt"), ("GET 404", "404", None)]
                self.assertEqual(told, wanted + [("GET /", "200", "/")])
                self.assertEqual({s.error for s in requests(comfy)}, {False})
                for canary in (b"canary-in-query", b"canary-in-header"):
                    self.assertNotIn(canary, comfy.raw())
                self.assertEqual(comfy.log().count("IMPORT FAILED"), 0)

    def test_a_websocket_is_told_at_its_upgrade(self) -> None:
        for profile in ("p2024a", "p0364", "p038"):
            with self.subTest(profile=profile), Host(profile=profile) as comfy:
                socket = comfy.websocket()
                wait_for(lambda: bool(requests(comfy, "GET /ws")))
                span = only(requests(comfy, "GET /ws"))
                self.assertEqual((span.meta["http.status_code"], span.error), ("101", False))
                comfy.run(workflow("tiny"), client_id=comfy.client_id)
                self.assertIsNotNone(socket.wait_for(lambda m: m.get("type") == "executing", 10.0))


class Traces(unittest.TestCase):
    def test_our_own_questions_are_not_told(self) -> None:
        with Host() as comfy:
            comfy.request("GET", "/queue", headers={"User-Agent": "comfymon"})
            comfy.request("GET", "/history", headers={"User-Agent": "comfymon/2"})
            wait_for(lambda: bool(requests(comfy, "GET /history")))
            self.assertEqual(requests(comfy, "GET /queue"), [])

    def test_who_posts_a_prompt_is_the_parent_of_its_request(self) -> None:
        headers = {"traceparent": f"00-{TRACE:032x}-{PARENT:016x}-01", "tracestate": "dd=s:2;t.dm:-4"}
        with Host() as comfy:
            comfy.run(workflow("tiny"), headers=headers)
            wait_for(lambda: bool(requests(comfy, "POST /prompt")))
            span = only(requests(comfy, "POST /prompt"))
            self.assertEqual((span.trace_id, span.parent_id, span.priority, span.mechanism), (TRACE, PARENT, 2, 4))
            self.assertEqual(span.flags & (LOCAL_ROOT | REMOTE_PARENT), LOCAL_ROOT | REMOTE_PARENT)
            others = [s for s in requests(comfy) if s is not span and s.resource != "POST /prompt"]
            self.assertNotIn(TRACE, {s.trace_id for s in others})

    def test_the_request_is_current_when_the_prompt_is_queued(self) -> None:
        for profile in ("p2024a", "p0364", "p038"):
            with self.subTest(profile=profile), Host(profile=profile, node_dirs=[WHERE]) as comfy:
                comfy.run(workflow("tiny"), path="/api/prompt")
                trace_id, _ = only(comfy.request("GET", "/where"))
                wait_for(lambda: bool(requests(comfy, "POST /api/prompt")))
                self.assertEqual(int(trace_id), only(requests(comfy, "POST /api/prompt")).trace_id)


if __name__ == "__main__":
    unittest.main()
