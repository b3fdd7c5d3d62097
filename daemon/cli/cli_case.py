"""Shared by the tests of the command line: a private ring directory, the programs, a made-up log.

Shares no code with the project.
"""

import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import unittest

BIN = None
VLLM_LOG = str(pathlib.Path(__file__).parents[2] / "trace/testdata/plain/vllm.jsonl")


def float32(value):
    return None if value is None else struct.pack("<f", value)


def rows_of(path):
    """Every row, with its weights as the bytes of their float32."""
    rows = []
    with open(path, encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            if row["type"] == "route":
                weights = [float32(w) for w in row["topk_weights"]]
                rows.append(
                    (row["req_id"], row["token_idx"], row["layer"], row["topk_ids"], weights)
                )
    return rows


def lines_of(path, kind):
    with open(path, encoding="utf-8") as file:
        return [row for row in map(json.loads, file) if row["type"] == kind]


def plain_log(path, passes=4, layers=(0, 2), requests=("a", "ü b", None)):
    """A plain log: a prefill of 5 tokens a request, then decode steps.

    Some expert ids and weights are unknown."""
    state = 1
    with open(path, "w", encoding="utf-8") as file:
        meta = {
            "type": "meta",
            "model_id": "made/up",
            "vllm_version": "0",
            "torch_version": "0",
            "device": "cpu",
            "seed": 7,
            "layers_logged": list(layers),
            "top_k": 3,
            "created_at": 1.0,
        }
        file.write(json.dumps(meta) + "\n")
        for number in range(passes):
            for layer in layers:
                for request in requests:
                    for token in range(5) if number == 0 else [4 + number]:
                        state = state * 6364136223846793005 + 1442695040888963407 & (1 << 64) - 1
                        ids = [
                            state >> 33 & 15,
                            None if token == 3 else state >> 40 & 15,
                            state >> 50 & 15,
                        ]
                        weights = [
                            struct.unpack("<f", struct.pack("<f", (state >> 20 & 0xFFFFF) / 3e6))[
                                0
                            ],
                            None,
                            1e-40,
                        ]
                        file.write(
                            json.dumps(
                                {
                                    "type": "route",
                                    "req_id": request,
                                    "token_idx": token,
                                    "layer": layer,
                                    "topk_ids": ids,
                                    "topk_weights": weights,
                                }
                            )
                            + "\n"
                        )


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [int(child) for child in file.read().split()]


def program(name):
    return os.path.join(BIN, name)


class CliTest(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="moetrace-cli-")
        self.rings = tempfile.mkdtemp(prefix="moetrace-rings-", dir="/dev/shm")
        self.env = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("MOETRACE", "VLLM_LOG_MOE"))
        }
        self.env |= {
            "MOETRACE_DIR": self.rings,
            "XDG_RUNTIME_DIR": self.dir,
            "MOETRACE_RING_MB": "1",
        }
        self.started = []

    def tearDown(self):
        for process in self.started:
            if process.poll() is None:
                process.kill()
            process.communicate()
        shutil.rmtree(self.dir)
        shutil.rmtree(self.rings)

    def path(self, name):
        return os.path.join(self.dir, name)

    def moetrace(self, *arguments, code=0, env=None):
        """Runs to its end; returns its standard output. `err` keeps its standard error."""
        done = subprocess.run(
            [program("moetrace"), *arguments],
            env=self.env | (env or {}),
            cwd=self.dir,
            capture_output=True,
            text=True,
            timeout=120,
        )
        self.err = done.stderr
        self.assertEqual(
            done.returncode, code, f"moetrace {' '.join(arguments)}\n{done.stdout}{done.stderr}"
        )
        return done.stdout

    def start(self, name, *arguments, **options):
        process = subprocess.Popen(
            [program(name), *arguments],
            env=self.env,
            cwd=self.dir,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )
        self.started.append(process)
        return process

    def wait_for(self, condition, what):
        deadline = time.monotonic() + 60
        while not (answer := condition()):
            self.assertLess(time.monotonic(), deadline, f"waited too long for {what}")
            time.sleep(0.005)
        return answer

    def one_line_error(self):
        self.assertEqual(self.err.count("\n"), 1, self.err)
        self.assertTrue(self.err.startswith("moetrace: "), self.err)


def main():
    """Runs the tests of the calling program. BIN_DIR, then unittest's own options."""
    global BIN
    BIN = os.path.abspath(sys.argv[1])
    unittest.main(module="__main__", argv=[sys.argv[0], *sys.argv[2:]])
