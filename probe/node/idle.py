"""What `import comfymon` gives where no extension was loaded: the same names, and nothing happens.

A node that records spans of its own (probe/python/README.md) goes on without asking.
"""
from __future__ import annotations


class Span:
    """The block or the function that it is put around runs, and nothing is recorded."""

    trace_id = span_id = parent_id = 0
    error = False

    def __init__(self, name, resource=None, service=None, type=None):
        self.name = name

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        return False

    def __call__(self, function):
        return function

    def start(self):
        return self

    def finish(self):
        pass

    def set_tag(self, key, value):
        pass

    def set_metric(self, key, number):
        pass

    def set_error(self, exception):
        pass


trace = Span


def current():
    return None


current_ids = current


def is_on():
    return False


def attach(rows=None):
    return 0


def detach():
    return None


def hooks():
    return []


def warnings():
    return []


def status():
    return {"on": False, "reason": "no extension is loaded"}
