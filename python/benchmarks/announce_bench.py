"""Host time of announcing a step, by the vLLM adapter and by Producer's own calls, without vLLM.

usage: announce_bench.py [--sizes 1,25,256] [--tokens 128] [--steps 512] [--sweep-mb 8] [--cuda]

For each batch size, requests of --tokens tokens begin and end: all together, or evenly, as in a
server. Before every call the caches are swept, as an engine does between two steps: with --sweep-mb
of memory and as many Python objects. The table has mean and median of the steps, in microseconds.
The step that announces a request's begin or end includes its cost; the last step includes the ends
that remain. There is no collector: the ring drops what it can't keep.

--cuda: announce to a GPU, by a kernel in PyTorch's current stream.
"""

import argparse
import statistics
import tempfile
import time
import types

import moetrace
import numpy
from moetrace.recording import _library


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--sizes", default="1,25,256", type=lambda text: [int(n) for n in text.split(",")]
    )
    parser.add_argument("--tokens", default=128, type=int)
    parser.add_argument("--steps", default=512, type=int)
    parser.add_argument("--sweep-mb", default=8, type=int)
    parser.add_argument("--cuda", action="store_true")
    return parser.parse_args()


class Sweep:
    def __init__(self, megabytes):
        self._memory = numpy.zeros(megabytes << 20, numpy.uint8)
        self._objects = [[object() for _ in range(64)] for _ in range(megabytes << 9)]

    def __call__(self):
        self._memory[::64] += 1
        for group in self._objects:
            for one in group[::8]:
                id(one)


class Request:
    """A new request as vLLM's scheduler describes it."""

    prompt_token_ids = [1] * 100
    num_computed_tokens = 0

    def __init__(self, number, tokens):
        self.req_id = f"{number}-{number:08x}"
        self.sampling_params = types.SimpleNamespace(max_tokens=tokens)


def workload(size, given, together):
    """For each step: finished, new and present requests, the rows' starts, the first positions."""
    batch, ages = [], numpy.zeros(size, numpy.int32)
    for number in range(size):
        batch.append(Request(number, given.tokens))
        ages[number] = 0 if together else number * given.tokens // size
    come, gone, number = list(batch), [], size
    starts = numpy.arange(size + 1, dtype=numpy.int32)
    for _ in range(given.steps):
        yield gone, come, [request.req_id for request in batch], starts, 100 + ages
        ages += 1
        come, gone = [], []
        for place in numpy.flatnonzero(ages == given.tokens):
            gone.append(batch[place].req_id)
            batch[place] = Request(number, given.tokens)
            come.append(batch[place])
            ages[place] = 0
            number += 1


def by_the_adapter(producer, sweep, steps):
    announcing = _library.load_compiled("moetrace_steps").Steps(
        producer, speculative=False, asynchronous=True
    )
    for gone, come, ids, starts, firsts in steps:
        schedule = types.SimpleNamespace(finished_req_ids=set(gone), scheduled_new_reqs=come)
        sweep()
        began = time.perf_counter_ns()
        announcing.follow(schedule)
        spent = time.perf_counter_ns() - began
        sweep()
        set(ids)  # vLLM's runner has just read its batch
        began = time.perf_counter_ns()
        announcing.announce(ids, starts, firsts)
        yield spent + time.perf_counter_ns() - began
    sweep()
    began = time.perf_counter_ns()
    announcing.close()
    yield time.perf_counter_ns() - began


def by_the_producer(producer, sweep, steps):
    live = {}
    for gone, come, ids, _, firsts in steps:
        sweep()
        began = time.perf_counter_ns()
        for id in gone:
            live.pop(id).end(None, "length")
        for new in come:
            live[new.req_id] = producer.request(
                new.req_id, len(new.prompt_token_ids), new.num_computed_tokens
            )
        producer.step(
            len(ids),
            [
                (live[id], first, row, 1)
                for row, (id, first) in enumerate(zip(ids, firsts.tolist()))
            ],
        )
        yield time.perf_counter_ns() - began
    sweep()
    began = time.perf_counter_ns()
    for request in live.values():
        request.end()
    yield time.perf_counter_ns() - began


def main():
    given = parse()
    sweep = Sweep(given.sweep_mb)
    print(
        "us of host time a step: mean, median"
        + (", the launch of the kernel included" if given.cuda else ", without a GPU")
    )
    print(f"{'':<34}" + "".join(f"{f'batch {size}':>16}" for size in given.sizes))
    for name, way in (
        ("vLLM's adapter", by_the_adapter),
        ("Producer.request, step, end", by_the_producer),
    ):
        for together in (True, False):
            cells = []
            for size in given.sizes:
                with (
                    tempfile.TemporaryDirectory(prefix="moetrace-", dir="/dev/shm") as folder,
                    moetrace.Producer(
                        num_layers=24,
                        num_experts=60,
                        top_k=4,
                        model_id="announce_bench",
                        directory=folder,
                        ring_mb=16,
                        cuda_device=0 if given.cuda else None,
                    ) as producer,
                ):
                    *spent, last = way(producer, sweep, workload(size, given, together))
                    spent[-1] += last
                cells.append(
                    f"{statistics.mean(spent) / 1e3:.1f}, {statistics.median(spent) / 1e3:.1f}"
                )
            print(
                f"{name + (', together' if together else ', evenly'):<34}"
                + "".join(f"{cell:>16}" for cell in cells),
                flush=True,
            )


if __name__ == "__main__":
    main()
