#!/usr/bin/env bash
# load_and_check.sh LOAD CHECK ROWS LAYERS STEPS: LOAD (moetrace-cuda-load) has a GPU write ROWS x
# LAYERS x STEPS records, while CHECK (moetrace-cuda-load-check), another process, compares every
# byte of them. MOETRACE_RING_MB sets the ring's size.
set -euo pipefail
load=$1 check=$2 rows=$3 layers=$4 steps=$5
rings=$(mktemp -d -p /dev/shm)
trap 'rm -rf "$rings"' EXIT
export MOETRACE_DIR=$rings
"$check" "$rows" "$layers" &
checker=$!
"$load" "$rows" "$layers" "$steps" --lossless &
loader=$!
# Each process waits for the other one, so end both once one has failed.
wait -n -p first || { code=$?; kill "$checker" "$loader" 2>/dev/null; wait; exit "$code"; }
if [ "$first" = "$loader" ]; then wait "$checker"; else wait "$loader"; fi
