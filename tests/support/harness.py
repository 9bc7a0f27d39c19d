"""Runs `comfymon agent` for a test: directories, a clean environment, bounded waits.

    with Agent(dd.url) as agent:              # starts it and waits for its socket
        ...write to agent.socket_path...
        agent.drain(10)                       # until nothing is queued or in flight
        ledger.check(dd.requests(), agent.status())
        agent.kill9(ledger); agent.start()    # same directories

The binary is $COMFYMON_BIN, else build/release/bin/comfymon under the root. Nothing of the
caller's environment reaches it but PATH, sanitizer options and what `env` names. A build with
sanitizers ($COMFYMON_SANITIZER) is ended by SIGTERM where others are killed: leaks are seen at the end. Run and data
directories are temporary, short (a socket's path has at most 107 bytes) and removed by close().
Every wait has a limit and its failure says what was waited for and shows the log's end.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, TypeVar

from support.counters import trace_counters
from support.ledger import Ledger

ROOT = Path(__file__).resolve().parents[2]
PASSED = ("PATH", "ASAN_OPTIONS", "TSAN_OPTIONS")
SOCKET_PATH_MAX = 107
STOP_S = 5.0    # an agent with a hanging destination is killed then
T = TypeVar("T")


class HarnessError(AssertionError):
    """The program under test did not do in time what every test relies on."""


def binary() -> Path:
    """The comfymon under test."""
    return Path(os.environ.get("COMFYMON_BIN") or ROOT / "build/release/bin/comfymon")


def sanitizer() -> str:
    """"" or the sanitizers of the build under test: address,undefined or thread."""
    return os.environ.get("COMFYMON_SANITIZER", "")


# Why a test that measures or limits memory is skipped then.
ITS_OWN_MEMORY = "a sanitizer's own memory is more than the limit"


def passed_env() -> Dict[str, str]:
    """What of the caller's environment every program under test gets."""
    return {name: os.environ[name] for name in PASSED if name in os.environ}


def leaves_faults_alone(env: Dict[str, str]) -> Dict[str, str]:
    """For a program that a test sends a SIGSEGV: it dies of it, and the sanitizer has nothing to report."""
    return {**env, **{name: f"{env[name]}:handle_segv=0" for name in ("ASAN_OPTIONS", "TSAN_OPTIONS") if name in env}}


def wait_until(predicate: Callable[[], T], timeout: float, what: str = "condition",
               interval: float = 0.02) -> T:
    """The predicate's first true value; HarnessError naming `what` after timeout seconds."""
    deadline = time.monotonic() + timeout
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() >= deadline:
            raise HarnessError(f"waited {timeout} s for: {what}")
        time.sleep(interval)


def can_connect(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


class Dirs:
    """run/, data/ and home/ in one temporary place, owner-only."""

    def __init__(self, where: str = "/tmp") -> None:
        self.base = Path(tempfile.mkdtemp(prefix="cm-", dir=where))
        self.run = self.base / "run"
        self.data = self.base / "data"
        self.home = self.base / "home"
        for path in (self.run, self.data, self.home):
            path.mkdir(mode=0o700)
        if len(str(self.run / "comfymon.sock")) > SOCKET_PATH_MAX:
            raise HarnessError(f"{self.run} is too long for a socket")

    def remove(self) -> None:
        shutil.rmtree(self.base, ignore_errors=True)


class Agent:
    """One collector and its directories; see the module's text.

    url: DD_TRACE_AGENT_URL, None leaves it unset. env: more variables. args: after `agent`.
    dirs: share those of another agent (the caller then removes them).
    wrapper: a command in front of the binary (strace, unshare, prlimit ...).
    """

    def __init__(self, url: Optional[str] = None, env: Optional[Dict[str, str]] = None,
                 args: Optional[List[str]] = None, dirs: Optional[Dirs] = None,
                 wrapper: Optional[List[str]] = None) -> None:
        self._own_dirs = dirs is None
        self.dirs = dirs or Dirs()
        self.env = clean_env(self.dirs, url, env or {})
        self._args = args or []
        self.wrapper = wrapper or []
        self.log_path = self.dirs.base / "agent.log"
        self.process: Optional[subprocess.Popen] = None
        atexit.register(self._kill_quietly)

    def __enter__(self) -> "Agent":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def socket_path(self) -> Path:
        return self.dirs.run / "comfymon.sock"

    @property
    def control_path(self) -> Path:
        return self.dirs.run / "control.sock"

    @property
    def pid(self) -> int:
        if self.process is None:
            raise HarnessError("the agent is not running")
        return self.process.pid

    @property
    def returncode(self) -> Optional[int]:
        return self.process.poll() if self.process else None

    def log(self) -> str:
        """Everything the agent has printed, over all its starts."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def log_tail(self, lines: int = 30) -> str:
        return "\n".join(self.log().splitlines()[-lines:])

    def start(self, wait: bool = True, timeout: float = 10.0) -> None:
        """Start; with wait, return when its socket takes connections."""
        if self.process and self.process.poll() is None:
            raise HarnessError("the agent is running already")
        command = self.wrapper + [str(binary()), "agent"] + self._args
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                command, env=self.env, cwd=self.dirs.base, stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT, start_new_session=True)
        if wait:
            self.wait_ready(timeout)

    def wait_ready(self, timeout: float = 10.0) -> None:
        def ready() -> bool:
            if self.returncode is not None:
                raise HarnessError(f"the agent exited with {self.returncode}:\n{self.log_tail()}")
            return can_connect(self.socket_path) and can_connect(self.control_path)

        try:
            wait_until(ready, timeout, "the agent's sockets", 0.005)
        except HarnessError as error:
            raise HarnessError(f"{error}\n{self.log_tail()}") from None

    def stop(self, timeout: float = 15.0) -> int:
        """SIGTERM and the exit status; HarnessError when it does not end in time."""
        process = self._started()
        process.terminate()
        try:
            return process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._kill_quietly()
            raise HarnessError(f"no end {timeout} s after SIGTERM:\n{self.log_tail()}") from None

    def kill9(self, ledger: Optional[Ledger] = None) -> None:
        """kill -9 and wait; told to the ledger, which then excuses one request in flight."""
        process = self._started()
        if ledger is None:
            self._signal_group(process, signal.SIGKILL)
            process.wait(10)
            return
        with ledger.kill():
            self._signal_group(process, signal.SIGKILL)
            process.wait(10)

    def cli(self, *args: str, timeout: float = 20.0) -> subprocess.CompletedProcess:
        """Run another verb in the agent's environment; text in stdout and stderr."""
        return subprocess.run([str(binary()), *args], env=self.env, cwd=self.dirs.base,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=timeout, check=False)

    def status(self) -> Dict[str, Any]:
        """`comfymon status --json`, decoded. Its exit status may be non-zero by state."""
        done = self.cli("status", "--json")
        try:
            return json.loads(done.stdout)
        except ValueError:
            raise HarnessError(f"status --json ({done.returncode}) is no JSON: "
                               f"{done.stdout[:500]!r} {done.stderr[:500]!r}") from None

    def drain(self, timeout: float = 15.0, received: int = 0) -> Dict[str, Any]:
        """Wait until at least `received` spans came in and none waits; the last status."""
        last: Dict[str, Any] = {}

        def empty() -> bool:
            last.update(self.status())
            counters = trace_counters(last)
            return (counters["received"] >= received and counters["queued"] == 0
                    and counters["in_flight"] == 0)

        try:
            wait_until(empty, timeout, "nothing queued or in flight", 0.1)
        except HarnessError as error:
            raise HarnessError(f"{error}: {json.dumps(last)}\n{self.log_tail()}") from None
        return last

    def close(self) -> None:
        """End what still runs and remove the directories."""
        if sanitizer() and self.process and self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_S)
        self._kill_quietly()
        atexit.unregister(self._kill_quietly)
        if self._own_dirs:
            self.dirs.remove()

    def _started(self) -> subprocess.Popen:
        if self.process is None:
            raise HarnessError("the agent was never started")
        return self.process

    @staticmethod
    def _signal_group(process: subprocess.Popen, number: int) -> None:
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            pass

    def _kill_quietly(self) -> None:
        if self.process and self.process.poll() is None:
            self._signal_group(self.process, signal.SIGKILL)
            self.process.wait(10)


def clean_env(dirs: Dirs, url: Optional[str], more: Dict[str, str]) -> Dict[str, str]:
    """A small environment in which no setting of the caller's can leak."""
    env = passed_env()
    env.update({"HOME": str(dirs.home), "LANG": "C.UTF-8", "TZ": "UTC",
                "COMFYMON_RUN_DIR": str(dirs.run), "COMFYMON_DATA_DIR": str(dirs.data)})
    if url is not None:
        env["DD_TRACE_AGENT_URL"] = url
    env.update(more)
    return env
