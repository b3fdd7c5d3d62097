#!/usr/bin/env bash
# load_and_check.sh LOAD CHECK ROWS LAYERS STEPS: one process, LOAD (moetrace-cuda-load), has a GPU write ROWS x LAYERS x STEPS
# records, another, CHECK (moetrace-cuda-load-check), compares every byte of each. MOETRACE_RING_MB is the ring's size.
set -euo pipefail
load=$1 check=$2 rows=$3 layers=$4 steps=$5
rings=$(mktemp -d -p /dev/shm)
trap 'rm -rf "$rings"' EXIT
export MOETRACE_DIR=$rings
"$check" "$rows" "$layers" &
checker=$!
"$load" "$rows" "$layers" "$steps" --lossless &
loader=$!
# Each waits for the other as long as it lives.
wait -n -p first || { code=$?; kill "$checker" "$loader" 2>/dev/null; wait; exit "$code"; }
if [ "$first" = "$loader" ]; then wait "$checker"; else wait "$loader"; fi
