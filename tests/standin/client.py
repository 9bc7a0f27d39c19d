"""Starts the stand-in, or a real ComfyUI, and talks to it. For the tests of all rooms.

    with ComfyUI(profile="p0364", node_dirs=["path/of/node"]) as comfy:
        prompt_id = comfy.submit(workflow("quick"))
        print(comfy.wait(prompt_id)["status"]["status_str"])

The real one is used where kind="real", or everywhere if COMFYUI_DIR is set and kind is
not given: COMFYUI_DIR is its checkout, COMFYUI_PYTHON its interpreter, and
COMFYUI_CHECKPOINT an optional checkpoint offered to workflows as tiny.safetensors.
STANDIN_PYTHON names the interpreter (with aiohttp) for the stand-in, default this one.
"""
from __future__ import annotations

import contextlib
import glob
import http.client
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import uuid
from typing import Any, Optional, Sequence

HERE = os.path.dirname(os.path.abspath(__file__))
if HERE not in sys.path:
    sys.path.insert(0, HERE)
from websocket import WebSocket  # noqa: E402

LIBRARY = os.path.join(HERE, "comfyui", "custom_nodes", "standin_nodes")
BAD_NEIGHBOURS = os.path.join(HERE, "bad_neighbours")
START_TIMEOUT_S = 90.0

# Tests that know what their host is made of name this as its kind. COMFYMON_TEST_REAL=1 runs them by hand around the
# real one, which holds so much more memory when it is idle.
PINNED = "real" if os.environ.get("COMFYMON_TEST_REAL") else "standin"
REST_MB = 520 if PINNED == "real" else 0


class ComfyError(Exception):
    """The host did not do what the test asked: it did not start, or it refused."""

    def __init__(self, message: str, status: int = 0, body: Any = None) -> None:
        super().__init__(message)
        self.status = status
        self.body = body


def workflow(name: str) -> dict[str, Any]:
    """The prompt graph of one scenario, a fresh copy each time."""
    with open(os.path.join(HERE, "workflows", name + ".json"), encoding="utf-8") as file:
        return json.load(file)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def write_checkpoint(path: str, mbytes: int = 1) -> None:
    """A safetensors file of zeros: the stand-in reads it for real."""
    size = mbytes << 20
    header = json.dumps({"model.diffusion_model.weight": {
        "dtype": "F16", "shape": [size // 2], "data_offsets": [0, size]}}).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(header)) + header + bytes(size))


class ComfyUI:
    """One running host with a base directory of its own, removed at the end.

    node_dirs are linked into custom_nodes under their own names. After the process has
    ended by itself (crash scenarios) `process.wait()` gives the status; stop() is then
    harmless. Output goes to `log_path`, read it with log().
    """

    def __init__(self, kind: Optional[str] = None, profile: Optional[str] = None,
                 node_dirs: Sequence[str] = (), env: Optional[dict[str, str]] = None,
                 arguments: Sequence[str] = (), python: Optional[str] = None,
                 base: Optional[str] = None, wrapper: Sequence[str] = (),
                 port: Optional[int] = None, address: str = "127.0.0.1") -> None:
        self.kind = kind or ("real" if os.environ.get("COMFYUI_DIR") else "standin")
        self.real = self.kind == "real"
        self.profile = profile
        self.node_dirs = list(node_dirs)
        self.env = dict(env or {})
        self.arguments = list(arguments)
        self.wrapper = list(wrapper)
        self.python = python or os.environ.get(
            "COMFYUI_PYTHON" if self.real else "STANDIN_PYTHON") or sys.executable
        self._own_base = base is None
        self.base = base or tempfile.mkdtemp(prefix="comfymon-base-")
        self.port = port or free_port()
        self.address = address
        self.client_id = uuid.uuid4().hex
        self.log_path = os.path.join(self.base, "host.log")
        self.process: Optional[subprocess.Popen[bytes]] = None
        self._sockets: list[WebSocket] = []

    # ---- life ----

    def __enter__(self) -> "ComfyUI":
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def prepare(self) -> None:
        """Makes the base directory: models, nodes, empty front end."""
        for name in ("custom_nodes", "models/checkpoints", "models/vae", "input", "output", "user",
                     "temp", "front_end"):
            os.makedirs(os.path.join(self.base, name), exist_ok=True)
        with open(os.path.join(self.base, "front_end", "index.html"), "w",
                  encoding="utf-8") as file:
            file.write("<html></html>\n")
        checkpoint = os.path.join(self.base, "models", "checkpoints", "tiny.safetensors")
        given = os.environ.get("COMFYUI_CHECKPOINT")
        if self.real and given:
            os.symlink(given, checkpoint) if not os.path.exists(checkpoint) else None
        elif not os.path.exists(checkpoint):
            write_checkpoint(checkpoint)
        library = [LIBRARY] if self.real else []
        for path in library + self.node_dirs:
            link = os.path.join(self.base, "custom_nodes", os.path.basename(path.rstrip("/")))
            if not os.path.lexists(link):
                os.symlink(os.path.abspath(path), link)

    def command(self) -> list[str]:
        folder = os.environ["COMFYUI_DIR"] if self.real else os.path.join(HERE, "comfyui")
        words = [*self.wrapper, self.python, os.path.join(folder, "main.py"), "--cpu",
                 "--listen", self.address, "--port", str(self.port), "--base-directory", self.base,
                 "--front-end-root", os.path.join(self.base, "front_end")]
        if self.real:
            words += ["--disable-api-nodes"]
        if self.profile and not self.real:
            words += ["--profile", self.profile]
        return words + self.arguments

    def start(self, timeout_s: float = START_TIMEOUT_S) -> None:
        self.prepare()
        self.spawn()
        self.wait_ready(timeout_s)

    def spawn(self) -> None:
        env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **self.env}
        with open(self.log_path, "ab") as log:
            # SIGINT may be ignored in a background test run; the host needs its default.
            self.process = subprocess.Popen(
                self.command(), env=env, stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT, cwd=self.base,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))

    def wait_ready(self, timeout_s: float = START_TIMEOUT_S) -> None:
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            if self.process is not None and self.process.poll() is not None:
                raise ComfyError(f"the host ended with {self.process.returncode} before it was "
                                 f"ready:\n{self.log()[-4000:]}")
            try:
                self.request("GET", "/prompt")
                return
            except (OSError, http.client.HTTPException):
                time.sleep(0.05)
        raise ComfyError(f"the host was not ready after {timeout_s} s:\n{self.log()[-4000:]}")

    def send_signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self, number: int = signal.SIGINT, timeout_s: float = 15.0) -> int:
        """Sends the signal and waits; a host that does not end is killed. Its exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
            try:
                self.process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        return int(self.process.returncode)

    def close(self) -> None:
        for connected in self._sockets:
            connected.close()
        self._sockets.clear()
        if self.process is not None:
            self.stop(signal.SIGKILL)
        if self._own_base:
            shutil.rmtree(self.base, ignore_errors=True)

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def serving_pid(self) -> int:
        """Of who listens on its port: below a wrapper not `pid`. OSError when nobody does."""
        rows = []
        for table in ("/proc/net/tcp", "/proc/net/tcp6"):
            with open(table, encoding="ascii") as file:
                rows += [line.split() for line in file][1:]
        inodes = {f"socket:[{row[9]}]" for row in rows
                  if row[3] == "0A" and row[1].endswith(f":{self.port:04X}")}
        for path in glob.iglob("/proc/[0-9]*/fd/*"):
            with contextlib.suppress(OSError):
                if os.readlink(path) in inodes:
                    return int(path.split("/")[2])
        raise OSError(f"nobody listens on port {self.port}")

    def log(self) -> str:
        try:
            with open(self.log_path, encoding="utf-8", errors="replace") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    # ---- requests ----

    def request(self, method: str, path: str, body: Any = None,
                headers: Optional[dict[str, str]] = None, timeout_s: float = 30.0) -> Any:
        """The decoded JSON answer (None if empty); ComfyError for status 400 and above."""
        connection = http.client.HTTPConnection(self.address, self.port, timeout=timeout_s)
        try:
            data = None if body is None else json.dumps(body).encode()
            connection.request(method, path, data,
                               {"Content-Type": "application/json", **(headers or {})})
            answer = connection.getresponse()
            text = answer.read().decode("utf-8", "replace")
        finally:
            connection.close()
        try:
            decoded = json.loads(text) if text else None
        except ValueError:
            decoded = text
        if answer.status >= 400:
            raise ComfyError(f"{method} {path}: {answer.status} {text[:500]}", answer.status,
                             decoded)
        return decoded

    def submit(self, prompt: dict[str, Any], extra_data: Optional[dict[str, Any]] = None,
               headers: Optional[dict[str, str]] = None, client_id: Optional[str] = None,
               path: str = "/prompt", **more: Any) -> str:
        """Queues a prompt; `more` are further keys of the request. Its prompt_id."""
        body: dict[str, Any] = {"prompt": prompt, **more}
        if extra_data is not None:
            body["extra_data"] = extra_data
        if client_id is not None:
            body["client_id"] = client_id
        return str(self.request("POST", path, body, headers)["prompt_id"])

    def history(self, prompt_id: Optional[str] = None) -> dict[str, Any]:
        return self.request("GET", "/history" + (f"/{prompt_id}" if prompt_id else ""))

    def wait(self, prompt_id: str, timeout_s: float = 60.0) -> dict[str, Any]:
        """The history entry of a prompt, once it is there."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            entry = self.history(prompt_id).get(prompt_id)
            if entry is not None:
                return entry
            time.sleep(0.02)
        raise ComfyError(f"prompt {prompt_id} did not end within {timeout_s} s:\n"
                         f"{self.log()[-2000:]}")

    def run(self, prompt: dict[str, Any], timeout_s: float = 60.0, **more: Any) -> dict[str, Any]:
        return self.wait(self.submit(prompt, **more), timeout_s)

    def wait_running(self, prompt_id: str, timeout_s: float = 30.0) -> None:
        """Returns once the worker has taken the prompt."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            if any(item[1] == prompt_id for item in self.queue()["queue_running"]):
                return
            time.sleep(0.02)
        raise ComfyError(f"prompt {prompt_id} did not start within {timeout_s} s")

    def wait_exit(self, timeout_s: float = 30.0) -> int:
        assert self.process is not None
        return int(self.process.wait(timeout_s))

    def queue(self) -> dict[str, Any]:
        return self.request("GET", "/queue")

    def interrupt(self, prompt_id: Optional[str] = None) -> None:
        self.request("POST", "/interrupt", {"prompt_id": prompt_id} if prompt_id else {})

    def delete(self, *prompt_ids: str) -> None:
        self.request("POST", "/queue", {"delete": list(prompt_ids)})

    def clear(self) -> None:
        self.request("POST", "/queue", {"clear": True})

    def free(self, unload_models: bool = True, free_memory: bool = True) -> None:
        self.request("POST", "/free", {"unload_models": unload_models,
                                       "free_memory": free_memory})

    def stats(self) -> dict[str, Any]:
        return self.request("GET", "/system_stats")

    def websocket(self, client_id: Optional[str] = None) -> WebSocket:
        """Connects and waits for the greeting; closed with the host."""
        name = client_id or self.client_id
        connected = WebSocket("127.0.0.1", self.port, f"/ws?clientId={name}")
        self._sockets.append(connected)
        if connected.wait_for(lambda message: message.get("type") == "status", 10.0) is None:
            raise ComfyError("the websocket did not greet")
        return connected
