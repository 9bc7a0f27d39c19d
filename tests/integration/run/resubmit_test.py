"""Jobs that waited when ComfyUI died are run by the next one: each once, in order, under their own id; and who is not."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
import unittest
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

sys.path.insert(0, str(Path(__file__).resolve().parent))
from comfy_test import Guarded, job  # noqa: E402
from client import PINNED, ComfyError, ComfyUI, workflow  # noqa: E402
from support.harness import binary, wait_until  # noqa: E402

NODE = str(Path(os.environ.get("COMFYMON_BUILD", "build/release")) / "node" / "comfymon")
SIGNED = str(Path(__file__).resolve().parents[1] / "comfyui" / "nodes" / "signed")
CANARY = "xyzzy-canary-0123456789"


class Resubmit(Guarded):
    options = ()

    def setUp(self) -> None:
        super().setUp()
        self.env["COMFYMON_RESUBMIT"] = "1"

    def start(self, more_nodes: Sequence[str] = (), **more: Any) -> ComfyUI:
        return self.host(node_dirs=[NODE, *more_nodes], **more)

    def block(self, host: ComfyUI) -> str:
        prompt_id = host.submit(workflow("interrupted"))
        host.wait_running(prompt_id)
        return prompt_id

    def kill(self, host: ComfyUI, number: int = signal.SIGKILL, timeout: float = 30) -> None:
        """And wait for the next life."""
        before = host.serving_pid()
        os.kill(before, number)

        def answers() -> bool:
            try:
                return host.serving_pid() != before
            except OSError:
                return False

        wait_until(answers, timeout, "a new ComfyUI")

    def jobs(self) -> List[Dict[str, Any]]:
        """Oldest first. An agent that is just being started again is waited for."""
        def ask() -> "subprocess.CompletedProcess[bytes]":
            return subprocess.run([str(binary()), "jobs", "--json"], env={**os.environ, **self.env}, capture_output=True,
                                  timeout=30, check=False)

        out = wait_until(lambda: next((done for done in [ask()] if done.returncode == 0), None), 30, "an agent that answers")
        return sorted((json.loads(line) for line in out.stdout.splitlines()), key=lambda row: row["queued_ns"])

    def states(self, prompt_id: str, rows: Optional[List[Dict[str, Any]]] = None) -> List[str]:
        return [row["state"] for row in (self.jobs() if rows is None else rows) if row["prompt_id"] == prompt_id]

    def reasons(self, *prompt_ids: str) -> List[str]:
        rows = {row["prompt_id"]: row["reason"] for row in self.jobs() if row["state"] == "lost"}
        return [rows.get(prompt_id, "") for prompt_id in prompt_ids]

    def bodies(self) -> List[Path]:
        folder = self.base / "run/bodies"
        return sorted(folder.iterdir()) if folder.is_dir() else []

    def wait_final(self, prompt_ids: List[str], timeout: float = 30) -> None:
        final = {"succeeded", "failed", "lost", "interrupted", "cancelled"}

        def ended() -> bool:
            rows = self.jobs()
            return all(states and states[-1] in final for states in (self.states(one, rows) for one in prompt_ids))

        wait_until(ended, timeout, "the ends of all jobs")

    def test_five_that_waited_run_once_in_order_after_a_kill(self) -> None:
        host = self.start()
        running = self.block(host)
        waiting = [host.submit(workflow("tiny"), extra_data={"extra_pnginfo": {"workflow": {"n": i}}}) for i in range(4)]
        waiting.insert(0, host.submit(workflow("tiny"), front=True))
        self.assertEqual(len(self.bodies()), 5)
        self.kill(host)
        self.wait_final(waiting)
        self.assertEqual(list(host.history()), waiting)
        self.assertEqual([self.states(one) for one in waiting], [["resubmitted", "succeeded"]] * 5)
        self.assertEqual(self.states(running), ["failed"])
        self.assertEqual(self.bodies(), [])
        kept = host.history()[waiting[3]]["prompt"][3]
        self.assertEqual(kept["extra_pnginfo"], {"workflow": {"n": 2}})
        ran = [row for row in self.jobs() if row["state"] == "succeeded"]
        self.assertEqual([row["prompt_id"] for row in sorted(ran, key=lambda row: row["started_ns"])], waiting)

    def test_each_generation_takes_them_again(self) -> None:
        for profile in ("p2024a", "p010", "p038"):
            with self.subTest(profile=profile):
                self.setUp()
                host = self.start(profile=profile)
                self.block(host)
                waiting = [host.submit(workflow("tiny")) for _ in range(2)]
                self.kill(host)
                self.wait_final(waiting)
                self.assertEqual([self.states(one) for one in waiting], [["resubmitted", "succeeded"]] * 2)
                self.end(host)

    def test_one_on_ipv6_alone_takes_them_again(self) -> None:
        inet6 = Path("/proc/net/if_inet6")
        if not inet6.exists() or "00000000000000000000000000000001" not in inet6.read_text():
            self.skipTest("this host has no ::1")
        host = self.start(address="::1")
        self.block(host)
        waiting = [host.submit(workflow("tiny")) for _ in range(2)]
        self.kill(host)
        self.wait_final(waiting)
        self.assertEqual([self.states(one) for one in waiting], [["resubmitted", "succeeded"]] * 2)

    @unittest.skipIf(PINNED == "real", "the stand-in plays the Manager")
    def test_a_restart_in_place_keeps_them_too(self) -> None:
        host = self.start()
        self.block(host)
        waiting = [host.submit(workflow("tiny")) for _ in range(3)]
        try:
            host.request("POST", "/standin/reboot")
        except (OSError, ComfyError):
            pass
        self.wait_final(waiting)
        self.assertEqual([self.states(one) for one in waiting], [["resubmitted", "succeeded"]] * 3)
        self.assertEqual(self.bodies(), [])

    def test_who_needs_a_secret_is_lost_and_it_is_nowhere(self) -> None:
        """Who is signed in sends a token with every prompt: a job that no node of needs it is none of them."""
        host = self.start(more_nodes=[SIGNED])
        self.block(host)
        token = {"api_key_comfy_org": CANARY, "auth_token_comfy_org": CANARY}
        secret = host.submit({**workflow("tiny"), "9": {"class_type": "SignedKey", "inputs": {}}}, extra_data=token)
        plain = host.submit(workflow("tiny"), extra_data=token)
        self.kill(host)
        self.wait_final([secret, plain])
        self.assertEqual((self.states(secret), self.reasons(secret)), (["lost"], ["needs_secret"]))
        self.assertEqual(self.states(plain), ["resubmitted", "succeeded"])
        for path in (path for root in ("run", "data") for path in (self.base / root).rglob("*") if path.is_file()):
            self.assertNotIn(CANARY.encode(), path.read_bytes(), path)

    def test_a_workflow_that_was_at_work_at_two_deaths_is_not_tried_a_third_time(self) -> None:
        host = self.start()
        deadly = [host.submit(workflow("sigkill")) for _ in range(4)]
        other = host.submit(workflow("tiny"))
        self.wait_final([*deadly, other], 60)
        self.assertEqual([self.states(one)[-1] for one in deadly], ["failed", "failed", "lost", "lost"])
        self.assertEqual(self.states(other)[-1], "succeeded")
        for reason in self.reasons(*deadly[2:]):
            self.assertRegex(reason, r"^quarantined [0-9a-f]{8} StandinOut$")
        self.assertEqual(len(self.exits()), 2)
        self.assertEqual(self.bodies(), [])

    def test_nobody_waits_for_who_will_not_come_back(self) -> None:
        """The supervisor is stopped with its command; the next agent ends what it left."""
        host = self.start()
        self.block(host)
        host.submit(job("StandinSleep", value=1, seconds=60.0))  # begins when the first is interrupted
        waiting = [host.submit(workflow("tiny")) for _ in range(2)]
        host.stop(signal.SIGTERM)
        agent = subprocess.Popen([str(binary()), "agent"], env={**os.environ, **self.env}, stderr=subprocess.DEVNULL)
        try:
            wait_until((self.base / "run/control.sock").exists, 10, "an agent")
            self.wait_final(waiting)
            self.assertEqual([self.states(one) for one in waiting], [["lost"]] * 2)
            self.assertEqual(self.reasons(*waiting), ["not_restarted"] * 2)
            self.assertEqual(self.bodies(), [])
        finally:
            agent.terminate()
            agent.wait(20)

    def test_without_being_asked_nothing_is_kept_and_who_waited_is_lost(self) -> None:
        del self.env["COMFYMON_RESUBMIT"]
        host = self.start()
        self.block(host)
        waiting = [host.submit(workflow("tiny")) for _ in range(2)]
        self.assertFalse((self.base / "run/bodies").exists())
        self.kill(host)
        self.wait_final(waiting)
        self.assertEqual([self.states(one) for one in waiting], [["lost"]] * 2)
        time.sleep(1)
        self.assertEqual(host.history(), {})

    def test_the_configuration_file_can_ask_for_it(self) -> None:
        del self.env["COMFYMON_RESUBMIT"]
        (self.base / "c.json").write_text('{"jobs": {"resubmit": true}}')
        self.env["COMFYMON_CONFIG"] = str(self.base / "c.json")
        host = self.start()
        self.block(host)
        host.submit(job("StandinValue", value=1))
        self.assertEqual(len(self.bodies()), 1)

    def test_whenever_who_ever_dies_no_job_runs_twice_and_each_has_one_end(self) -> None:
        """ComfyUI and the agent are killed at moments of chance; a node writes down each time it is run."""
        seed = int(os.environ.get("COMFYMON_SEED", str(time.time_ns() % 1000000)))
        chance, deaths = random.Random(seed), int(os.environ.get("COMFYMON_DEATHS", "4"))
        print(f"seed {seed}", file=sys.stderr)
        self.env["COMFYMON_CRASH_LIMIT"] = "0"
        ledger = self.base / "ledger"
        self.env["LEDGER"] = str(ledger)
        node = self.base / "ledger_node"
        node.mkdir()
        (node / "__init__.py").write_text(LEDGER_NODE)
        host = self.host(node_dirs=[NODE, str(node)])
        submitted: List[str] = []
        for _ in range(deaths):
            for _ in range(chance.randint(2, 6)):
                submitted.append(host.submit(written_down(len(submitted), chance.uniform(0, 0.2))))
            time.sleep(chance.uniform(0, 0.6))
            if chance.random() < 0.5:
                children = Path(f"/proc/{host.pid}/task/{host.pid}/children").read_text().split()
                for pid in children:
                    if b"\0agent\0" in Path(f"/proc/{pid}/cmdline").read_bytes():
                        os.kill(int(pid), signal.SIGKILL)
                time.sleep(chance.uniform(0, 0.3))
            self.kill(host, timeout=90)
        self.wait_final(submitted, 60)
        time.sleep(1)  # what is run twice would be by now
        ran = ledger.read_text().split() if ledger.exists() else []
        self.assertEqual(len(ran), len(set(ran)), "a job ran twice")
        rows = self.jobs()
        for number, prompt_id in enumerate(submitted):
            states = self.states(prompt_id, rows)
            self.assertEqual(set(states[:-1]), {"resubmitted"} if states[1:] else set(), states)
            self.assertIn(states[-1], ("succeeded", "failed"), (number, states))
            if states[-1] == "succeeded":
                self.assertIn(str(number), ran)
        self.assertEqual(self.bodies(), [])


LEDGER_NODE = '''
import os, time

class Ledger:
    RETURN_TYPES, FUNCTION, CATEGORY = ("INT",), "run", "standin"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"number": ("INT", {}), "seconds": ("FLOAT", {})}}

    def run(self, number, seconds):
        fd = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(fd, f"{number}\\n".encode())
        os.close(fd)
        time.sleep(seconds)
        return (number,)

NODE_CLASS_MAPPINGS = {"Ledger": Ledger}
'''


def written_down(number: int, seconds: float) -> Dict[str, Any]:
    """A workflow of a shape of its own: none of them is at work at two deaths."""
    graph: Dict[str, Any] = {"l": {"class_type": "Ledger", "inputs": {"number": number, "seconds": seconds}}}
    last = "l"
    for i in range(number):
        graph[str(i)] = {"class_type": "StandinValue", "inputs": {"value": [last, 0]}}
        last = str(i)
    graph["o"] = {"class_type": "StandinOut", "inputs": {"value": [last, 0]}}
    return graph


if __name__ == "__main__":
    unittest.main()
