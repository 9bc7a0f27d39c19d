"""ComfyUI under `comfymon run`: the stand-in with its own deaths, its memory, its restarts.

No agent unless a test says so: the parent is to be seen alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
from http.client import HTTPException
from pathlib import Path
from typing import Any, Dict, List, Sequence

TESTS = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TESTS))
sys.path.insert(0, str(TESTS / "standin"))
from client import PINNED, REST_MB, ComfyError, ComfyUI  # noqa: E402
from support.harness import ITS_OWN_MEMORY, ROOT as REPOSITORY, binary, sanitizer, wait_until  # noqa: E402

NODE = Path(os.environ.get("COMFYMON_BUILD") or REPOSITORY / "build/release") / "node" / "comfymon"


def job(node: str, **inputs: Any) -> Dict[str, Any]:
    """One node, and an output that wants its result."""
    return {"1": {"class_type": node, "inputs": inputs}, "2": {"class_type": "StandinOut", "inputs": {"value": ["1", 0]}}}


def allocate(mbytes: int, keep: bool) -> Dict[str, Any]:
    return {"1": {"class_type": "StandinAllocate", "inputs": {"mbytes": mbytes, "keep": keep}},
            "2": {"class_type": "StandinMeasure", "inputs": {"image": ["1", 0]}},
            "3": {"class_type": "StandinOut", "inputs": {"value": ["2", 0]}}}


class Guarded(unittest.TestCase):
    options: Sequence[str] = ("--no-agent",)

    def setUp(self) -> None:
        self.base = Path(tempfile.mkdtemp(prefix="cm-", dir="/tmp"))
        self.addCleanup(shutil.rmtree, self.base, ignore_errors=True)
        self.env = {"COMFYMON_RUN_DIR": str(self.base / "run"), "COMFYMON_DATA_DIR": str(self.base / "data"),
                    "COMFYMON_DESTINATIONS": "none", "COMFYMON_GRACE": "2s", "COMFYMON_RUN_DRAIN": "1s"}

    def host(self, *options: str, before: Sequence[str] = (), **more: Any) -> ComfyUI:
        """Started; its `pid` is the parent's."""
        (self.base / "comfy").mkdir(exist_ok=True)
        host = ComfyUI(kind=PINNED, env=self.env, base=str(self.base / "comfy"),
                       wrapper=[*before, str(binary()), "run", *self.options, *options, "--"], **more)
        self.addCleanup(self.end, host)
        host.start()
        return host

    @staticmethod
    def end(host: ComfyUI) -> None:
        host.stop(signal.SIGTERM)
        host.close()

    def exits(self) -> List[Dict[str, str]]:
        file = self.base / "data/exits"
        return [dict(pair.split("=", 1) for pair in line.split()[1:])
                for line in (file.read_text().splitlines() if file.exists() else [])]

    def supervisor(self) -> Dict[str, str]:
        """What the parent says of itself."""
        file = next((self.base / "run").glob("supervisor-*[0-9]"))
        return dict(line.split("=", 1) for line in file.read_text().splitlines())

    def order(self, why: str, detail: str) -> None:
        """As the collector gives one: whole or absent."""
        temporary = self.base / "order"
        temporary.write_text(f"why={why} detail={detail}\n")
        temporary.rename(self.base / "run" / ("order-" + self.supervisor()["life"]))

    def verdicts(self) -> List[str]:
        return [e["verdict"] for e in self.exits()]

    def wait_exit(self, count: int = 1, timeout: float = 20) -> Dict[str, str]:
        wait_until(lambda: len(self.exits()) >= count, timeout, f"end number {count}")
        return self.exits()[count - 1]

    def deaths(self) -> List[Dict[str, Any]]:
        """As many as there are lines, newest first: a black box is written a moment after its line."""
        folder = self.base / "data/deaths"
        wait_until(lambda: len(list(folder.glob("*.json"))) >= len(self.exits()), 10, "a black box for each end")
        out = subprocess.run([str(binary()), "deaths", "--json"], env={**os.environ, **self.env}, capture_output=True,
                             timeout=30, check=True).stdout
        return [json.loads(line) for line in out.splitlines()]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def reachable(host: ComfyUI) -> bool:
    try:
        host.request("GET", "/prompt", timeout_s=2)
        return True
    except (OSError, HTTPException):
        return False


def provoke(host: ComfyUI, prompt: Dict[str, Any]) -> None:
    """Submit what may end the host before it has answered."""
    with contextlib.suppress(OSError, HTTPException):
        host.submit(prompt)


def resident_mb(pid: int) -> int:
    """Of a process and its children."""
    total = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[1]) == pid or int(path.parent.name) == pid:
            total += int(fields[21]) * 4096 >> 20
    return total


@unittest.skipIf(sanitizer() == "thread", ITS_OWN_MEMORY)
class SoftLimit(Guarded):
    options = ("--no-agent", "--memory-limit", f"{REST_MB + 1000}M",
               "--set", f"run.memory_soft_limit={REST_MB + 250}M")

    def test_memory_that_can_be_freed_is_asked_back_and_nobody_is_restarted(self) -> None:
        host = self.host()
        host.run(allocate(REST_MB // 2 + 300, keep=False))
        self.assertGreater(resident_mb(host.pid), REST_MB // 2 + 300)
        wait_until(lambda: resident_mb(host.pid) < REST_MB + 250, 10, "the memory to be given back")
        wait_until(lambda: "soft_limit_freed" in host.log(), 5, "the word of it")
        time.sleep(7)   # longer than it looks at what that has brought
        self.assertEqual(self.exits(), [])
        host.run(allocate(10, keep=False))

    def test_who_holds_on_to_it_is_restarted_between_two_jobs(self) -> None:
        host = self.host()
        host.run(allocate(REST_MB // 2 + 300, keep=True))
        ended = host.submit(job("StandinSleep", value=1, seconds=8.0))
        end = self.wait_exit(timeout=40)
        self.assertEqual((end["verdict"], end["restarted"]), ("limit_soft", "1"))
        self.assertLess(host.log().index("Prompt executed in 8."), host.log().index("why=soft_limit"), ended)
        host.wait_ready()
        host.run(allocate(10, keep=False))
        death = self.deaths()[0]
        self.assertIn("MiB held after /free", death["evidence"][0])
        self.assertEqual(len(self.exits()), 1)

    def test_whose_queue_is_never_empty_is_restarted_between_two_jobs_all_the_same(self) -> None:
        host = self.host("--set", "run.memory_soft_wait=2s")
        host.run(allocate(REST_MB // 2 + 300, keep=True))
        wait_until(lambda: "soft_limit_freed" in host.log(), 15, "the freeing")
        for i in range(80):
            host.submit(job("StandinSleep", value=i, seconds=0.5))
        end = self.wait_exit(timeout=30)
        self.assertEqual((end["verdict"], end["restarted"]), ("limit_soft", "1"))
        self.assertIn("never idle", self.deaths()[0]["evidence"][0])
        self.assertLess(host.log().index("until=idle"), host.log().index("until=job"))
        host.wait_ready()
        host.run(allocate(10, keep=False))

    def test_a_busy_one_is_left_alone(self) -> None:
        host = self.host()
        prompt = host.submit({**allocate(REST_MB // 2 + 300, keep=False),
                              "4": {"class_type": "StandinSleep", "inputs": {"value": ["2", 0], "seconds": 4.0}},
                              "5": {"class_type": "StandinOut", "inputs": {"value": ["4", 0]}}})
        host.wait(prompt)
        wait_until(lambda: "soft_limit_freed" in host.log(), 15, "the freeing after it")
        self.assertLess(host.log().index("Prompt executed in"), host.log().index("soft_limit_freed"))
        self.assertEqual(self.exits(), [])

    def test_with_restart_never_it_is_only_asked(self) -> None:
        host = self.host("--restart", "never")
        host.run(allocate(REST_MB // 2 + 300, keep=True))
        wait_until(lambda: "soft_limit_freed" in host.log(), 15, "the freeing")
        time.sleep(10)
        self.assertEqual(self.exits(), [])


class Ends(Guarded):
    """Every way in which it ends, and that the next one takes the next prompt."""

    def after(self, host: ComfyUI, node: str, **inputs: Any) -> Dict[str, Any]:
        """Submit what ends it; the death, once the next life has answered a prompt."""
        life = self.supervisor()["life"]
        provoke(host, job(node, **inputs))
        self.wait_exit()
        wait_until(lambda: self.supervisor()["life"] != life, 20, "the next start")
        host.wait_ready()
        host.run(job("StandinValue", value=1))
        death = self.deaths()[0]
        self.assertTrue(death["restarted"])
        self.assertEqual(death["life"], life)
        return death

    def test_a_segmentation_fault_and_an_abort(self) -> None:
        host = self.host()
        death = self.after(host, "StandinSegfault", value=1)
        self.assertEqual((death["verdict"], death["signal"]), ("crash_segv", signal.SIGSEGV))
        provoke(host, job("StandinAbort", value=1))
        end = self.wait_exit(2)
        self.assertEqual((end["verdict"], end["signal"]), ("crash_abort", str(int(signal.SIGABRT))))

    def test_a_kill_from_outside_is_no_memory(self) -> None:
        host = self.host()
        death = self.after(host, "StandinKill", value=1)
        self.assertEqual((death["verdict"], death["signal"]), ("killed", signal.SIGKILL))
        self.assertIn("no OOM counter rose", " ".join(death["evidence"]))

    def test_the_kernels_kill_in_its_cgroup_is(self) -> None:
        host = self.host("--memory-limit", f"{REST_MB + 300}M")
        if not self.supervisor()["method"].startswith("cgroup"):
            self.skipTest("no memory cgroup can be made here: " + self.supervisor()["why"])
        life = self.supervisor()["life"]
        provoke(host, allocate(REST_MB + 600, keep=False))
        end = self.wait_exit()
        self.assertEqual((end["verdict"], end["certainty"], end["life"]), ("oom_cgroup", "certain", life))
        wait_until(lambda: self.supervisor()["life"] != life, 20, "the next start")
        host.wait_ready()
        host.run(allocate(10, keep=False))

    def test_our_own_kill_where_no_cgroup_is(self) -> None:
        if os.geteuid() != 0 or shutil.which("unshare") is None:
            self.skipTest("needs root and unshare to hide the cgroups")
        hide = "umount -l /sys/fs/cgroup/memory 2>/dev/null || umount -l /sys/fs/cgroup; exec \"$@\""
        host = self.host("--memory-limit", f"{REST_MB + 300}M", before=("unshare", "--mount", "sh", "-c", hide, "sh"))
        self.assertEqual(self.supervisor()["method"], "watch")
        provoke(host, allocate(REST_MB + 600, keep=False))
        end = self.wait_exit()
        self.assertEqual((end["verdict"], end["certainty"]), ("limit_watch", "certain"))

    def test_a_dead_worker_is_a_zombie_when_the_collector_says_so(self) -> None:
        host = self.host()
        host.submit(job("StandinExit", value=1))
        time.sleep(1.5)
        self.assertEqual(self.exits(), [])     # it answers, and works no more
        self.assertEqual(host.request("GET", "/prompt")["exec_info"]["queue_remaining"], 1)
        self.order("zombie", "the worker's thread has gone")
        end = self.wait_exit()
        self.assertEqual((end["verdict"], end["restarted"]), ("zombie", "1"))
        self.assertEqual(self.deaths()[0]["evidence"][0], "zombie: the worker's thread has gone")

    def test_a_hang_that_no_interrupt_ends(self) -> None:
        host = self.host()
        prompt = host.submit(job("StandinHang", value=1, seconds=600.0))
        host.wait_running(prompt)
        host.request("POST", "/interrupt")
        time.sleep(1)
        self.assertEqual(host.request("GET", "/prompt")["exec_info"]["queue_remaining"], 1)
        self.order("no_progress", "prompt stands still")
        self.assertEqual(self.wait_exit()["verdict"], "hang")

    def test_an_exec_in_place_is_no_end(self) -> None:
        host = self.host()
        before = self.supervisor()
        provoke(host, job("StandinExec", value=1))
        wait_until(lambda: not reachable(host), 10, "the old server to go")
        host.wait_ready()
        host.run(job("StandinValue", value=2))
        self.assertEqual(self.exits(), [])
        after = self.supervisor()
        self.assertEqual([after[k] for k in ("life", "command_pid", "starts")],
                         [before[k] for k in ("life", "command_pid", "starts")])
        os.kill(int(after["command_pid"]), signal.SIGKILL)
        end = self.wait_exit()
        self.assertEqual((end["verdict"], end["life"], end["pid"]), ("killed", before["life"], before["command_pid"]))

    def test_a_port_in_use_is_said_with_certainty(self) -> None:
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            with self.assertRaises(ComfyError):
                self.host("--restart", "never", port=other.getsockname()[1])
        end = self.wait_exit()
        self.assertEqual((end["verdict"], end["certainty"], end["restarted"]), ("port_in_use", "certain", "0"))

    def test_who_dies_while_it_starts_is_given_up_after_a_few_times(self) -> None:
        node = self.base / "broken_node"
        node.mkdir()
        (node / "__init__.py").write_text("import os\nos._exit(7)\n")
        self.env["COMFYMON_CRASH_LIMIT"] = "2"
        with self.assertRaises(ComfyError):
            self.host(node_dirs=[str(node)])
        self.assertEqual([(e["verdict"], e["exit"], e["restarted"]) for e in self.exits()],
                         [("exit_error", "7", "1"), ("exit_error", "7", "0")])
        death = self.deaths()[0]
        self.assertIn("after its start; it was not seen to listen", " ".join(death["evidence"]))
        self.assertIn("crash loop", death["restart_why"])


class Together(Guarded):
    """With the agent and the probe: whoever dies beside, no end is lost, and it names the job."""

    options = ()

    def setUp(self) -> None:
        super().setUp()
        if not NODE.is_dir():
            self.skipTest("the node folder is not built here")

    def started(self) -> ComfyUI:
        """With an agent that is old enough to be started again at once, and a job that runs."""
        host = self.host(node_dirs=[str(NODE)])
        wait_until(lambda: self.agent(), 10, "the agent")
        time.sleep(5.2)
        prompt = host.submit(job("StandinSleep", value=1, seconds=60.0))
        host.wait_running(prompt)
        self.prompt, self.waiting = prompt, host.submit(job("StandinValue", value=7))
        time.sleep(0.5)     # its probe has told of both
        return host

    def agent(self) -> int:
        out = subprocess.run([str(binary()), "status", "--json"], env={**os.environ, **self.env}, capture_output=True,
                             timeout=20, check=False)
        return int(json.loads(out.stdout)["pid"]) if out.returncode == 0 and out.stdout else 0

    def ask(self, *verb: str) -> str:
        return subprocess.run([str(binary()), *verb], env={**os.environ, **self.env, "COLUMNS": "100"}, text=True,
                              capture_output=True, timeout=20, check=False).stdout

    def jobs(self) -> Dict[str, Dict[str, Any]]:
        return {j["prompt_id"]: j for j in map(json.loads, self.ask("jobs", "--json").splitlines())}

    def death_of_the_job(self) -> Dict[str, Any]:
        """Of the newest one, once the journal has heard of it; the jobs say the same."""
        wait_until(lambda: self.jobs().get(self.waiting, {}).get("state") == "lost", 20, "the end of the jobs")
        death = self.deaths()[0]
        self.assertEqual((death["prompt_id"], death["node_id"], death["node_class"]), (self.prompt, "1", "StandinSleep"))
        self.assertEqual(death["jobs_waiting"], 1)
        ran, waited = self.jobs()[self.prompt], self.jobs()[self.waiting]
        self.assertEqual((ran["state"], ran["reason"], ran["node_id"]), ("failed", death["verdict"], "1"))
        self.assertEqual(waited["reason"], death["verdict"])
        screen = self.ask("death", death["id"])
        for text in (death["verdict"], self.prompt, "node 1 StandinSleep", "1 more waited", death["evidence"][0]):
            self.assertIn(text, screen)
        self.assertLess(len(screen.splitlines()), 40)
        self.assertEqual(self.ask("death", "last"), screen)
        return death

    def test_the_collector_is_killed_and_comfyui_goes_on(self) -> None:
        host = self.started()
        before, agent = self.supervisor(), wait_until(self.agent, 10, "its pid")   # never 0: that would be everybody here
        os.kill(agent, signal.SIGKILL)
        wait_until(lambda: self.agent() not in (0, agent), 15, "another agent")
        self.assertEqual(self.supervisor()["life"], before["life"])
        self.assertEqual(self.exits(), [])
        os.kill(int(before["command_pid"]), signal.SIGKILL)
        self.wait_exit()
        self.assertEqual(self.death_of_the_job()["verdict"], "killed")
        host.wait_ready()

    def test_comfyui_dies_while_there_is_no_collector(self) -> None:
        self.started()
        os.kill(wait_until(self.agent, 10, "its pid"), signal.SIGKILL)
        time.sleep(0.2)
        os.kill(int(self.supervisor()["command_pid"]), signal.SIGKILL)
        self.assertEqual(self.wait_exit()["verdict"], "killed")
        self.assertEqual(self.death_of_the_job()["verdict"], "killed")

    def test_both_are_killed_at_once(self) -> None:
        self.started()
        agent, comfy = wait_until(self.agent, 10, "its pid"), int(self.supervisor()["command_pid"])
        os.kill(agent, signal.SIGKILL)
        os.kill(comfy, signal.SIGKILL)
        self.assertEqual(self.wait_exit()["verdict"], "killed")
        self.assertEqual(self.death_of_the_job()["verdict"], "killed")

    def test_the_parent_is_killed_and_the_agent_says_lost(self) -> None:
        host = self.started()
        agent = self.agent()
        life = self.supervisor()["life"]
        host.send_signal(signal.SIGKILL)
        wait_until(lambda: not reachable(host), 5, "the end of ComfyUI with it")
        self.addCleanup(lambda: alive(agent) and os.kill(agent, signal.SIGTERM))
        end = self.wait_exit()
        self.assertEqual((end["verdict"], end["certainty"], end["life"]), ("lost", "unsure", life))
        self.assertEqual(self.death_of_the_job()["verdict"], "lost")
        self.assertEqual(self.agent(), agent)

    def test_the_next_parent_says_lost_where_no_agent_was(self) -> None:
        self.options = ("--no-agent",)
        host = self.host()
        life = self.supervisor()["life"]
        host.send_signal(signal.SIGKILL)
        wait_until(lambda: not reachable(host), 5, "the end of ComfyUI with it")
        self.assertEqual(self.exits(), [])
        subprocess.run([str(binary()), "run", "--no-agent", "--", "true"], env={**os.environ, **self.env}, timeout=20,
                       check=True)
        self.assertEqual([(e["life"] == life, e["verdict"]) for e in self.exits()], [(True, "lost"), (False, "exit_clean")])

    def test_who_survives_its_parent_is_lost_when_it_ends(self) -> None:
        self.options = ("--no-agent", "--survive")
        host = self.host()
        comfy = int(self.supervisor()["command_pid"])
        self.addCleanup(lambda: alive(comfy) and os.kill(comfy, signal.SIGKILL))
        host.send_signal(signal.SIGKILL)
        host.process.wait(5)

        def another() -> None:
            subprocess.run([str(binary()), "run", "--no-agent", "--", "true"], env={**os.environ, **self.env},
                           timeout=20, check=True)
        another()
        self.assertEqual(self.verdicts(), ["exit_clean"])
        host.run(job("StandinValue", value=1))
        os.kill(comfy, signal.SIGKILL)
        wait_until(lambda: not alive(comfy), 5, "its end")
        another()
        self.assertEqual(self.verdicts(), ["exit_clean", "lost", "exit_clean"])


if __name__ == "__main__":
    unittest.main()
