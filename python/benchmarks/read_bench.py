"""How fast traces are read, as JSON Lines and as rows as Arrow, beside parsing each line as JSON.

Prints a table of rows per second of processor time, best of three.

    read_bench.py [FILE]

Without a file it makes its own: 1,000,000 top-4 rows of a model of 24 layers and 60 experts, 32
requests in each pass. `moetrace convert`, from PATH, makes the same rows as Arrow. orjson, pandas
and pyarrow are measured if they are installed. MOETRACE_READER_LIBRARY names the library; the
package is on PYTHONPATH.
"""

import json
import pathlib
import platform
import random
import struct
import subprocess
import sys
import tempfile
import time

import moetrace
import numpy

LAYERS, EXPERTS, TOP_K, REQUESTS, ROWS = 24, 60, 4, 32, 1_000_000


def make(path):
    """Lines as the collector writes them; weights have the digits that float32 needs."""
    rng = random.Random(1234)
    weights = [
        str(numpy.float32(struct.unpack("<f", struct.pack("<f", rng.random() / 2))[0]))
        for _ in range(9973)
    ]
    meta = {
        "type": "meta",
        "model_id": "bench",
        "layers_logged": list(range(LAYERS)),
        "top_k": TOP_K,
        "num_experts": EXPERTS,
        "schema": "moetrace/1",
        "trace_id": "bench",
        "num_layers": LAYERS,
    }
    with path.open("w") as file:
        file.write(json.dumps(meta) + "\n")
        for request in range(REQUESTS):
            file.write(
                f'{{"type":"request","req_id":"r{request}","prompt_tokens":null,'
                f'"cached_tokens":null,"request":{request},"event":{request}}}\n'
            )
        for seq in range(ROWS):
            step, layer, request = (
                seq // (LAYERS * REQUESTS),
                seq // REQUESTS % LAYERS,
                seq % REQUESTS,
            )
            if layer == request == 0:
                file.write(
                    f'{{"type":"step","step":{step},"rows":{REQUESTS},"layers":{LAYERS},'
                    f'"time_ns":{step * 10_000_000},'
                    f'"seq":{seq},"dropped_total":0,"event":{REQUESTS + step}}}\n'
                )
            ids = ",".join(map(str, rng.sample(range(EXPERTS), TOP_K)))
            gates = ",".join(weights[rng.randrange(len(weights))] for _ in range(TOP_K))
            file.write(
                f'{{"type":"route","req_id":"r{request}","token_idx":{step},"layer":{layer},"topk_ids":[{ids}],'
                f'"topk_weights":[{gates}],"request":{request},"step":{step},"seq":{seq}}}\n'
            )


def with_batches(path):
    return sum(len(batch) for batch in moetrace.open(path).batches())


def with_experts(path):
    return int(moetrace.open(path).experts().sum()) // moetrace.open(path).top_k


def with_json(path, loads=json.loads):
    """Up to comparable columns: lists of ids and of weights, then two arrays."""
    ids, weights = [], []
    with open(path, "rb") as file:
        for line in file:
            row = loads(line)
            if row["type"] == "route":
                ids.append(row["topk_ids"])
                weights.append(row["topk_weights"])
    numpy.array(weights, "float32")
    return len(numpy.array(ids, "int32"))


def with_pandas(path):
    import pandas

    return int((pandas.read_json(path, lines=True)["type"] == "route").sum())


def with_pyarrow(path):
    import pyarrow

    with pyarrow.memory_map(str(path)) as file:
        return len(pyarrow.ipc.open_stream(file).read_all())


def ways(path):
    kind = "rows as Arrow" if path.suffix == ".arrows" else "JSON Lines"
    yield f"{kind}: `moetrace.open(file).batches()`", with_batches
    yield f"{kind}: `moetrace.open(file).experts()`, counts only", with_experts
    if path.suffix == ".arrows":
        try:
            import pyarrow.ipc  # noqa: F401  (is it installed?)

            yield f"{kind}: `pyarrow.ipc.open_stream(file).read_all()`", with_pyarrow
        except ImportError:
            pass
        return
    yield "`json.loads`, a line at a time, into numpy", with_json
    try:
        import orjson

        yield (
            "`orjson.loads`, a line at a time, into numpy",
            lambda path: with_json(path, orjson.loads),
        )
    except ImportError:
        pass
    try:
        import pandas  # noqa: F401  (is it installed?)

        yield "`pandas.read_json(lines=True)`", with_pandas
    except ImportError:
        pass


def cpu():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(": ")[1]
    return "unknown CPU"


def main():
    with tempfile.TemporaryDirectory(prefix="moetrace-bench.") as folder:
        paths = [pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else f"{folder}/trace.jsonl")]
        if len(sys.argv) <= 1:
            make(paths[0])
            paths.append(pathlib.Path(folder, "rows.arrows"))
            subprocess.run(["moetrace", "convert", paths[0], "-o", paths[1]], check=True)
        print(
            f"| {cpu()}, Python {platform.python_version()} | million rows/s, one core |\n|---|---|"
        )
        expected = with_batches(paths[0])
        for path, (name, way) in ((file, way) for file in paths for way in ways(file)):
            best = float("inf")
            for _ in range(3):
                start = time.process_time()
                rows = way(path)
                best = min(best, time.process_time() - start)
                assert rows == expected, f"{name} has {rows} rows instead of {expected}"
            print(f"| {name} | {rows / best / 1e6:.2f} |")


if __name__ == "__main__":
    main()
