"""How a Python program of this folder says a figure: one line of JSON, as report.h does for those in C."""

from __future__ import annotations

import json
from typing import Optional


def report(name: str, value: float, unit: str, baseline: Optional[str], base: float, at_most: float) -> None:
    """`value` shall be at most `at_most`; baseline None: there is none."""
    print(json.dumps({"name": name, "value": round(value, 2), "unit": unit, "baseline": baseline,
                      "baseline_value": round(base, 2) if baseline else None,
                      "ratio": round(value / base, 3) if baseline and base else None,
                      "goal": f"<= {at_most:g}", "met": value <= at_most}), flush=True)
