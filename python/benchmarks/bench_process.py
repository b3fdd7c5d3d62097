"""The processes of a benchmark: each prints its results as lines RESULT {...}."""

import json
import subprocess

_MARK = "RESULT "


class BenchError(Exception):
    """A process failed. The text names it, in one line."""


def say(**result):
    print(_MARK + json.dumps(result), flush=True)


def results_of(command, environment, log):
    """Runs a process to its end. Its results; `log`, an open file, gets everything that it prints.

    Raises BenchError if it fails.
    """
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)
    log.write(done.stdout)
    if done.returncode != 0:
        raise BenchError(f"a process failed with {done.returncode}; see {log.name}")
    lines = done.stdout.splitlines()
    return [json.loads(line.removeprefix(_MARK)) for line in lines if line.startswith(_MARK)]
