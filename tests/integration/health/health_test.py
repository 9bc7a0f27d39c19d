"""A ComfyUI that lives and does not work is seen, and under `comfymon run` begins anew; one that is only slow is left alone."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

TESTS = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TESTS), str(TESTS / "standin")]
from client import PINNED, ComfyUI, free_port, workflow  # noqa: E402
from support.harness import binary, passed_env, wait_until  # noqa: E402

NODE = str(Path(os.environ.get("COMFYMON_BUILD", "build/release")) / "node" / "comfymon")


class Health(unittest.TestCase):
    def setUp(self) -> None:
        self.base = Path(tempfile.mkdtemp(prefix="cm-", dir="/tmp"))
        self.env = {**passed_env(), "HOME": str(self.base), "COMFYMON_RUN_DIR": str(self.base / "run"),
                    "COMFYMON_DATA_DIR": str(self.base / "data"), "COMFYMON_DESTINATIONS": "none", "COMFYMON_AUTOSTART": "0",
                    "COMFYMON_HTTP_SILENT": "2s", "COMFYMON_NO_PROGRESS": "3s"}
        self.agent: Optional["subprocess.Popen[bytes]"] = None
        self.addCleanup(shutil.rmtree, self.base, ignore_errors=True)
        self.addCleanup(self.end_agent)

    def start_agent(self) -> None:
        with open(self.base / "agent.log", "ab") as log:
            self.agent = subprocess.Popen([str(binary()), "agent"], env=self.env, stdout=log, stderr=log)
        wait_until((self.base / "run/control.sock").exists, 10, "the agent's socket")

    def end_agent(self, number: int = signal.SIGKILL) -> None:
        if self.agent is not None:
            self.agent.send_signal(number)
            self.agent.wait(20)
        self.agent = None

    def comfy(self, **more: Any) -> ComfyUI:
        host = ComfyUI(kind=PINNED, env=self.env, node_dirs=[NODE], **more)
        self.addCleanup(host.close)
        host.start()
        return host

    def health(self) -> Dict[str, Any]:
        done = subprocess.run([str(binary()), "status", "--json"], env=self.env, capture_output=True, timeout=20, check=False)
        return dict(json.loads(done.stdout)["health"]) if done.returncode == 0 else {"processes": [], "ready": False, "why": "no agent"}

    def process(self) -> Dict[str, Any]:
        listed: List[Dict[str, Any]] = self.health()["processes"]
        return listed[0] if len(listed) == 1 else {"state": f"{len(listed)} processes", "port": 0}

    def wait_state(self, state: str, timeout: float = 15.0) -> Dict[str, Any]:
        wait_until(lambda: self.process()["state"] == state, timeout, f"state {state}")
        return self.process()


class Seen(Health):
    def test_a_dead_worker_is_a_zombie_also_for_an_agent_that_starts_later(self) -> None:
        self.start_agent()
        comfy = self.comfy()
        self.assertEqual(self.wait_state("well")["port"], comfy.port)
        self.assertTrue(self.health()["ready"])
        comfy.run(workflow("tiny"))
        comfy.submit(workflow("zombie"))
        seen = self.wait_state("zombie")
        self.assertIn("HTTP still answers", seen["why"])
        self.assertFalse(seen["worker_alive"])
        self.assertFalse(seen["restart_asked"])  # nobody supervises it
        health = self.health()
        self.assertEqual((health["ready"], health["healthy"], health["ill"]["zombie"]), (False, False, 1))
        self.assertRegex(health["wrong"], f"^pid {comfy.pid} is zombie: ")
        self.assertTrue(health["why"].startswith("zombie: "))
        comfy.request("GET", "/prompt")  # it lives
        self.end_agent()
        self.start_agent()
        self.wait_state("zombie")
        doctor = subprocess.run([str(binary()), "doctor"], env=self.env, capture_output=True, timeout=30, check=False)
        self.assertIn(b"is zombie", doctor.stdout)

    def test_a_stopped_process_is_silent_and_well_again_when_it_goes_on(self) -> None:
        self.start_agent()
        comfy = self.comfy()
        before = self.wait_state("well")
        comfy.send_signal(signal.SIGSTOP)
        try:
            self.assertIn("HTTP has not answered", self.wait_state("http_silent")["why"])
            self.assertFalse(self.health()["ready"])
        finally:
            comfy.send_signal(signal.SIGCONT)
        after = self.wait_state("well")
        self.assertEqual((after["pid"], after["restart_asked"]), (before["pid"], False))

    def test_who_does_not_answer_is_not_ready_long_before_it_is_ill(self) -> None:
        self.env["COMFYMON_HTTP_SILENT"] = "16s"
        self.start_agent()
        comfy = self.comfy()
        self.wait_state("well")
        comfy.send_signal(signal.SIGSTOP)
        try:
            wait_until(lambda: not self.health()["ready"], 12, "not ready")
            health = self.health()
            self.assertEqual((health["processes"][0]["state"], health["healthy"]), ("well", True))
            self.assertRegex(health["why"], "^HTTP has not answered for [5-9] s")
        finally:
            comfy.send_signal(signal.SIGCONT)
        wait_until(lambda: self.health()["ready"], 5, "ready again")
        self.assertEqual(self.health()["ill"]["http_silent"], 0)

    def test_a_hang_makes_no_progress_and_a_job_that_talks_does(self) -> None:
        self.start_agent()
        comfy = self.comfy()
        self.wait_state("well")
        job = comfy.submit(workflow("hang"))
        comfy.wait_running(job)
        comfy.request("POST", "/interrupt", {})
        seen = self.wait_state("no_progress")
        self.assertEqual((seen["prompt_id"], seen["busy"], seen["worker_alive"]), (job, True, True))
        self.assertTrue(self.health()["ready"])  # a long render looks the same

    @unittest.skipUnless(shutil.which("openssl"), "no openssl to make a certificate with")
    def test_one_that_speaks_tls_alone_is_well_while_it_answers(self) -> None:
        key, certificate = str(self.base / "key.pem"), str(self.base / "cert.pem")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-keyout",
                        key, "-out", certificate], check=True, capture_output=True, timeout=30)
        self.start_agent()
        comfy = ComfyUI(kind=PINNED, env=self.env, node_dirs=[NODE],
                        arguments=["--tls-keyfile", key, "--tls-certfile", certificate])
        self.addCleanup(comfy.close)
        comfy.prepare()
        comfy.spawn()
        seen = self.wait_state("well", 30)
        self.assertEqual((seen["port"], seen["tls"]), (comfy.port, True))
        self.assertTrue(self.health()["ready"])
        comfy.send_signal(signal.SIGSTOP)
        try:
            self.wait_state("http_silent")
        finally:
            comfy.send_signal(signal.SIGCONT)
        self.wait_state("well")
        log = comfy.log()  # it is not told of our questions
        self.assertNotIn("Traceback", log)
        self.assertNotIn("SSL", log)
        comfy.stop(signal.SIGINT)
        wait_until(lambda: self.health()["processes"] == [], 15, "the process is forgotten")

    def test_one_that_listens_on_ipv6_alone_is_watched_alike(self) -> None:
        if not Path("/proc/net/if_inet6").exists() or "00000000000000000000000000000001" not in Path("/proc/net/if_inet6").read_text():
            self.skipTest("this host has no ::1")
        self.start_agent()
        comfy = self.comfy(address="::1")
        self.assertEqual(self.wait_state("well")["port"], comfy.port)
        comfy.run(workflow("tiny"))
        comfy.submit(workflow("zombie"))
        self.assertIn("HTTP still answers", self.wait_state("zombie")["why"])

    def ask_port(self, path: str) -> Tuple[int, Dict[str, Any]]:
        connection = http.client.HTTPConnection("127.0.0.1", int(self.env["COMFYMON_HEALTH_PORT"]), timeout=5)
        connection.request("GET", path)
        answer = connection.getresponse()
        told = dict(json.loads(answer.read()))
        connection.close()
        return answer.status, told

    def wait_port(self, healthy: int, ready: int) -> Dict[str, Any]:
        wait_until(lambda: (self.ask_port("/healthz")[0], self.ask_port("/readyz")[0]) == (healthy, ready), 20,
                   f"/healthz {healthy} and /readyz {ready}")
        return self.ask_port("/healthz")[1]

    def command(self, word: str) -> int:
        return subprocess.run([str(binary()), "status", word], env=self.env, stdout=subprocess.DEVNULL, timeout=20, check=False).returncode

    def test_the_port_and_the_command_follow_a_comfyui_from_start_to_end(self) -> None:
        self.env["COMFYMON_HEALTH_PORT"] = str(free_port())
        self.start_agent()
        self.wait_port(200, 503)
        comfy = self.comfy()
        self.wait_port(200, 200)
        self.assertEqual((self.command("--healthy"), self.command("--ready")), (0, 0))
        comfy.run(workflow("tiny"))
        comfy.send_signal(signal.SIGSTOP)
        try:
            self.assertRegex(self.wait_port(503, 503)["wrong"], f"^pid {comfy.pid} is http_silent: HTTP has not answered")
        finally:
            comfy.send_signal(signal.SIGCONT)
        self.wait_port(200, 200)
        comfy.submit(workflow("zombie"))
        self.assertRegex(self.wait_port(503, 503)["wrong"], f"^pid {comfy.pid} is zombie: ")
        self.assertTrue(self.ask_port("/readyz")[1]["why"].startswith("zombie: "))
        self.assertEqual((self.command("--healthy"), self.command("--ready")), (1, 1))
        comfy.stop(signal.SIGKILL)
        self.wait_port(200, 503)
        self.assertEqual(self.ask_port("/readyz")[1]["why"], "no ComfyUI is connected")

    def test_an_orderly_end_is_no_illness(self) -> None:
        self.start_agent()
        comfy = self.comfy()
        self.wait_state("well")
        comfy.run(workflow("tiny"))
        comfy.stop(signal.SIGINT)
        wait_until(lambda: self.health()["processes"] == [], 15, "the process is forgotten")
        self.assertEqual(set(self.health()["ill"].values()), {0})


class Supervised(Health):
    def test_a_zombie_begins_anew(self) -> None:
        (self.base / "comfy").mkdir()
        host = ComfyUI(kind=PINNED, env={**self.env, "COMFYMON_RUN_DRAIN": "1s", "COMFYMON_GRACE": "3s"},
                       base=str(self.base / "comfy"), node_dirs=[NODE], wrapper=[str(binary()), "run", "--"])
        self.addCleanup(host.close)
        self.addCleanup(host.stop, signal.SIGTERM)
        host.start()
        first = self.wait_state("well", 30)
        host.run(workflow("tiny"))
        host.submit(workflow("zombie"))
        wait_until(lambda: self.process().get("pid", first["pid"]) != first["pid"], 30, "another process")
        self.assertNotEqual(self.wait_state("well", 30)["life"], first["life"])
        host.run(workflow("tiny"))
        out = subprocess.run([str(binary()), "deaths", "--json"], env=self.env, capture_output=True, timeout=20, check=True).stdout
        told = [json.loads(line) for line in out.splitlines()]
        self.assertEqual([(d["pid"], d["verdict"], d["restarted"]) for d in told], [(first["pid"], "zombie", True)])
        self.assertEqual(self.health()["restarts_asked"], 1)


if __name__ == "__main__":
    unittest.main()
