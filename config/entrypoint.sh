#!/bin/sh
# Entry point of a container with ComfyUI: comfymon as PID 1, which takes orphans away, obeys docker
# stop in order (give it --stop-timeout 40), and starts ComfyUI again when it dies of memory.
#
#	COPY entrypoint.sh /
#	ENTRYPOINT ["/entrypoint.sh"]
#	CMD ["--listen", "0.0.0.0"]
#	VOLUME /var/lib/comfymon
#
# COMFYUI_DIR (/ComfyUI) and COMFYUI_PYTHON (python3) say what is run. The node must be installed in
# ComfyUI (comfymon install --copy); the program is taken from it. A container's control groups are
# mostly read-only: then memory is watched, below what the container itself may have (its limit
# less a tenth), so that ComfyUI ends with a verdict before the kernel ends anybody in the container.
set -eu
dir=${COMFYUI_DIR:-/ComfyUI}
program=${COMFYMON_PROGRAM:-$dir/custom_nodes/comfymon/comfymon}
export COMFYMON_DATA_DIR="${COMFYMON_DATA_DIR:-/var/lib/comfymon}"
cd "$dir"
exec "$program" run -- "${COMFYUI_PYTHON:-python3}" main.py "$@"
