"""What the tests of moetrace.open share: files made by hand, and errors that are one line."""

import gzip
import json
import pathlib
import shutil
import subprocess
import sys

import numpy

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "daemon/testing"))
import harness  # noqa: E402  (in the folder just named)
import moetrace  # noqa: E402

META = {
    "type": "meta",
    "layers_logged": [0, 2],
    "top_k": 2,
    "num_experts": 8,
    "schema": "moetrace/1",
    "trace_id": "t",
    "num_layers": 3,
}
PLAIN_META = {"type": "meta", "model_id": "m", "layers_logged": [0], "top_k": 2}


def route(token=0, layer=0, ids=(3, 0), weights=(0.5, 0.25), request=0, **more):
    return {
        "type": "route",
        "req_id": f"r{request}",
        "token_idx": token,
        "layer": layer,
        "topk_ids": list(ids),
        "topk_weights": list(weights),
        "request": request,
        "step": token,
        "seq": 0,
        **more,
    }


def packings(text):
    """(name, compressed text) for each compression that there is a program for."""
    yield "gzip", gzip.compress(text)
    if shutil.which("zstd"):
        yield (
            "zstd",
            subprocess.run(["zstd", "-q"], input=text, capture_output=True, check=True).stdout,
        )


class Case(harness.Case):
    def setUp(self):
        super().setUp()
        self.random = numpy.random.default_rng(7)

    def write(self, *lines, end="\n"):
        """A file of these lines; dicts are written as JSON, bytes as they are."""
        path = self.folder / f"file.{next(self.numbers)}.jsonl"
        encoded = [
            line if isinstance(line, bytes) else json.dumps(line, separators=(",", ":")).encode()
            for line in lines
        ]
        path.write_bytes(b"\n".join(encoded) + end.encode())
        return path

    def open(self, path, **options):
        trace = moetrace.open(path, **options)
        self.addCleanup(trace.close)
        return trace

    def assert_wrong(self, pattern, path, use=lambda trace: trace.requests(), **options):
        with self.assertRaises(moetrace.ReadError) as caught:
            use(self.open(path, **options))
        self.assertRegex(str(caught.exception), pattern)
        self.assertRegex(
            str(caught.exception),
            r"^[^\n]+: [^\n]+; [^\n]+$",
            "not one line with what, why and what to try",
        )
