"""A destination over TLS: delivered when its authority is trusted, refused in words when it is not."""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import unittest
from pathlib import Path
from typing import Iterator

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from support.fake_datadog import FakeDatadog  # noqa: E402
from support.harness import Agent, wait_until  # noqa: E402
from support.hook_receiver import HookReceiver  # noqa: E402
from support.writer import Writer  # noqa: E402


def certificate(folder: Path) -> Path:
    """A fresh one for 127.0.0.1, signed by itself; the key is in the same file."""
    path = folder / "both.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(path), "-out", str(folder / "cert.pem")],
                   check=True, capture_output=True)
    path.write_text(path.read_text() + (folder / "cert.pem").read_text())
    return path


def pump(a: socket.socket, b: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            data = a.recv(65536)
            if not data:
                break
            b.sendall(data)
    for one in (a, b):
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def tls_in_front_of(port: int, pem: Path) -> Iterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(str(pem))
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                raw, _ = listener.accept()
                try:
                    near = context.wrap_socket(raw, server_side=True)
                except (ssl.SSLError, OSError):
                    raw.close()
                    continue
                far = socket.create_connection(("127.0.0.1", port))
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=pump, args=pair, daemon=True).start()
    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()


@unittest.skipUnless(shutil.which("openssl"), "no openssl to make a certificate with")
class Https(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.pem = certificate(self.folder)

    @staticmethod
    def one_span(writer: Writer) -> None:
        writer.finish([{"trace_id": 5, "span_id": 6, "parent_id": 0, "service": "s", "name": "n", "resource": "r",
                        "type": "web", "start": writer.now(), "duration": 10, "error": 0}])
        writer.flush(10)

    def test_delivers_where_the_authority_is_the_one_that_was_named(self) -> None:
        with FakeDatadog() as dd, tls_in_front_of(dd.port, self.pem) as url, \
                Agent(url, env={"SSL_CERT_FILE": str(self.folder / "cert.pem")}) as agent, \
                Writer(agent.socket_path) as writer:
            self.one_span(writer)
            wait_until(lambda: len(dd.spans()) == 1, 15, "the span, over TLS")

    def test_keeps_what_it_has_and_says_why_where_nobody_vouches_for_the_far_end(self) -> None:
        with FakeDatadog() as dd, tls_in_front_of(dd.port, self.pem) as url, Agent(url) as agent, \
                Writer(agent.socket_path) as writer:
            self.one_span(writer)
            wait_until(lambda: "certificate" in str(agent.status()["destinations"][0]["last_error"]).lower(), 15,
                       "the reason in the status")
            trace = agent.status()["signals"]["trace"]
            self.assertEqual((trace["queued"] + trace["in_flight"], trace["sent"], dd.spans()), (1, 0, []))

    @staticmethod
    def one_job(writer: Writer) -> None:
        writer.finish([{"trace_id": 7, "span_id": 8, "parent_id": 0, "service": "s", "name": "comfyui.workflow.execute",
                        "resource": "r", "type": "worker", "start": writer.now(), "duration": 10, "error": 0,
                        "meta": {"prompt.id": "p", "workflow.status": "success"}}])
        writer.flush(10)

    def test_a_webhook_is_told_where_the_authority_is_known_and_waits_where_it_is_not(self) -> None:
        with HookReceiver() as hook, tls_in_front_of(int(hook.url.split(":")[2].split("/")[0]), self.pem) as url:
            env = {"COMFYMON_DESTINATIONS": "none", "COMFYMON_WEBHOOK_URL": f"{url}/hook"}
            with Agent(env=env) as agent, Writer(agent.socket_path) as writer:
                self.one_job(writer)
                wait_until(lambda: "certificate" in agent.status()["webhook"]["last_error"].lower(), 15, "the reason in the status")
                self.assertEqual((agent.status()["webhook"]["waiting"], hook.calls), (1, []))
            with Agent(env={**env, "SSL_CERT_FILE": str(self.folder / "cert.pem")}) as agent, \
                    Writer(agent.socket_path) as writer:
                self.one_job(writer)
                wait_until(lambda: len(hook.told()) == 1, 15, "the job, over TLS")


if __name__ == "__main__":
    unittest.main()
