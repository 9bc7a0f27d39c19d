"""What the journal costs the collector: a job as its records come, the same job told to a webhook, and the newest fifty of
many asked for.

CPU of the whole agent by the scheduler's own count, per job, the smallest of some rounds; the baseline sends the same records
under a name that makes no job. Prints JSON lines, see report.py.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any, Dict, Tuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))
from report import report  # noqa: E402
from support.harness import Agent, wait_until  # noqa: E402
from support.hook_receiver import HookReceiver  # noqa: E402
from support.writer import Writer  # noqa: E402

JOBS, ROUNDS = 150, 4
MANY, FEW, SHOWN = 10_000, 50, 50
JOURNAL_MS, WEBHOOK_MS, LIST_MS = 1.0, 1.0, 50.0


def cpu_ms(agent: Agent) -> float:
    tasks = Path(f"/proc/{agent.pid}/task")
    return sum(int(task.joinpath("schedstat").read_text(encoding="ascii").split()[0]) for task in tasks.iterdir()) / 1e6


def span(writer: Writer, trace: int, name: str, duration: int, tags: Dict[str, Any]) -> Dict[str, Any]:
    return {"trace_id": trace, "span_id": trace * 10 + len(name), "parent_id": 0, "service": "s", "name": name,
            "resource": "SaveImage 3fa91c02", "type": "worker", "start": writer.now() - duration, "duration": duration,
            "error": 0, "meta": {"prompt.id": f"{trace:08x}-0000-4000-8000-000000000000", **tags}, "metrics": {"queue.item": trace}}


def one_job(writer: Writer, trace: int, names: Tuple[str, str]) -> None:
    """Its records one by one, as they come when ComfyUI is not in a hurry: a transaction each."""
    wait, run = names
    writer.open([span(writer, trace, wait, 0, {})])
    writer.flush(10)
    writer.open([span(writer, trace, run, 0, {})])
    writer.finish([span(writer, trace, wait, 1_000_000, {})])
    writer.flush(10)
    writer.finish([span(writer, trace, run, 2_000_000, {"workflow.status": "success"})])
    writer.flush(10)


def per_job(names: Tuple[str, str], hook: bool) -> float:
    best = float("inf")
    with HookReceiver() as receiver:
        env = {"COMFYMON_DESTINATIONS": "none", **({"COMFYMON_WEBHOOK_URL": receiver.url} if hook else {})}
        with Agent(env=env) as agent, Writer(agent.socket_path) as writer:
            for number in range(ROUNDS):
                began = cpu_ms(agent)
                for job in range(JOBS):
                    one_job(writer, 1 + number * JOBS + job, names)
                if hook:
                    wait_until(lambda: len(receiver.told()) == (number + 1) * JOBS, 30, "all of them told")
                best = min(best, (cpu_ms(agent) - began) / JOBS)
            jobs = sum(agent.status()["jobs"].values())
    if jobs != (ROUNDS * JOBS if names[1] == "comfyui.workflow.execute" else 0):
        raise SystemExit(f"{jobs} jobs in the journal")
    return best


def list_ms(count: int) -> float:
    with Agent(env={"COMFYMON_DESTINATIONS": "none"}) as agent, Writer(agent.socket_path) as writer:
        writer.finish([span(writer, 1 + i, "comfyui.workflow.execute", 1_000_000, {"workflow.status": "success"})
                       for i in range(count)])
        writer.flush(60)
        best = float("inf")
        for _ in range(15):
            began = time.perf_counter()
            lines = agent.cli("jobs", "--json", "--limit", str(SHOWN)).stdout.count("\n")
            best = min(best, (time.perf_counter() - began) * 1000)
            if lines != SHOWN:
                raise SystemExit(f"{lines} jobs shown of {count}")
    return best


def main() -> None:
    job = ("comfyui.queue.wait", "comfyui.workflow.execute")
    bare = per_job(("other.wait", "other.execute"), False)
    kept = per_job(job, False)
    told = per_job(job, True)
    report("job in the journal, CPU of the agent", kept - bare, "ms", "the same records, no job", bare, JOURNAL_MS)
    report("job told to a webhook, CPU of the agent", told - kept, "ms", "job in the journal alone", kept, WEBHOOK_MS)
    report(f"jobs --json --limit {SHOWN} of {MANY}", list_ms(MANY), "ms", f"of {FEW}", list_ms(FEW), LIST_MS)


if __name__ == "__main__":
    main()
