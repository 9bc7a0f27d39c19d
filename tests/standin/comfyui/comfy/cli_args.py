"""Command line, the part of upstream's that tests use; unknown words are ignored."""
from __future__ import annotations

import argparse

parser = argparse.ArgumentParser(allow_abbrev=False)
parser.add_argument("--listen", type=str, default="127.0.0.1", nargs="?", const="0.0.0.0")
parser.add_argument("--port", type=int, default=8188)
parser.add_argument("--tls-keyfile", type=str, default=None)
parser.add_argument("--tls-certfile", type=str, default=None)
parser.add_argument("--base-directory", type=str, default=None)
parser.add_argument("--output-directory", type=str, default=None)
parser.add_argument("--custom-nodes-dir", action="append", default=[])
parser.add_argument("--profile", type=str, default=None)
parser.add_argument("--cpu", action="store_true")
parser.add_argument("--disable-all-custom-nodes", action="store_true")
parser.add_argument("--whitelist-custom-nodes", nargs="+", default=[])
parser.add_argument("--disable-api-nodes", action="store_true")
parser.add_argument("--disable-smart-memory", action="store_true")
parser.add_argument("--cache-lru", type=int, default=0)
parser.add_argument("--cache-none", action="store_true")
parser.add_argument("--front-end-root", type=str, default=None)
parser.add_argument("--quick-test-for-ci", action="store_true")
parser.add_argument("--verbose", default="INFO", const="DEBUG", nargs="?")

args, ignored = parser.parse_known_args()
