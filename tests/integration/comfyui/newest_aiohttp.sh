#!/usr/bin/env bash
# Runs a test (aiohttp_test.py) with the newest aiohttp that this Python can install.
#   newest_aiohttp.sh PYTHON FOLDER [TEST]    the virtual environment is made in FOLDER, once
# Exits 77 (skipped), saying why, when no package index can be reached.
set -euo pipefail
python=$1
folder=$2
here=$(dirname "$0")

if ! "$folder/bin/python" -c 'import aiohttp' 2>/dev/null; then
	rm -rf "$folder"
	if ! "$python" -m venv "$folder" >"$folder.log" 2>&1 ||
		! timeout 120 "$folder/bin/pip" install --quiet --disable-pip-version-check --retries 1 aiohttp >>"$folder.log" 2>&1; then
		echo "skipped: no aiohttp could be installed for $python"
		tail -2 "$folder.log"
		rm -rf "$folder"
		exit 77
	fi
fi
exec "$folder/bin/python" -W ignore "${3:-$here/aiohttp_test.py}"
