"""A ComfyUI with the built node folder, directories of its own, and the collector the node started."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "standin"))
from client import ComfyUI  # noqa: E402
from support.harness import ROOT, Dirs, HarnessError, clean_env, wait_until  # noqa: E402

BUILD = Path(os.environ.get("COMFYMON_BUILD") or ROOT / "build/release")
NODE = BUILD / "node" / "comfymon"
HERE = Path(__file__).resolve().parent
FAKE_HOST = HERE / "fake_host.py"


def pythons() -> Dict[str, str]:
    """Minor to interpreter, for each that an extension was built for."""
    lines = (BUILD / "pythons.txt").read_text().split("\n")
    return {minor: path for minor, path in (line.split() for line in lines if line)}


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


class Place:
    """Run and data directory, an environment that names them, and verbs of the program there."""

    def __init__(self, url: Optional[str] = None, env: Optional[Dict[str, str]] = None,
                 node: Path = NODE, unset: Sequence[str] = (), where: str = "/tmp") -> None:
        self.dirs = Dirs(where)
        self.node = node
        more = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0", **(env or {})}
        if url is None:
            more.setdefault("COMFYMON_DESTINATIONS", "none")
        self.env = {name: value for name, value in clean_env(self.dirs, url, more).items() if name not in unset}
        self.wrapper: List[str] = []  # in front of each verb
        self.hosts: List[ComfyUI] = []
        self.agents: List["subprocess.Popen[bytes]"] = []

    def __enter__(self) -> "Place":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def verb(self, *args: str, program: Optional[Path] = None) -> "subprocess.CompletedProcess[str]":
        return subprocess.run([*self.wrapper, str(program or self.node / "comfymon"), *args], env=self.env, text=True,
                              capture_output=True, timeout=30, check=False)

    def status(self) -> Dict[str, Any]:
        done = self.verb("status", "--json")
        return json.loads(done.stdout) if done.stdout else {}

    def agent_pid(self) -> int:
        """Of the agent that holds the data directory; 0 when none does."""
        try:
            pid = int((self.dirs.data / "lock").read_text().split()[0])
        except (FileNotFoundError, IndexError, ValueError):
            return 0
        return pid if alive(pid) else 0

    def wait_agent(self, timeout: float = 10) -> int:
        return wait_until(lambda: self.status().get("pid") and self.agent_pid(), timeout, "an agent that answers")

    def traces(self, *args: str) -> List[Dict[str, Any]]:
        return [json.loads(line) for line in self.verb("traces", "--json", *args).stdout.splitlines()]

    def spans(self, trace_id: str) -> List[Dict[str, Any]]:
        found: List[Dict[str, Any]] = json.loads(self.verb("trace", trace_id, "--json").stdout)["spans"]
        return found

    def log(self) -> str:
        path = self.dirs.run / "agent.log"
        return path.read_text() if path.exists() else ""

    def comfy(self, node_dirs: Optional[Sequence[str]] = None, env: Optional[Dict[str, str]] = None,
              **more: Any) -> ComfyUI:
        """A stand-in with the node linked in, not yet started."""
        given = {**self.env, **(env or {})}
        unset = {name: "" for name in os.environ if name.startswith(("DD_", "COMFYMON_")) and name not in given}
        host = ComfyUI(kind="standin", node_dirs=[str(self.node)] if node_dirs is None else node_dirs,
                       env={**unset, **given}, **more)
        self.hosts.append(host)
        return host

    def fake_host(self, python: str, *args: str, env: Optional[Dict[str, str]] = None,
                  folder: Optional[Path] = None) -> "subprocess.CompletedProcess[str]":
        return subprocess.run([python, str(FAKE_HOST), str(folder or self.node), *args],
                              env={**self.env, **(env or {})}, text=True, capture_output=True, timeout=60, check=False)

    def autostart_by_hand(self) -> int:
        """`comfymon agent --autostarted`, as the node would; its pid."""
        self.agents.append(subprocess.Popen([str(self.node / "comfymon"), "agent", "--autostarted"], env=self.env, cwd="/",
                                            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                            stderr=subprocess.DEVNULL, start_new_session=True))
        return self.wait_agent()

    def stop_agent(self, number: int = signal.SIGTERM, timeout: float = 15) -> None:
        pid = self.agent_pid()
        if pid:
            os.kill(pid, number)
            wait_until(lambda: not alive(pid), timeout, f"the end of agent {pid}")

    def autostarted(self) -> List[int]:
        """Agents that nodes of ours have started here, those included that have not come to their lock yet."""
        found = []
        for place in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (f"COMFYMON_RUN_DIR={self.dirs.run}\0".encode() in (place / "environ").read_bytes()
                        and b"--autostarted" in (place / "cmdline").read_bytes()):
                    found.append(int(place.name))
        return found

    def close(self) -> None:
        for host in self.hosts:
            host.close()
        for pid in self.autostarted():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            wait_until(lambda: not alive(pid), 10, f"the end of agent {pid}")
        for agent in self.agents:
            agent.wait(10)
        self.dirs.remove()


def stages(done: "subprocess.CompletedProcess[str]") -> Dict[str, Dict[str, Any]]:
    """What fake_host.py told, by stage."""
    if done.returncode != 0:
        raise HarnessError(f"the fake host ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return {told["stage"]: told for told in map(json.loads, done.stdout.splitlines())}


def copy_of_node(target: Path) -> Path:
    shutil.copytree(NODE, target)
    return target
