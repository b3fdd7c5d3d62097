#!/usr/bin/python3
"""Checks a trace file against its format, from the file alone. Shares no code with the programs
that write and verify traces.

Checked:
  - every line is one whole JSON object; `meta` is the first, `end` the last; keys of the public
    format come first, in order;
  - conservation: attempted = delivered + filtered + dropped + torn, at the end and, with the
    running totals, at each step line;
  - once: seq and event rise strictly, no (request, position, layer) twice in a step, every gap in
    seq has its reason;
  - layers: with `layers` in `meta`, each row has as many ids as its layer's top_k, all of them
    experts of that layer, and no row or selection is of a layer that is not listed;
  - sense: a route belongs to the step announced before it, to a live request, to a logged layer,
    and a step has no more routes than it announced; loss totals add up; positions of a request
    have no gap (--contiguous).
  - with --source FILE: the routes are those of that file, one by one (ids, float32 weights,
    request ids, positions, layers).

Exit code 0 and a line of counts, or 1 and the first line that is wrong.
"""

import argparse
import json
import struct
import sys

META_KEYS = [
    "type",
    "model_id",
    "vllm_version",
    "torch_version",
    "device",
    "seed",
    "layers_logged",
    "top_k",
    "num_experts",
]
LAYER_KEYS = [
    "layer",
    "experts",
    "zero_experts",
    "top_k",
    "score",
    "renormalized",
    "scaling",
    "biased",
    "groups",
    "topk_groups",
    "table",
]
ROUTE_KEYS = ["type", "req_id", "token_idx", "layer", "topk_ids", "topk_weights"]


class Wrong(Exception):
    """The fault, with the number of its line."""


def refuse_constant(name):
    raise ValueError(f"{name} is not JSON")


def as_float32(weights):
    return tuple(
        None if w is None else struct.unpack("<f", struct.pack("<f", w))[0] for w in weights
    )


def route_content(route):
    return (
        route["req_id"],
        route["token_idx"],
        route["layer"],
        tuple(route["topk_ids"]),
        as_float32(route["topk_weights"]),
    )


def source_routes(path):
    with open(path, encoding="utf-8") as file:
        for text in file:
            line = json.loads(text)
            if line.get("type") == "route":
                yield route_content(line)


class Checker:
    def __init__(self, source=None, contiguous=False):
        self.source = source
        self.contiguous = contiguous
        self.meta = None
        self.base = None
        self.end = None
        self.lines = 0
        self.attempted = self.delivered = self.filtered = self.dropped = self.torn = (
            0  # of this file
        )
        self.base_totals = {"attempted": 0, "delivered": 0, "filtered": 0, "dropped": 0, "torn": 0}
        self.holes = 0  # torn slots with a number
        self.next_seq = 0
        self.next_event = 0
        self.step = None
        self.step_number = -1
        self.step_rows = {}  # layer -> routes of the current step
        self.step_keys = set()
        self.live = {}  # request number -> request line
        self.positions = {}  # (request, layer) -> next position

    def require(self, holds, what):
        if not holds:
            raise Wrong(f"line {self.lines}: {what}")

    def take_text(self, text):
        self.lines += 1
        self.require(text.endswith(b"\n"), "torn: it has no newline")
        try:
            line = json.loads(text, parse_constant=refuse_constant)
        except ValueError as error:
            raise Wrong(f"line {self.lines}: not JSON: {error}") from None
        self.require(
            isinstance(line, dict) and isinstance(line.get("type"), str),
            "not an object with a type",
        )
        self.require(self.end is None, "something after `end`")
        self.require(
            (line["type"] == "meta") == (self.lines == 1), "`meta` is the first line and only that"
        )
        take = getattr(self, "take_" + line["type"], None)
        if take is not None:  # a reader ignores unknown types
            take(line)

    def take_event(self, line):
        event = line["event"]
        if event is None:
            self.require(self.base is not None and line["type"] == "request", "no event number")
            return
        self.require(event >= self.next_event, f"event {event} after event {self.next_event - 1}")
        self.next_event = event + 1

    def total(self, name):
        return self.base_totals[name] + getattr(self, name)

    def take_meta(self, meta):
        self.require(
            list(meta)[: len(META_KEYS)] == META_KEYS,
            "`meta` does not begin with the keys of the public format",
        )
        self.require(meta["schema"] == "moetrace/1", "another schema")
        self.require(1 <= meta["top_k"] <= 32 and meta["num_experts"] > 0, "top_k or num_experts")
        self.meta = meta
        self.layers = set(meta["layers_logged"])
        self.require(("engine_id" in meta) == ("layers" in meta), "one of engine_id and layers")
        self.declared = None  # layer -> (top_k, ids)
        if meta.get("layers") is not None:
            self.take_declared(meta)

    def take_declared(self, meta):
        for layer in meta["layers"]:
            self.require(list(layer) == LAYER_KEYS, f"keys of {layer}")
        numbers = [layer["layer"] for layer in meta["layers"]]
        self.require(numbers == sorted(set(numbers)), "`layers` does not rise")
        self.declared = {}
        for layer in meta["layers"]:
            known = None not in (layer["experts"], layer["zero_experts"])
            ids = layer["experts"] + layer["zero_experts"] if known else meta["num_experts"]
            top_k = meta["top_k"] if layer["top_k"] is None else layer["top_k"]
            self.require(1 <= top_k <= meta["top_k"], f"top_k of layer {layer['layer']}")
            self.require(1 <= ids <= meta["num_experts"], f"experts of layer {layer['layer']}")
            self.declared[layer["layer"]] = top_k, ids
        self.require_declared(self.layers)

    def require_declared(self, layers):
        unknown = set(layers) - set(self.declared if self.declared is not None else layers)
        self.require(not unknown, f"{sorted(unknown)} are not among the `layers` of `meta`")

    def take_part(self, part):
        self.require(part["part"] > 1, "the first part of a trace has no `part` line")
        self.take_base(part)

    def take_base(self, base):
        self.require(self.lines == 2, "`base` or `part` is the second line")
        self.base = base
        for name in self.base_totals:
            self.base_totals[name] = base[name + "_total"]
        # Rows that an earlier file announced and that are still open count here.
        self.attempted = base["open"]
        self.base_totals["attempted"] -= base["open"]
        self.require(
            sum(self.base_totals[name] for name in ("delivered", "filtered", "dropped", "torn"))
            == self.base_totals["attempted"],
            "the totals of `base` do not add up",
        )
        self.next_seq = base["seq"]
        self.next_event = base["event"]

    def take_request(self, request):
        self.take_event(request)
        self.require(
            request["request"] not in self.live, f"request {request['request']} begins twice"
        )
        self.live[request["request"]] = request

    def take_request_end(self, end):
        self.take_event(end)
        request = self.live.pop(end["request"], None)
        self.require(request is not None, f"request {end['request']} ends and is not live")
        self.require(request["req_id"] == end["req_id"], "req_id differs from that of its request")
        if self.contiguous:
            self.check_length(request, end)

    def check_length(self, request, end):
        """A request that ended well has rows for all its tokens but the last generated one."""
        if None in (request["prompt_tokens"], end["generated_tokens"]):
            return
        expected = request["prompt_tokens"] + end["generated_tokens"] - 1
        for layer in self.layers:
            have = self.positions.pop((end["request"], layer), request["cached_tokens"] or 0)
            self.require(
                have == expected,
                f"layer {layer} of {end['req_id']} ends at {have}, not at {expected}",
            )

    def take_control(self, control):
        self.take_event(control)
        self.layers = set(control["layers"])
        self.require_declared(self.layers)

    def take_step(self, step):
        self.take_event(step)
        self.require(
            step["step"] > self.step_number, f"step {step['step']} after step {self.step_number}"
        )
        self.attempted += step["rows"] * step["layers"]
        self.check_totals(step)
        self.require(step["seq"] >= self.next_seq, "its seq was used already")
        # A gap after the last route holds filtered slots; `seq_covered` proves it.
        self.next_seq = step["seq"]
        self.seq_covered(step["seq"])
        self.step = step
        self.step_number = step["step"]
        self.step_rows = {}
        self.step_keys = set()

    def check_totals(self, step):
        self.filtered = step["filtered_total"] - self.base_totals["filtered"]
        self.require(self.filtered >= 0, "filtered_total went back")
        for name in ("attempted", "delivered", "dropped", "torn"):
            self.require(
                step[name + "_total"] == self.total(name),
                f"{name}_total is {step[name + '_total']}, counted {self.total(name)}",
            )

    def seq_covered(self, seq):
        base = self.base["seq"] if self.base else 0
        covered = self.delivered + self.filtered + self.holes
        self.require(
            seq - base == covered, f"{seq - base} slots, but {covered} delivered, filtered or torn"
        )

    def take_route(self, route):
        self.require(
            list(route)[: len(ROUTE_KEYS)] == ROUTE_KEYS,
            "a route does not begin with the keys of the public format",
        )
        self.require(
            route["seq"] >= self.next_seq, f"seq {route['seq']}, expected {self.next_seq} or more"
        )
        self.next_seq = route["seq"] + 1
        self.delivered += 1
        self.check_entries(route)
        layer, position, request = route["layer"], route["token_idx"], route["request"]
        self.require(layer in self.layers or self.base is not None, f"layer {layer} is not logged")
        self.check_place(route, layer)
        if request is not None:
            self.require(request in self.live, f"request {request} is not live")
            self.require(
                self.live[request]["req_id"] == route["req_id"],
                "req_id differs from that of its request",
            )
            key = (request, position, layer)
            self.require(
                position is None or key not in self.step_keys,
                f"request {request}, position {position}, layer {layer} twice in a step",
            )
            self.step_keys.add(key)
        if self.contiguous and request is not None:
            expected = self.positions.get(
                (request, layer), self.live[request]["cached_tokens"] or 0
            )
            self.require(
                position == expected,
                f"position {position} of {route['req_id']}, expected {expected}",
            )
            self.positions[(request, layer)] = position + 1
        if self.source is not None:
            self.require(
                next(self.source, None) == route_content(route), "it is not the source's next route"
            )

    def check_entries(self, route):
        ids, weights = route["topk_ids"], route["topk_weights"]
        top_k, experts = self.meta["top_k"], self.meta["num_experts"]
        if self.declared is not None:
            self.require_declared([route["layer"]])
            top_k, experts = self.declared[route["layer"]]
        self.require(len(ids) == len(weights) == top_k, "not top_k entries")
        self.require(
            all(i is None or 0 <= i < experts for i in ids),
            "an expert that is not there",
        )

    def check_place(self, route, layer):
        if self.step is None:
            self.require(
                self.base is not None and route["step"] == self.base["step"],
                "a route before any step",
            )
            return
        self.require(
            route["step"] == self.step["step"],
            f"a route of step {route['step']} in step {self.step['step']}",
        )
        rows = self.step_rows[layer] = self.step_rows.get(layer, 0) + 1
        self.require(
            rows <= self.step["rows"],
            f"{rows} routes of layer {layer} in a step of {self.step['rows']} rows",
        )
        self.require(
            len(self.step_rows) <= self.step["layers"], "routes of more layers than the step has"
        )

    def take_loss(self, loss):
        self.require(loss["dropped"] > 0, "a loss of nothing")
        self.require(
            loss["cause"] in ("ring_full", "event_ring_full"), f"unknown cause {loss['cause']}"
        )
        if loss["cause"] == "event_ring_full":
            self.attempted += loss["dropped"]
        self.dropped += loss["dropped"]
        self.require(
            loss["dropped_total"] == self.total("dropped"),
            f"dropped_total is {loss['dropped_total']}, counted {self.total('dropped')}",
        )

    def take_torn(self, torn):
        self.require(torn["count"] > 0, "nothing is torn")
        self.torn += torn["count"]
        if torn["first_seq"] is not None:
            self.require(torn["first_seq"] >= self.next_seq, "torn slots that were used already")
            self.next_seq = torn["first_seq"] + torn["count"]
            self.holes += torn["count"]

    def take_end(self, end):
        self.end = end
        self.filtered = end["filtered"]
        if end["status"] == "continued":  # the next part has these rows
            self.attempted -= end["open"]
        for name in ("attempted", "delivered", "filtered", "dropped", "torn"):
            self.require(
                end[name] == getattr(self, name),
                f"{name} is {end[name]}, counted {getattr(self, name)}",
            )
        self.require(
            self.attempted == self.delivered + self.filtered + self.dropped + self.torn,
            "rows are missing or too many",
        )
        cost = end.get("cost", {"announce_ns": None, "hook_ns": None})  # older traces lack it
        self.require(
            all(cost[name] is None or cost[name] >= 0 for name in ("announce_ns", "hook_ns")),
            "a negative cost",
        )
        ring = end.get("ring", {"slots": 1, "high_water": 0})  # older traces lack it
        self.require(0 <= ring["high_water"] <= ring["slots"] > 0, "a ring that was more than full")
        self.require(
            end["status"] in ("closed", "producer died", "continued", "bad segment"),
            "unknown status",
        )

    def finish(self, need_end, whole_source):
        self.require(self.lines > 0, "the file is empty")
        self.require(self.end is not None or not need_end, "no `end` line")
        if self.source is not None and whole_source:
            self.require(next(self.source, None) is None, "the source has more routes")


def check_file(path, source=None, *, need_end=True, whole_source=True, contiguous=False):
    """The finished Checker of a file, or Wrong."""
    checker = Checker(source_routes(source) if source else None, contiguous)
    with open(path, "rb") as file:
        for text in file:
            try:
                checker.take_text(text)
            except (KeyError, TypeError, AttributeError) as error:
                raise Wrong(f"line {checker.lines}: {type(error).__name__}: {error}") from None
    checker.finish(need_end, whole_source)
    return checker


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("file")
    parser.add_argument("--source", help="the routes must be those of this file")
    parser.add_argument("--prefix", action="store_true", help="the source may have more routes")
    parser.add_argument("--open", action="store_true", help="the trace may still be written")
    parser.add_argument(
        "--contiguous", action="store_true", help="positions of a request have no gap"
    )
    options = parser.parse_args()
    try:
        done = check_file(
            options.file,
            options.source,
            need_end=not options.open,
            whole_source=not options.prefix,
            contiguous=options.contiguous,
        )
    except (Wrong, OSError) as error:
        print(f"{options.file}: {error}", file=sys.stderr)
        return 1
    print(
        f"{options.file}: {done.lines} lines hold: attempted {done.attempted} = "
        f"delivered {done.delivered} + filtered "
        f"{done.filtered} + dropped {done.dropped} + torn {done.torn}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
