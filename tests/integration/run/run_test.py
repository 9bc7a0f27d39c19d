"""`comfymon run`: a parent that never loses an exit, enforces a limit, and passes everything through."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from support.harness import ROOT, binary, can_connect, passed_env, wait_until  # noqa: E402

PYTHON = sys.executable
ALLOCATE = """
import time
held = []
for _ in range(400):
    held.append(bytearray(4 << 20))
    time.sleep(0.01)
"""


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def writable_cgroup() -> bool:
    """Can a memory cgroup be made here? The supervisor itself is asked."""
    with tempfile.TemporaryDirectory(prefix="cm-", dir="/tmp") as base:
        env = {**passed_env(), "COMFYMON_RUN_DIR": base + "/r", "COMFYMON_DATA_DIR": base + "/d"}
        subprocess.run([str(binary()), "run", "--no-agent", "--memory-limit", "100M", "--", "true"], env=env,
                       capture_output=True, timeout=20, check=False)
        boxes = list(Path(base, "d/deaths").glob("*.json"))
        return bool(boxes) and json.loads(boxes[0].read_text())["method"].startswith("cgroup")


class Supervised(unittest.TestCase):
    def setUp(self) -> None:
        self.base = Path(tempfile.mkdtemp(prefix="cm-", dir="/tmp"))
        self.env = {**passed_env(), "HOME": str(self.base), "COMFYMON_RUN_DIR": str(self.base / "run"),
                    "COMFYMON_DATA_DIR": str(self.base / "data"), "COMFYMON_DESTINATIONS": "none",
                    "COMFYMON_RUN_DRAIN": "0s"}
        self.process: Optional["subprocess.Popen[bytes]"] = None
        self.addCleanup(shutil.rmtree, self.base, ignore_errors=True)
        self.addCleanup(self.end)

    def end(self) -> None:
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()

    def command(self, options: Sequence[str], command: Sequence[str]) -> List[str]:
        return [str(binary()), "run", *options, "--", *command]

    def run_it(self, *command: str, options: Sequence[str] = ("--no-agent", "--restart", "never"),
               stdin: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
        return subprocess.run(self.command(options, command), env=self.env, input=stdin, capture_output=True,
                              timeout=60, check=False)

    def start(self, *command: str, options: Sequence[str] = ("--no-agent", "--restart", "never"),
              **more: Any) -> "subprocess.Popen[bytes]":
        self.process = subprocess.Popen(self.command(options, command), env=self.env, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, **more)
        return self.process

    def line(self) -> str:
        assert self.process is not None and self.process.stdout is not None
        return self.process.stdout.readline().decode().strip()

    def deaths(self) -> List[Dict[str, Any]]:
        """Newest first, as a user lists them."""
        out = subprocess.run([str(binary()), "deaths", "--json"], env=self.env, capture_output=True, timeout=30,
                             check=True).stdout
        return [json.loads(line) for line in out.splitlines()]

    def box(self) -> Dict[str, Any]:
        files = sorted((self.base / "data/deaths").glob("*.json"))
        return dict(json.loads(files[-1].read_text()))


    def exits(self) -> List[Dict[str, str]]:
        """Oldest first: the lines that the agent reads."""
        file = self.base / "data/exits"
        return [dict(pair.split("=", 1) for pair in line.split()[1:])
                for line in (file.read_text().splitlines() if file.exists() else [])]

    def order(self, life: str, text: str) -> None:
        """As the collector gives one: whole or absent."""
        temporary = self.base / "order"
        temporary.write_text(text)
        temporary.rename(self.base / "run" / f"order-{life}")


class PassesThrough(Supervised):
    def test_exit_code_and_both_streams_byte_for_byte(self) -> None:
        done = self.run_it(PYTHON, "-c", "import sys; sys.stdout.buffer.write(bytes(range(256)) * 2000);"
                           "sys.stderr.buffer.write(b'to stderr\\n'); sys.exit(7)")
        self.assertEqual(done.returncode, 7)
        self.assertEqual(done.stdout, bytes(range(256)) * 2000)
        self.assertIn(b"to stderr\n", done.stderr)

    def test_standard_input_is_the_original(self) -> None:
        done = self.run_it("cat", stdin=b"x" * 100_000)
        self.assertEqual(done.stdout, b"x" * 100_000)

    def test_a_signal_is_128_more_as_a_shell_says_it(self) -> None:
        self.assertEqual(self.run_it("sh", "-c", "kill -SEGV $$").returncode, 128 + signal.SIGSEGV)

    def test_signals_are_as_at_birth_although_ours_were_not(self) -> None:
        def ignore() -> None:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})

        self.start("cat", "/proc/self/status", preexec_fn=ignore)
        assert self.process is not None
        out = self.process.communicate(timeout=30)[0].decode()
        status = dict(line.split(":\t", 1) for line in out.splitlines() if ":\t" in line)
        self.assertEqual(int(status["SigBlk"], 16), 0)
        self.assertEqual(int(status["SigIgn"], 16), 0)

    def test_a_terminal_stays_one(self) -> None:
        script = ("import os, sys; print(sys.stdin.isatty(), sys.stdout.isatty(), sys.stderr.isatty(),"
                  "os.get_terminal_size().columns); print('typed', input())")
        master, slave = pty.openpty()
        import fcntl
        import struct
        import termios
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 123, 0, 0))
        self.process = subprocess.Popen(self.command(("--no-agent", "--restart", "never"), (PYTHON, "-c", script)),
                                        env=self.env, stdin=slave, stdout=slave, stderr=slave)
        os.close(slave)
        seen = b""
        os.write(master, b"something\n")
        while b"typed something" not in seen:
            piece = os.read(master, 4096)
            self.assertTrue(piece)
            seen += piece
        self.assertIn(b"True True True 123", seen)
        self.assertEqual(self.process.wait(20), 0)
        os.close(master)

    def test_what_cannot_be_started_is_said_as_a_shell_does(self) -> None:
        done = self.run_it("/nonexistent/python")
        self.assertEqual(done.returncode, 127)
        self.assertIn(b"/nonexistent/python", done.stderr)
        self.assertEqual(self.run_it("/etc").returncode, 126)

    def test_usage_is_refused_before_anything_runs(self) -> None:
        for options in (("--memory-limit", "lots"), ("--memory-limit", "120%"), ("--memory-limit", "1M"),
                        ("--restart", "sometimes")):
            done = self.run_it("sh", "-c", "echo ran", options=options)
            self.assertEqual(done.returncode, 2, options)
            self.assertEqual(done.stdout, b"")
        self.assertEqual(subprocess.run([str(binary()), "run"], env=self.env, capture_output=True,
                                        timeout=20, check=False).returncode, 2)


class Verdicts(Supervised):
    def verdict(self, *command: str, options: Sequence[str] = ("--no-agent", "--restart", "never")) -> str:
        self.run_it(*command, options=options)
        newest = self.deaths()[0]
        self.assertTrue(newest["evidence"])
        return str(newest["verdict"])

    def test_each_end_has_its_own(self) -> None:
        cases = (("exit_clean", "true"), ("exit_error", "exit 3"), ("killed", "kill -KILL $$"),
                 ("killed", "kill -TERM $$"), ("crash_segv", "kill -SEGV $$"), ("crash_abort", "kill -ABRT $$"),
                 ("port_in_use", "echo 'OSError: [Errno 98] Address already in use' >&2; exit 1"),
                 ("port_in_use", "printf '\\0\n[ERROR] Port 8188 is already in use on address 127.0.0.1.'; exit 1"),
                 ("exit_error", "echo 'the GPU is already in use'; exit 1"))
        for verdict, script in cases:
            self.assertEqual(self.verdict("sh", "-c", script), verdict, script)

    def test_137_alone_is_no_oom(self) -> None:
        self.assertEqual(self.verdict("sh", "-c", "exit 137"), "exit_error")

    def test_the_black_box_holds_the_last_lines_and_nobody_else_may_read_it(self) -> None:
        self.run_it("sh", "-c", "seq 1 20000; echo last words >&2; exit 1")
        box = self.box()
        self.assertIn("\n19999\n20000\n", box["output"])
        self.assertIn("last words\n", box["output"])
        self.assertLessEqual(len(box["output"]), 65536)
        file = next((self.base / "data/deaths").glob("*.json"))
        self.assertEqual(file.stat().st_mode & 0o777, 0o600)

    def test_hostile_output_is_still_json_and_a_screen(self) -> None:
        self.run_it(PYTHON, "-c", "import sys; sys.stdout.buffer.write(b'\\xff\\x00\\x1b[2J\"\\\\ ' * 30000); sys.exit(1)")
        identity = self.box()["id"]
        shown = subprocess.run([str(binary()), "death", identity], env=self.env, capture_output=True, timeout=20,
                               check=True).stdout
        self.assertNotIn(b"\x1b", shown)

    def test_colours_of_the_last_lines_are_left_out_and_not_their_words(self) -> None:
        self.run_it("sh", "-c", r"printf '\033[32m[INFO]\033[0m got prompt\n\033[1;31mred\033\n\033['; exit 1")
        shown = subprocess.run([str(binary()), "death", self.box()["id"]], env=self.env, capture_output=True, timeout=20,
                               check=True).stdout
        self.assertTrue(shown.endswith(b"last lines\n[INFO] got prompt\nred\n\n"), shown)

    def test_the_oldest_boxes_go(self) -> None:
        for i in range(52):
            self.run_it("sh", "-c", f"exit {i}")
        self.assertEqual(len(list((self.base / "data/deaths").glob("*.json"))), 50)
        self.assertEqual(self.box()["exit_code"], 51)

    def test_an_unknown_death_is_a_problem_and_no_path(self) -> None:
        for identity in ("nope", "../../etc/passwd"):
            done = subprocess.run([str(binary()), "death", identity], env=self.env, capture_output=True, timeout=20,
                                  check=False)
            self.assertEqual(done.returncode, 1)


class Exits(Supervised):
    """One line for each life, before anything slower is written."""

    def test_each_life_has_its_name_and_its_line(self) -> None:
        self.env["COMFYMON_CRASH_LIMIT"] = "2"
        out = self.run_it("sh", "-c", "echo $COMFYMON_LIFE $$; exit 3", options=("--no-agent",)).stdout.decode()
        lives = [line.split() for line in out.splitlines()]
        self.assertEqual(len({life for life, _ in lives}), 2)
        for life, _ in lives:
            self.assertRegex(life, r"^[0-9]+-[12]-[0-9a-f]{8}$")
        self.assertEqual([[e["life"], e["pid"]] for e in self.exits()], lives)
        self.assertEqual([(e["verdict"], e["certainty"], e["exit"], e["signal"], e["restarted"]) for e in self.exits()],
                         [("exit_error", "certain", "3", "-1", "1"), ("exit_error", "certain", "3", "-1", "0")])
        self.assertEqual([e["death"] for e in self.exits()], [d["id"] for d in reversed(self.deaths())])
        self.assertEqual([e["life"] for e in self.exits()], [d["life"] for d in reversed(self.deaths())])
        self.assertTrue(all(int(e["ticks"]) > 0 for e in self.exits()))

    def test_a_grandchild_that_keeps_the_pipe_open_does_not_hold_the_line_back(self) -> None:
        """It writes without end in a session of its own, so that nothing ends it but this test."""
        script = "setsid yes x & echo $!; sleep 1; kill -KILL $$"
        process = self.start("sh", "-c", script)
        holder = int(self.line())
        assert process.stdout is not None
        waste = subprocess.Popen(["cat"], stdin=process.stdout, stdout=subprocess.DEVNULL)
        try:
            self.assertEqual(process.wait(20), 128 + signal.SIGKILL)
            self.assertEqual(self.exits()[0]["verdict"], "killed")
            line, box = self.base / "data/exits", next((self.base / "data/deaths").glob("*.json"))
            self.assertLess(line.stat().st_mtime_ns, box.stat().st_mtime_ns)
        finally:
            with contextlib.suppress(ProcessLookupError):   # it ends of the pipe that we closed
                os.kill(holder, signal.SIGKILL)
            waste.wait(10)

    def test_a_line_that_the_disk_does_not_take_comes_when_it_does(self) -> None:
        if os.geteuid() != 0:
            self.skipTest("needs root to mount a small disk")
        data = self.base / "data"
        data.mkdir(mode=0o700)
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "tmpfs", str(data)], capture_output=True,
                          check=False).returncode != 0:
            self.skipTest("no tmpfs can be mounted here")
        self.addCleanup(subprocess.run, ["umount", "-l", str(data)], check=True)
        filler = data / "filler"
        with contextlib.suppress(OSError):
            filler.write_bytes(b"x" * (1 << 20))
        process = self.start("sh", "-c", "echo $COMFYMON_LIFE; read x; exit 3", options=("--no-agent",), stdin=subprocess.PIPE)
        life = self.line()
        assert process.stdin is not None and process.stderr is not None
        self.env["COMFYMON_CRASH_LIMIT"] = "0"
        process.stdin.close()
        while b"exit_not_written" not in (line := process.stderr.readline()):
            self.assertTrue(line)
        filler.unlink()
        wait_until(lambda: [e["life"] for e in self.exits()][:1] == [life], 10, "the line after all")

    def test_a_box_by_a_clock_that_was_set_back_is_kept(self) -> None:
        self.run_it("true")
        newer = self.base / "data/deaths"
        for i in range(50):
            (newer / f"2099{i:02}01T000000.000-1.json").write_text("{}")
        self.run_it("sh", "-c", "exit 9")
        self.assertIn(9, [json.loads(box.read_text()).get("exit_code") for box in newer.glob("*.json")])

    def test_the_line_is_written_where_no_black_box_can_be(self) -> None:
        (self.base / "data").mkdir(mode=0o700)
        (self.base / "data/deaths").write_text("in the way")
        self.assertEqual(self.run_it("sh", "-c", "exit 3").returncode, 3)
        self.assertEqual(self.exits()[0]["exit"], "3")


class Orders(Supervised):
    """The collector asks for a restart; the parent obeys for its own life alone."""

    POLITE = ("import os, time\nprint(os.environ['COMFYMON_LIFE'], flush=True)\n"
              "try:\n    time.sleep(60)\nexcept KeyboardInterrupt:\n    print('bye', flush=True)")

    def test_an_order_ends_it_and_the_policy_starts_it_again(self) -> None:
        process = self.start(PYTHON, "-c", self.POLITE, options=("--no-agent",))
        life = self.line()
        self.order(life, "why=zombie detail=thread 4711 has gone\n")
        self.assertEqual(self.line(), "bye")
        other = self.line()
        self.assertNotEqual(other, life)
        newest = self.deaths()[0]
        self.assertEqual((newest["verdict"], newest["exit_code"], newest["restarted"]), ("zombie", 0, True))
        self.assertEqual(newest["evidence"][0], "zombie: thread 4711 has gone")
        self.assertEqual((self.exits()[0]["life"], self.exits()[0]["verdict"]), (life, "zombie"))
        self.assertFalse((self.base / "run" / f"order-{life}").exists())
        process.terminate()
        self.assertEqual(process.wait(10), 0)
        self.assertEqual(self.deaths()[0]["verdict"], "stopped")

    def test_who_is_deaf_to_it_is_killed_after_the_grace(self) -> None:
        self.env["COMFYMON_GRACE"] = "300ms"
        deaf = ("import os, signal, time; signal.signal(2, signal.SIG_IGN);"
                "print(os.environ['COMFYMON_LIFE'], flush=True); time.sleep(60)")
        process = self.start(PYTHON, "-c", deaf)
        self.order(self.line(), "why=no_progress detail=\n")
        self.assertEqual(process.wait(10), 128 + signal.SIGKILL)
        newest = self.deaths()[0]
        self.assertEqual((newest["verdict"], newest["signal"], newest["restarted"]), ("hang", 9, False))

    def test_an_order_for_somebody_else_or_of_nonsense_is_not_obeyed(self) -> None:
        process = self.start(PYTHON, "-c", self.POLITE)
        life = self.line()
        self.order("1-1-aa", "why=zombie detail=\n")
        self.order(life, "why=because detail=\n")
        wait_until(lambda: not (self.base / "run" / f"order-{life}").exists(), 5, "the nonsense to be removed")
        time.sleep(1.2)
        self.assertIsNone(process.poll())
        self.assertTrue((self.base / "run/order-1-1-aa").exists())
        process.terminate()
        self.assertEqual(self.line(), "bye")
        process.wait(10)
        assert process.stderr is not None
        self.assertIn(b"order_refused", process.stderr.read())

    def test_an_order_that_comes_too_late_is_not_left_lying(self) -> None:
        process = self.start("sh", "-c", "echo $COMFYMON_LIFE; read x; exit 3", stdin=subprocess.PIPE)
        life = self.line()
        time.sleep(0.2)     # a look lies behind it, the next one is far
        self.order(life, "why=zombie detail=\n")
        assert process.stdin is not None
        process.stdin.close()
        process.wait(10)
        self.assertFalse((self.base / "run" / f"order-{life}").exists())

    def test_a_stop_during_an_order_ends_us_with_the_orders_verdict(self) -> None:
        self.env["COMFYMON_GRACE"] = "1500ms"
        deaf = ("import os, signal, time; signal.signal(2, signal.SIG_IGN);"
                "print(os.environ['COMFYMON_LIFE'], flush=True); time.sleep(60)")
        process = self.start(PYTHON, "-c", deaf, options=("--no-agent",))
        life = self.line()
        self.order(life, "why=http_silent detail=\n")
        wait_until(lambda: not (self.base / "run" / f"order-{life}").exists(), 5, "the order to be taken")
        process.terminate()
        self.assertEqual(process.wait(10), 128 + signal.SIGKILL)
        newest = self.deaths()[0]
        self.assertEqual((newest["verdict"], newest["restarted"]), ("hang", False))


class Said(Supervised):
    """What the parent says of itself, to who asks the agent or, without one, the buffer."""

    def ask(self, *verb: str) -> Dict[str, Any]:
        return dict(json.loads(subprocess.run([str(binary()), *verb, "--json"], env=self.env, capture_output=True,
                                              timeout=20, check=False).stdout))

    def test_status_and_doctor_say_the_method_in_force_and_the_last_end(self) -> None:
        self.env["COMFYMON_CRASH_LIMIT"] = "0"
        process = self.start("sh", "-c", "echo $$; read x; exit 3", options=("--memory-limit", "512M"),
                             stdin=subprocess.PIPE)
        first = int(self.line())
        wait_until(lambda: can_connect(self.base / "run/comfymon.sock"), 10, "the agent")
        one, = self.ask("status")["supervisors"]
        self.assertEqual((one["pid"], one["command_pid"], one["state"], one["starts"], one["last_verdict"]),
                         (process.pid, first, "running", 1, ""))
        self.assertEqual((one["limit_bytes"], one["soft_limit_bytes"]), (512 << 20, (512 << 20) * 9 // 10))
        self.assertIn(one["method"], ("cgroup1", "cgroup2", "watch"))
        self.assertEqual(one["why"] == "", one["method"] != "watch")
        limit, = (s for s in self.ask("doctor")["stations"] if s["station"] == "limit")
        self.assertEqual(limit["finding"], "ok" if one["method"] != "watch" else "note")
        self.assertIn("512 MiB by", limit["text"])
        assert process.stdin is not None
        process.stdin.close()
        self.line()     # the second life, which ends at once as well
        one = wait_until(lambda: next((s for s in self.ask("status")["supervisors"] if s["last_verdict"]), None), 10,
                         "an end in the status")
        self.assertEqual((one["last_verdict"], one["last_certainty"]), ("exit_error", "certain"))
        self.assertIn(one["last_death"], [d["id"] for d in self.deaths()])
        death, = (s for s in self.ask("doctor")["stations"] if s["station"] == "deaths")
        self.assertIn("exit_error", death["text"])
        process.terminate()
        process.wait(20)
        self.assertEqual(list((self.base / "run").glob("supervisor-*")), [])
        self.assertEqual(self.ask("status")["supervisors"], [])


class Removed(Supervised):
    def test_what_is_removed_under_it_is_made_anew(self) -> None:
        process = self.start("sh", "-c", "echo $COMFYMON_LIFE; exec sleep 60", options=("--no-agent",))
        life = self.line()
        shutil.rmtree(self.base / "run")
        state = self.base / "run" / f"supervisor-{process.pid}"
        wait_until(state.exists, 5, "the state again")
        self.assertIn(f"life={life}\n", state.read_text())
        self.assertEqual(((self.base / "run").stat().st_mode & 0o777, state.stat().st_mode & 0o777), (0o700, 0o600))
        shutil.rmtree(self.base / "data", ignore_errors=True)
        self.order(life, "why=zombie detail=x\n")
        wait_until(lambda: self.exits(), 5, "the line of its end")
        self.assertEqual(self.exits()[0]["verdict"], "zombie")
        self.line()
        process.kill()
        process.wait(5)
        self.run_it("true")     # it sees that the lock has gone
        self.assertEqual([e["verdict"] for e in self.exits()], ["zombie", "lost", "exit_clean"])

    def test_its_cgroup_between_two_lives_too(self) -> None:
        if not writable_cgroup():
            self.skipTest("no memory cgroup can be made here")
        self.env["COMFYMON_CRASH_LIMIT"] = "0"
        process = self.start("sh", "-c", "cat /proc/self/cgroup | grep -E ':(memory|):'; echo .; read x; exit 3",
                             options=("--no-agent", "--memory-limit", "200M"), stdin=subprocess.PIPE)

        def group() -> Path:
            lines = list(iter(self.line, "."))
            path, = (line.split(":", 2)[2] for line in lines if line.endswith(f"comfymon-run-{process.pid}"))
            return next(m / path.lstrip("/") for m in (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup"))
                        if (m / path.lstrip("/")).is_dir())
        first = group()
        assert process.stdin is not None
        process.stdin.close()
        wait_until(lambda: self.exits(), 5, "the end")
        first.rmdir()
        self.assertEqual(group(), first)
        process.terminate()
        process.wait(10)
        self.assertFalse(first.exists())

    def test_the_log_of_an_agent_that_nobody_sees_too(self) -> None:
        process = self.start("sh", "-c", "exec sleep 60", options=())
        log = self.base / "run/agent.log"
        wait_until(lambda: can_connect(self.base / "run/control.sock") and log.exists(), 10, "the agent")
        time.sleep(0.5)     # it has started
        shutil.rmtree(self.base / "run")
        wait_until(lambda: can_connect(self.base / "run/comfymon.sock") and log.exists(), 20, "both again")
        process.terminate()
        process.wait(20)
        self.assertIn("stop", log.read_text())


class MemoryLimit(Supervised):
    def test_a_cgroup_kills_and_says_so(self) -> None:
        if not writable_cgroup():
            self.skipTest("no memory cgroup can be made here")
        done = self.run_it(PYTHON, "-c", ALLOCATE, options=("--no-agent", "--restart", "never", "--memory-limit", "200M"))
        self.assertEqual(done.returncode, 128 + signal.SIGKILL)
        newest = self.deaths()[0]
        self.assertEqual((newest["verdict"], newest["certainty"], newest["limit_bytes"]),
                         ("oom_cgroup", "certain", 200 << 20))
        self.assertGreater(newest["peak_rss_bytes"], 190 << 20)

    def test_the_limit_is_not_ours(self) -> None:
        if not writable_cgroup():
            self.skipTest("no memory cgroup can be made here")
        process = self.start("sh", "-c", "echo $$; exec sleep 60", options=("--no-agent", "--memory-limit", "200M"))
        theirs = Path(f"/proc/{int(self.line())}/cgroup").read_text()
        ours = Path(f"/proc/{process.pid}/cgroup").read_text()
        group = re.compile(rf"/comfymon-run-{process.pid}$", re.M)
        self.assertRegex(theirs, group)
        self.assertNotRegex(ours, group)

    def test_the_group_that_a_killed_parent_left_goes_with_the_next(self) -> None:
        if not writable_cgroup():
            self.skipTest("no memory cgroup can be made here")
        process = self.start("sh", "-c", "echo $$; exec sleep 60", options=("--no-agent", "--memory-limit", "200M"))
        child = int(self.line())
        path = re.search(r"^\d+:(?:memory|):(.*/comfymon-run-\d+)$", Path(f"/proc/{child}/cgroup").read_text(), re.M)
        assert path is not None
        mounts = [Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")]
        group, = (m / path[1].lstrip("/") for m in mounts if (m / path[1].lstrip("/")).is_dir())
        process.kill()
        process.wait(5)
        wait_until(lambda: not alive(child), 5, "the end of the command")
        self.run_it("true", options=("--no-agent", "--memory-limit", "200M"))
        self.assertTrue(group.is_dir())     # so young that somebody may be about to join it
        os.utime(group, (0, 0))
        self.run_it("true", options=("--no-agent", "--memory-limit", "200M"))
        self.assertFalse(group.exists())

    def test_without_a_cgroup_it_is_watched(self) -> None:
        if os.geteuid() != 0 or shutil.which("setpriv") is None:
            self.skipTest("needs root and setpriv to become somebody who may make no cgroup")
        os.chmod(self.base, 0o777)
        self.base.joinpath("w").mkdir(mode=0o700)
        os.chown(self.base / "w", 65534, 65534)
        env = dict(self.env, COMFYMON_RUN_DIR=str(self.base / "w/run"), COMFYMON_DATA_DIR=str(self.base / "w/data"))
        command = self.command(("--no-agent", "--restart", "never", "--memory-limit", "200M"), ("python3", "-c", ALLOCATE))
        done = subprocess.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *command], env=env,
                              capture_output=True, timeout=60, check=False, cwd="/")
        self.assertEqual(done.returncode, 128 + signal.SIGKILL, done.stderr)
        box = json.loads(next((self.base / "w/data/deaths").glob("*.json")).read_text())
        self.assertEqual((box["verdict"], box["method"]), ("limit_watch", "watch"))
        self.assertTrue(box["method_why"])
        self.assertGreater(box["rss_bytes"], 200 << 20)
        self.assertLess(box["rss_bytes"], 600 << 20)


class Restarts(Supervised):
    def test_gives_up_a_crash_loop(self) -> None:
        self.env["COMFYMON_CRASH_LIMIT"] = "3"
        done = self.run_it("sh", "-c", "exit 9", options=("--no-agent",))
        self.assertEqual(done.returncode, 9)
        self.assertEqual([d["restarted"] for d in self.deaths()], [False, True, True])

    def test_the_managers_restart_is_at_once(self) -> None:
        script = ('test -e "$HOME/again" && exit 5; touch "$HOME/again"; '
                  'touch "$__COMFY_CLI_SESSION__.reboot"; exit 0')
        began = time.monotonic()
        done = self.run_it("sh", "-c", script)
        self.assertEqual(done.returncode, 5)
        self.assertEqual([d["verdict"] for d in self.deaths()], ["exit_error", "manager_restart"])
        self.assertLess(time.monotonic() - began, 5)

    def test_a_clean_end_ends_us_unless_always(self) -> None:
        self.assertEqual(self.run_it("true", options=("--no-agent",)).returncode, 0)
        self.start("sh", "-c", "echo up", options=("--no-agent", "--restart", "always"))
        self.assertEqual([self.line(), self.line()], ["up", "up"])


class Stops(Supervised):
    POLITE = "import time\ntry:\n    print('up', flush=True)\n    time.sleep(60)\nexcept KeyboardInterrupt:\n    print('bye', flush=True)"
    DEAF = "import signal, time; signal.signal(2, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"

    def test_term_becomes_int(self) -> None:
        for sent in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            process = self.start(PYTHON, "-c", self.POLITE)
            self.assertEqual(self.line(), "up")
            process.send_signal(sent)
            self.assertEqual(self.line(), "bye")
            self.assertEqual(process.wait(10), 0)
            self.assertEqual(self.deaths()[0]["verdict"], "stopped")
            self.end()

    def test_who_does_not_listen_is_killed_after_the_grace(self) -> None:
        self.env["COMFYMON_GRACE"] = "300ms"
        process = self.start(PYTHON, "-c", self.DEAF)
        self.assertEqual(self.line(), "up")
        process.terminate()
        self.assertEqual(process.wait(10), 128 + signal.SIGKILL)
        self.assertEqual(self.deaths()[0]["verdict"], "stopped")

    def test_a_second_signal_ends_the_patience(self) -> None:
        self.env["COMFYMON_GRACE"] = "60s"
        process = self.start(PYTHON, "-c", self.DEAF)
        self.assertEqual(self.line(), "up")
        process.terminate()
        time.sleep(0.7)
        process.terminate()
        self.assertEqual(process.wait(10), 128 + signal.SIGKILL)

    def test_a_stop_between_two_lives_ends_us(self) -> None:
        self.env["COMFYMON_CRASH_LIMIT"] = "0"
        process = self.start("sh", "-c", "echo up; exit 4", options=("--no-agent",))
        self.assertEqual(self.line(), "up")
        wait_until(lambda: (self.base / "data/deaths").exists() and self.deaths(), 10, "the first death")
        process.terminate()
        self.assertEqual(process.wait(10), 4)

    def test_children_of_the_command_do_not_outlive_it(self) -> None:
        process = self.start("sh", "-c", "sleep 60 & echo $!; exit 3")
        child = int(self.line())
        self.assertEqual(process.wait(20), 3)
        wait_until(lambda: not alive(child), 5, "the end of the child")


class Killed(Supervised):
    def test_the_command_ends_with_us(self) -> None:
        process = self.start("sh", "-c", "echo $$; exec sleep 60")
        child = int(self.line())
        process.kill()
        wait_until(lambda: not alive(child), 5, "the end of the command")

    def test_it_survives_us_when_told_to(self) -> None:
        process = self.start("sh", "-c", "echo $$; exec sleep 60", options=("--no-agent", "--survive"))
        child = int(self.line())
        process.kill()
        process.wait(5)
        time.sleep(0.3)
        self.assertTrue(alive(child))
        os.kill(child, signal.SIGKILL)

    def agent(self) -> int:
        out = subprocess.run([str(binary()), "status", "--json"], env=self.env, capture_output=True, timeout=20, check=False)
        return int(json.loads(out.stdout)["pid"]) if out.returncode == 0 and out.stdout else 0

    def test_killing_the_agent_costs_the_command_nothing_and_a_new_one_comes(self) -> None:
        process = self.start("sh", "-c", "echo $$; exec sleep 60", options=())
        child = int(self.line())
        wait_until(lambda: can_connect(self.base / "run/comfymon.sock"), 10, "the agent")
        time.sleep(5.2)  # an agent that ends sooner is taken for one that cannot run
        first = wait_until(self.agent, 10, "its pid")   # never 0: that would be everybody here
        os.kill(first, signal.SIGKILL)
        second = wait_until(lambda: self.agent() not in (0, first) and self.agent(), 10, "another agent")
        self.assertTrue(alive(child))
        process.terminate()
        process.wait(20)
        wait_until(lambda: not alive(int(second)), 10, "the end of the agent")


class Managed(Supervised):
    """As a service manager sees it (Type=notify)."""

    def test_it_is_ready_when_the_command_has_started_and_says_how_it_is(self) -> None:
        for name in (str(self.base / "notify"), f"\0cm-notify-{os.getpid()}"):
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
                manager.bind(name)
                manager.settimeout(10)
                self.env["NOTIFY_SOCKET"] = name.replace("\0", "@")
                process = self.start("sh", "-c", 'echo "[$NOTIFY_SOCKET]"; exec sleep 60')
                self.assertEqual(self.line(), "[]")     # nobody else speaks for us
                said = manager.recv(4096).decode()
                self.assertTrue(said.startswith("READY=1\nSTATUS=running, start 1, memory limit by "), said)
                process.terminate()
                while "STOPPING=1" not in said:
                    said = manager.recv(4096).decode()
                self.assertEqual(process.wait(10), 128 + signal.SIGINT)
                self.end()

    def test_a_manager_that_does_not_listen_costs_a_warning(self) -> None:
        for name in ("/nonexistent/socket", "nonsense", "/" + "x" * 200):
            self.env["NOTIFY_SOCKET"] = name
            done = self.run_it("sh", "-c", "exit 3")
            self.assertEqual(done.returncode, 3)
            self.assertEqual(done.stderr.count(b"service_manager_not_told"), 1)


class AsPid1(Supervised):
    def test_reaps_orphans_and_obeys_term(self) -> None:
        if os.geteuid() != 0 or shutil.which("unshare") is None:
            self.skipTest("needs root and unshare for a pid namespace")
        script = "sh -c '(sleep 0.2; exit 0) & exit 0'; sleep 1; ps -eo stat,args | grep -c '^Z'; echo done; exec sleep 60"
        self.process = subprocess.Popen(["unshare", "--pid", "--fork", "--kill-child", "--mount-proc",
                                         *self.command(("--no-agent", "--restart", "never"), ("sh", "-c", script))],
                                        env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.assertEqual(self.line(), "0")
        self.assertEqual(self.line(), "done")
        inner = int(subprocess.run(["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True, timeout=10,
                                   check=True).stdout)
        os.kill(inner, signal.SIGTERM)
        self.process.wait(20)
        self.assertEqual(self.box()["verdict"], "stopped")


    def test_the_entry_point_of_a_container_ends_in_order(self) -> None:
        """In a pid namespace of its own, with the program where the node folder has it."""
        if os.geteuid() != 0 or shutil.which("unshare") is None:
            self.skipTest("needs root and unshare for a pid namespace")
        comfyui = self.base / "ComfyUI"
        (comfyui / "custom_nodes/comfymon").mkdir(parents=True)
        (comfyui / "custom_nodes/comfymon/comfymon").symlink_to(binary().resolve())
        (comfyui / "main.py").write_text("import os, sys, time\nprint(os.getppid(), *sys.argv[1:], flush=True)\n"
                                         "try:\n    time.sleep(60)\nexcept KeyboardInterrupt:\n    print('bye', flush=True)\n")
        env = {**self.env, "COMFYUI_DIR": str(comfyui), "COMFYUI_PYTHON": PYTHON}
        self.process = subprocess.Popen(["unshare", "--pid", "--fork", "--kill-child", "--mount-proc",
                                         str(ROOT / "config/entrypoint.sh"), "--listen", "0.0.0.0"], env=env,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.assertEqual(self.line(), "1 --listen 0.0.0.0")
        inner = int(subprocess.run(["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True, timeout=10,
                                   check=True).stdout)
        os.kill(inner, signal.SIGTERM)      # as docker stop does
        self.assertEqual(self.line(), "bye")
        self.assertEqual(self.process.wait(20), 0)
        self.assertEqual(self.box()["verdict"], "stopped")


if __name__ == "__main__":
    unittest.main()
