"""`comfymon run` at a terminal, and before readers that do not read: nothing of it may hold the parent up."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
import unittest
from pathlib import Path
from typing import List, Sequence

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parent))
from run_test import PYTHON, Supervised, alive  # noqa: E402
from support.harness import can_connect, wait_until  # noqa: E402


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]


def children_of(pid: int) -> List[int]:
    out = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, timeout=10, check=False).stdout
    return [int(word) for word in out.split()]


class AtATerminal(Supervised):
    def setUp(self) -> None:
        super().setUp()
        self.master, self.slave = pty.openpty()
        self.addCleanup(os.close, self.master)
        self.addCleanup(os.close, self.slave)

    def begin(self, *command: str, options: Sequence[str] = ("--no-agent", "--restart", "never"), shell: bool = False) -> int:
        """In the foreground of a terminal of its own; `shell`: as a job of another process, as shells start one."""
        def lead() -> None:
            os.setsid()
            fcntl.ioctl(self.slave, termios.TIOCSCTTY, 0)

        job = ("import os, sys\npid = os.fork()\nif pid == 0:\n    os.setpgid(0, 0)\n    os.execv(sys.argv[1], sys.argv[1:])\n"
               "sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))")
        self.process = subprocess.Popen([*((PYTHON, "-c", job) if shell else ()), *self.command(options, command)], env=self.env,
                                        preexec_fn=lead, stdin=self.slave, stdout=self.slave, stderr=self.slave)
        return self.process.pid

    def read_until(self, wanted: bytes, timeout: float = 10) -> bytes:
        seen, end = b"", time.monotonic() + timeout
        while wanted not in seen:
            ready = select.select([self.master], [], [], max(0.0, end - time.monotonic()))[0]
            self.assertTrue(ready, f"{wanted!r} does not come: {seen[-500:]!r}")
            seen += os.read(self.master, 65536)
        return seen

    def test_what_is_typed_and_never_read_does_not_hold_it_up(self) -> None:
        self.begin("sh", "-c", "echo up; exec sleep 60")
        self.read_until(b"up")
        os.set_blocking(self.master, False)
        line, typed = b"x" * 99 + b"\n", 0
        end = time.monotonic() + 4
        while time.monotonic() < end and typed < 400_000:
            try:
                typed += os.write(self.master, line)
                os.read(self.master, 65536)     # the echo
            except BlockingIOError:
                time.sleep(0.001)
        assert self.process is not None
        self.process.terminate()
        self.assertEqual(self.process.wait(5), 128 + signal.SIGINT)

    def test_a_terminal_that_takes_nothing_does_not_hold_it_up(self) -> None:
        pid = self.begin("yes", "a line that nobody reads")
        time.sleep(1.5)
        os.kill(pid, signal.SIGTERM)
        assert self.process is not None
        self.assertEqual(self.process.wait(5), 128 + signal.SIGINT)

    def test_the_end_of_what_is_typed_is_handed_on(self) -> None:
        self.begin("sh", "-c", "cat; echo end of input; cat; echo and another")
        os.write(self.master, b"word\n\x04")
        self.read_until(b"end of input")
        os.write(self.master, b"more\n\x04")
        self.read_until(b"and another")

    def test_ctrl_z_stops_the_command_too_and_both_go_on(self) -> None:
        self.begin("sh", "-c", "echo pid $$ up; exec sleep 60", shell=True)
        assert self.process is not None
        child = int(self.read_until(b" up").split()[-2])
        (pid,) = children_of(self.process.pid)
        os.kill(pid, signal.SIGTSTP)
        wait_until(lambda: state_of(child) == "T" and state_of(pid) == "T", 5, "both to stand still")
        os.kill(pid, signal.SIGCONT)
        wait_until(lambda: state_of(child) == "S" and state_of(pid) == "S", 5, "both to go on")
        os.kill(pid, signal.SIGTERM)
        self.assertEqual(self.process.wait(5), 128 + signal.SIGINT)

    def test_ctrl_z_does_nothing_where_no_shell_could_let_it_go_on(self) -> None:
        pid = self.begin("sh", "-c", "echo pid $$ up; exec sleep 60")
        child = int(self.read_until(b" up").split()[-2])
        os.kill(pid, signal.SIGTSTP)
        time.sleep(0.5)
        self.assertEqual((state_of(pid), state_of(child)), ("S", "S"))
        os.kill(pid, signal.SIGTERM)
        assert self.process is not None
        self.assertEqual(self.process.wait(5), 128 + signal.SIGINT)


class BeforeAReaderThatDoesNotRead(Supervised):
    def test_its_own_words_do_not_hold_it_up(self) -> None:
        """Standard error is a full pipe, and it has something to say."""
        self.env["COMFYMON_CRASH_LIMIT"] = "0"
        out, into = os.pipe()
        self.addCleanup(os.close, out)
        os.set_blocking(into, False)
        while True:
            try:
                os.write(into, b"x" * 4096)
            except BlockingIOError:
                break
        os.set_blocking(into, True)
        self.process = subprocess.Popen(self.command(("--no-agent",), ("sh", "-c", "exit 3")), env=self.env, stderr=into)
        os.close(into)
        wait_until(lambda: len(self.exits()) >= 2, 20, "a second life")
        self.process.terminate()
        self.assertEqual(self.process.wait(5), 3)

    def test_without_standard_streams_it_works_as_well(self) -> None:
        def shut() -> None:
            for fd in range(3):
                os.close(fd)

        file = self.base / "said"
        done = subprocess.run(self.command(("--no-agent", "--restart", "never"),
                                           ("sh", "-c", f"echo here >{file}; exit 5")), env=self.env, preexec_fn=shut,
                              timeout=20, check=False)
        self.assertEqual(done.returncode, 5)
        self.assertEqual(file.read_text(), "here\n")
        self.assertEqual(self.exits()[0]["exit"], "5")


class Signals(Supervised):
    POLITE = ("import time\ntry:\n    print('up', flush=True)\n    time.sleep(60)\n"
              "except KeyboardInterrupt:\n    time.sleep(0.5)\n    print('bye', flush=True)")

    def test_one_stop_that_is_said_twice_is_one(self) -> None:
        """timeout(1) signals its child and then its group; a terminal that hangs up does it by kernel and shell."""
        for first, second in ((signal.SIGTERM, signal.SIGTERM), (signal.SIGHUP, signal.SIGHUP), (signal.SIGTERM, signal.SIGHUP)):
            process = self.start(PYTHON, "-c", self.POLITE)
            self.assertEqual(self.line(), "up")
            process.send_signal(first)
            time.sleep(0.05)
            process.send_signal(second)
            self.assertEqual(self.line(), "bye")
            self.assertEqual(process.wait(10), 0)
            self.end()

    def test_what_nohup_ignores_is_ignored(self) -> None:
        for ignored in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
            process = self.start(PYTHON, "-c", self.POLITE, preexec_fn=lambda s=ignored: signal.signal(s, signal.SIG_IGN))
            self.assertEqual(self.line(), "up")
            process.send_signal(ignored)
            time.sleep(1.2)     # longer than it takes to end
            self.assertIsNone(process.poll())
            process.terminate()
            self.assertEqual(self.line(), "bye")
            self.assertEqual(process.wait(10), 0)
            self.end()

    def test_whose_parent_ignored_the_ends_of_children_sees_them_all_the_same(self) -> None:
        self.start("sh", "-c", "exit 7", preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN))
        assert self.process is not None
        self.assertEqual(self.process.wait(10), 7)

    def test_a_wrapper_does_not_keep_the_stop_from_python(self) -> None:
        process = self.start("sh", "-c", f'{PYTHON} -c "$0"; echo done', self.POLITE)
        self.assertEqual(self.line(), "up")
        process.terminate()
        self.assertEqual(self.line(), "bye")
        self.assertEqual(process.wait(10) in (0, 128 + signal.SIGINT), True)
        self.assertEqual(self.deaths()[0]["verdict"], "stopped")

    def test_other_signals_are_handed_on_or_stop_it_in_order(self) -> None:
        script = "trap 'echo one' USR1; trap 'echo two' USR2; echo up; while :; do sleep 0.1; done"
        process = self.start("sh", "-c", script)
        self.assertEqual(self.line(), "up")
        process.send_signal(signal.SIGUSR1)
        self.assertEqual(self.line(), "one")
        process.send_signal(signal.SIGUSR2)
        self.assertEqual(self.line(), "two")
        process.send_signal(signal.SIGQUIT)
        process.wait(10)
        self.assertEqual(self.deaths()[0]["verdict"], "stopped")


class WhoLeftTheGroup(Supervised):
    def test_nobody_who_descends_from_it_outlives_a_life(self) -> None:
        """A daemon of its own session would hold port and GPU."""
        script = ("import os, time\npid = os.fork()\nif pid == 0:\n    os.setsid()\n    if os.fork(): os._exit(0)\n"
                  "    print(os.getpid(), flush=True)\n    os.close(1); os.close(2); time.sleep(60)\nos.waitpid(pid, 0)\ntime.sleep(0.5)\nos._exit(3)")
        process = self.start(PYTHON, "-c", script)
        daemon = int(self.line())
        self.assertTrue(alive(daemon))
        self.assertEqual(process.wait(20), 3)
        wait_until(lambda: not alive(daemon), 5, "the end of the daemon")

    def test_what_a_killed_parent_left_is_ended_by_the_agent(self) -> None:
        process = self.start("sh", "-c", "sleep 60 & echo $!; wait; true", options=())
        inner = int(self.line())
        wait_until(lambda: can_connect(self.base / "run/control.sock"), 10, "the agent")
        (agent,) = (pid for pid in children_of(process.pid)
                    if b"--autostarted" in Path(f"/proc/{pid}/cmdline").read_bytes())
        self.addCleanup(os.kill, agent, signal.SIGTERM)
        process.kill()
        process.wait(5)
        wait_until(lambda: not alive(inner), 10, "the end of what the shell had started")
        self.assertEqual([e["verdict"] for e in self.exits()], ["lost"])

    def test_what_a_killed_parent_left_ends_when_the_next_begins(self) -> None:
        """The kernel tells the first process alone that we have gone; here that is a shell."""
        process = self.start("sh", "-c", "sleep 60 & echo $!; wait; true")
        inner = int(self.line())
        time.sleep(0.2)
        process.kill()
        process.wait(5)
        self.assertTrue(alive(inner))
        self.run_it("true")
        wait_until(lambda: not alive(inner), 5, "the end of the command")


if __name__ == "__main__":
    unittest.main()
