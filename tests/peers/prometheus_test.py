"""Prometheus' own Python client reads the scrape page, and reads in it what the tests' parser reads.

The client (pinned below) lives in a virtual environment made here from PyPI; where that cannot be had the test is skipped,
visibly (exit code 77).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Optional

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from support.exposition import parse  # noqa: E402
from support.harness import Agent, wait_until  # noqa: E402
from support.traffic import Traffic  # noqa: E402
from support.writer import Writer  # noqa: E402

PACKAGE = "prometheus-client==0.21.1"
BUILD = Path(os.environ.get("COMFYMON_BUILD", "build/release"))
VENV = BUILD / "tests" / "prometheus-venv"
SKIPPED = 77
READER = """
import json, sys
from prometheus_client.parser import text_string_to_metric_families
print(json.dumps([[sample.name, sample.labels, sample.value, family.type]
                  for family in text_string_to_metric_families(sys.stdin.read()) for sample in family.samples]))
"""


def venv_python() -> Optional[Path]:
    """The environment's interpreter; made at the first call, None where it cannot be."""
    python, ready = VENV / "bin" / "python", VENV / "ready"
    if ready.exists() and ready.read_text() == PACKAGE:
        return python
    try:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)], check=True, timeout=60, capture_output=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", PACKAGE], check=True,
                       timeout=60, capture_output=True)
    except (subprocess.SubprocessError, OSError) as error:
        detail = (getattr(error, "stderr", b"") or b"").decode(errors="replace").strip().splitlines()
        print(f"SKIP: {PACKAGE} cannot be installed: {detail[-1] if detail else error}")
        return None
    ready.write_text(PACKAGE)
    return python


def scrape(agent: Agent) -> str:
    return subprocess.run(["curl", "-sS", "--max-time", "10", "--unix-socket", str(agent.control_path), "http://localhost/metrics"],
                          capture_output=True, text=True, timeout=20, check=True).stdout


def main() -> int:
    python = venv_python()
    if python is None:
        return SKIPPED
    with Agent(env={"COMFYMON_DESTINATIONS": "none", "DD_RUNTIME_METRICS_ENABLED": "true"}) as agent:
        with Writer(agent.socket_path, attrs={"service": 'quo"te\\d\nline {x="y"}', "env": "é\u2028"}) as writer:
            Traffic(writer).send(50, 5)
            writer.flush(10)
            wait_until(lambda: "comfymon_process_rss_bytes" in scrape(agent), 10, "the process to be sampled")
            text = scrape(agent)
    done = subprocess.run([str(python), "-c", READER], input=text, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != 0:
        print(done.stderr)
        return 1
    page = parse(text)
    theirs = {(name, frozenset(labels.items())): value for name, labels, value, _ in json.loads(done.stdout)}
    types = {name: kind for name, _, _, kind in json.loads(done.stdout)}
    wrong = [name for name, kind in types.items() if page.types.get(name) != kind]
    print(f"{len(theirs)} samples of {len(types)} metrics, {len(set(theirs) ^ set(page.samples))} differ, wrong types: {wrong}")
    return 0 if theirs == page.samples and not wrong and len(theirs) > 80 else 1


if __name__ == "__main__":
    sys.exit(main())
