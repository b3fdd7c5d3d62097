"""What the tests of moetrace_steps share: an engine that schedules as vLLM does, and its trace."""

import types

import numpy
from moetrace.recording import _library
from producer_case import harness, open_producer

Steps = _library.load_compiled("moetrace_steps").Steps


def new_request(id, prompt, cached, most):
    """A request as vLLM schedules it. prompt: its number of tokens, or None: unknown."""
    return types.SimpleNamespace(
        req_id=id,
        prompt_token_ids=None if prompt is None else [0] * prompt,
        num_computed_tokens=cached,
        sampling_params=types.SimpleNamespace(max_tokens=most),
    )


def schedule(new=(), gone=()):
    """What vLLM's scheduler says of requests that begin and that have ended."""
    return types.SimpleNamespace(scheduled_new_reqs=list(new), finished_req_ids=set(gone))


class Engine:
    """Schedules passes as vLLM does: new and finished requests, then a pass with tokens of each."""

    def __init__(self, producer, **modes):
        self.producer = producer
        self.steps = Steps(producer, **{"speculative": False, "asynchronous": True, **modes})
        self.positions = {}
        self.new_strings = False  # equal strings, never the same object: as from another process

    def run(self, tokens, new=(), gone=()):
        """tokens: {id: count}; new: (id, prompt tokens or None, cached tokens, max tokens) each."""
        self.steps.follow(schedule((new_request(*request) for request in new), gone))
        self.positions.update((id, cached) for id, _, cached, _ in new)
        if not tokens:
            return
        starts = numpy.cumsum([0, *tokens.values()], dtype="i4")
        ids = [id.encode().decode() for id in tokens] if self.new_strings else list(tokens)
        self.steps.announce(ids, starts, numpy.array([self.positions[id] for id in tokens], "i4"))
        self.producer.record(0, numpy.zeros((starts[-1], 1), "i4"))
        for id, count in tokens.items():
            self.positions[id] += count


class StepsCase(harness.Case):
    def engine(self, **modes):
        harness.Collector(self, "--output-dir", self.traces)
        producer = open_producer(self, num_layers=1, num_experts=8, top_k=1)
        return Engine(producer, **modes)

    def lines(self, engine):
        engine.steps.close()
        engine.producer.close()
        return self.lines_of_trace()

    @staticmethod
    def ends(lines):
        return [
            (r["req_id"], r["generated_tokens"], r["status"])
            for r in lines
            if r["type"] == "request_end"
        ]

    @staticmethod
    def positions(lines):
        rows = [(r["req_id"], r["token_idx"]) for r in lines if r["type"] == "route"]
        return {name: [position for other, position in rows if other == name] for name, _ in rows}
