"""A fake Datadog in a process of its own, driven like FakeDatadog.

    with RemoteFake(record=path) as dd:
        dd.script(Act(status=503, times=2))
        dd.kill()                   # kill -9 of the fake; dd.start() brings it back, same port
        requests = dd.requests()    # or record.load(path) when it is dead
"""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any, Dict, List, Optional

from support.content import LOOSE, STRICT, Rules
from support.record import Request, request_from_json
from support.script import Act

NO_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))
PROGRAM = Path(__file__).resolve().parent / "fake_datadog.py"


class RemoteFake:
    def __init__(self, port: int = 0, unix: Optional[Path] = None, record: Optional[Path] = None,
                 rules: Rules = STRICT, compact: bool = False) -> None:
        if rules not in (STRICT, LOOSE):
            raise ValueError("a fake in another process knows STRICT and LOOSE only")
        self.port = port
        self._unix = unix
        self._options = ["--with-parent"]
        self._options += ["--loose"] if rules == LOOSE else []
        self._options += ["--compact"] if compact else []
        self._options += ["--unix", str(unix)] if unix else []
        self._options += ["--record", str(record)] if record else []
        self._process: Optional[subprocess.Popen] = None
        self._control = 0
        self.start()

    def __enter__(self) -> "RemoteFake":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Start, or start again on the same port after kill()."""
        command = [sys.executable, str(PROGRAM), "--port", str(self.port)] + self._options
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        self._control = int(self._process.stdout.readline())

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def unix_url(self) -> str:
        return f"unix://{self._unix}"

    def close(self) -> None:
        self._end("terminate")

    def kill(self) -> None:
        self._end("kill")

    def _end(self, how: str) -> None:
        if self._process:
            getattr(self._process, how)()
            self._process.wait(10)
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None

    def _call(self, command: str, data: Any = None) -> Any:
        url = f"http://127.0.0.1:{self._control}/{command}"
        body = json.dumps({} if data is None else data).encode()
        with NO_PROXY.open(url, body, timeout=30) as reply:
            return json.loads(reply.read())

    def script(self, *acts: Act) -> None:
        self._call("script", [act.to_json() for act in acts])

    def always(self, act: Act) -> None:
        self._call("always", act.to_json())

    def clear(self) -> None:
        self._call("clear")

    def refuse(self) -> None:
        self._call("refuse")

    def reopen(self) -> None:
        self._call("reopen")

    def requests(self, path: str = "/v0.4/traces", skip: int = 0) -> List[Request]:
        lines = self._call("requests", {"path": path, "skip": skip})
        return [request_from_json(line) for line in lines]

    def problems(self) -> List[str]:
        return self._call("problems")

    def summary(self) -> Dict[str, Any]:
        return self._call("summary")
