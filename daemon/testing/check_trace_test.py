"""The checker finds each kind of damage: a good trace, changed in one place."""

import json
import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import arrow_rows  # noqa: E402  (beside this file)
import check_trace  # noqa: E402  (beside this file)

GOLDEN_ROWS = pathlib.Path(__file__).resolve().parents[2] / "trace/testdata/rows"

META = {
    "type": "meta",
    "model_id": "m",
    "vllm_version": None,
    "torch_version": None,
    "device": "cpu",
    "seed": 1,
    "layers_logged": [0, 3],
    "top_k": 2,
    "num_experts": 8,
    "schema": "moetrace/1",
}


def route(position, layer, step, seq):
    return {
        "type": "route",
        "req_id": "r0",
        "token_idx": position,
        "layer": layer,
        "topk_ids": [1, 2],
        "topk_weights": [0.5, None],
        "request": 0,
        "step": step,
        "seq": seq,
    }


def step(number, rows, seq, event, **totals):
    line = {
        "type": "step",
        "step": number,
        "rows": rows,
        "layers": 2,
        "time_ns": 5,
        "seq": seq,
        "event": event,
    }
    return {
        **line,
        **{
            f"{name}_total": totals.get(name, 0)
            for name in ("attempted", "delivered", "filtered", "dropped", "torn")
        },
    }


def good_trace():
    return [
        META,
        {
            "type": "request",
            "req_id": "r0",
            "prompt_tokens": 2,
            "cached_tokens": 0,
            "request": 0,
            "event": 0,
        },
        step(0, 2, 0, 1, attempted=4),
        route(0, 0, 0, 0),
        route(1, 0, 0, 1),
        route(0, 3, 0, 2),
        route(1, 3, 0, 3),
        step(1, 1, 4, 3, attempted=6, delivered=4),
        route(2, 0, 1, 4),
        {"type": "loss", "dropped": 1, "dropped_total": 1, "cause": "ring_full", "after_seq": 4},
        step(2, 1, 5, 5, attempted=8, delivered=5, dropped=1),
        {"type": "torn", "first_seq": 5, "count": 1},
        {"type": "torn", "first_seq": None, "count": 1},
        {
            "type": "request_end",
            "req_id": "r0",
            "generated_tokens": 3,
            "status": "length",
            "request": 0,
            "event": 7,
        },
        {
            "type": "end",
            "attempted": 8,
            "delivered": 5,
            "filtered": 0,
            "dropped": 1,
            "torn": 2,
            "status": "closed",
        },
    ]


class Damage(unittest.TestCase):
    def check(self, lines, tail=b"", **how):
        text = b"".join(json.dumps(line).encode() + b"\n" for line in lines) + tail
        path = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory())) / "trace.jsonl"
        path.write_bytes(text)
        return check_trace.check_file(path, **how)

    def assert_wrong(self, why, lines, **how):
        with self.assertRaisesRegex(check_trace.Wrong, why):
            self.check(lines, **how)

    def changed(self, at, **keys):
        lines = good_trace()
        lines[at] = {**lines[at], **keys}
        return lines

    def without(self, at):
        return [line for n, line in enumerate(good_trace()) if n != at]

    def test_cost_is_unknown_or_a_time(self):
        for cost in ({"announce_ns": None, "hook_ns": None}, {"announce_ns": 0, "hook_ns": 5}):
            self.check(self.changed(-1, cost=cost))
        self.assert_wrong(
            "a negative cost", self.changed(-1, cost={"announce_ns": 1, "hook_ns": -1})
        )
        self.assert_wrong("KeyError", self.changed(-1, cost={"announce_ns": 1}))

    def test_a_ring_is_at_most_full(self):
        for high_water in (0, 63, 64):
            self.check(self.changed(-1, ring={"slots": 64, "high_water": high_water}))
        for high_water in (-1, 65):
            self.assert_wrong(
                "more than full", self.changed(-1, ring={"slots": 64, "high_water": high_water})
            )
        self.assert_wrong("KeyError", self.changed(-1, ring={"slots": 64}))

    def test_good_trace_holds(self):
        done = self.check(good_trace())
        self.assertEqual((done.attempted, done.delivered, done.dropped, done.torn), (8, 5, 1, 2))

    def test_route_missing_or_twice(self):
        self.assert_wrong("delivered_total is 4, counted 3", self.without(4))
        twice = good_trace()
        twice.insert(5, twice[4])
        self.assert_wrong("seq 1, expected 2", twice)
        self.assert_wrong("position 0, layer 0 twice", self.changed(4, token_idx=0))

    def test_numbers_that_do_not_rise(self):
        self.assert_wrong("event 5 after event 5", self.changed(13, event=5))
        self.assert_wrong("step 0 after step 0", self.changed(7, step=0))

    def test_totals(self):
        self.assert_wrong("attempted_total", self.changed(7, attempted_total=7))
        self.assert_wrong("dropped_total", self.changed(9, dropped_total=2))
        self.assert_wrong("delivered is 6", self.changed(14, delivered=6))
        self.assert_wrong("torn is 2, counted 1", self.without(12))
        self.assert_wrong("slots, but", self.changed(10, seq=6))

    def test_layers_that_differ(self):
        unknown = dict.fromkeys(check_trace.LAYER_KEYS)
        first = {**unknown, "layer": 0}
        second = {**unknown, "layer": 3, "experts": 3, "zero_experts": 1, "top_k": 1}

        def trace(*layers, **last_row):
            lines = good_trace()
            lines[0] = {**META, "engine_id": None, "layers": list(layers)}
            for at in (5, 6):
                lines[at] = {**lines[at], "topk_ids": [3], "topk_weights": [0.5]}
            lines[6].update(last_row)
            return lines

        self.check(trace(first, second))
        self.assert_wrong("not top_k entries", trace(first, {**second, "top_k": None}))
        self.assert_wrong("not top_k entries", trace(first, second, topk_ids=[3, 2]))
        self.assert_wrong("an expert that is not there", trace(first, second, topk_ids=[4]))
        self.assert_wrong(r"\[3\] are not among", trace(first))
        self.assert_wrong("does not rise", trace(second, first))
        self.assert_wrong("top_k of layer 3", trace(first, {**second, "top_k": 3}))
        self.assert_wrong("experts of layer 3", trace(first, {**second, "experts": 8}))
        self.assert_wrong("keys of", trace(first, {"layer": 3}))
        self.assert_wrong("one of engine_id and layers", [{**META, "layers": None}])

    def test_place(self):
        self.assert_wrong("a route of step 0 in step 1", self.changed(8, step=0))
        self.assert_wrong("request 7 is not live", self.changed(8, request=7))
        self.assert_wrong("layer 1 is not logged", self.changed(8, layer=1))
        self.assert_wrong("expert that is not there", self.changed(8, topk_ids=[1, 8]))
        self.assert_wrong(
            "position 4 of r0, expected 2", self.changed(8, token_idx=4), contiguous=True
        )

    def test_form(self):
        self.assert_wrong("not JSON", good_trace()[:5] + [float("nan")])
        self.assert_wrong("something after", good_trace() + [META])
        self.assert_wrong("no `end` line", good_trace()[:-1])
        self.check(good_trace()[:-1], need_end=False)
        with self.assertRaisesRegex(check_trace.Wrong, "torn: it has no newline"):
            self.check(good_trace()[:-1], b'{"type":"route"', need_end=False)

    def test_source(self):
        source = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory())) / "source.jsonl"
        routes = [line for line in good_trace() if line["type"] == "route"]
        for rows, why in (
            (routes, None),
            (routes[:-1], "not the source's next"),
            (routes + routes[:1], "source has more"),
            ([*routes[:2], routes[0], *routes[3:]], "line 6: it is not the source's next"),
        ):
            source.write_text("".join(json.dumps(line) + "\n" for line in rows))
            if why:
                self.assert_wrong(why, good_trace(), source=source)
            else:
                self.check(good_trace(), source=source)


class RowsInAnotherFile(unittest.TestCase):
    """arrow_rows merges them into lines."""

    def check(self, name, change=lambda rows: rows, source=None):
        folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        for extension in (".jsonl", ".arrows"):
            content = (GOLDEN_ROWS / (name + extension)).read_bytes()
            changed = change(content) if extension == ".arrows" else content
            (folder / (name + extension)).write_bytes(changed)
        arrow_rows.write_merged(folder / f"{name}.jsonl", folder / "merged.jsonl")
        return check_trace.check_file(folder / "merged.jsonl", source)

    def test_all_that_may_be_stored(self):
        for name in ("trace", "half", "ids"):
            source = GOLDEN_ROWS / "one.jsonl" if name != "ids" else None
            self.assertEqual(self.check(name, source=source).delivered, 11)

    def test_a_changed_byte(self):
        end = len((GOLDEN_ROWS / "trace.arrows").read_bytes())
        for at in range(end - 64, end, 7):
            with self.assertRaises(arrow_rows.Wrong):
                self.check("trace", lambda rows, at=at: rows[:at] + b"?" + rows[at + 1 :])

    def test_a_missing_end(self):
        with self.assertRaises(arrow_rows.Wrong):
            self.check("trace", lambda rows: rows[:-8])


if __name__ == "__main__":
    unittest.main(verbosity=2)
