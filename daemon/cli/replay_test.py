#!/usr/bin/env python3
"""moetrace replay and verify end to end: files through a real ring into new files.

usage: replay_test.py BIN_DIR    (unittest options may follow)
"""

import json
import os
import re

import cli_case
from cli_case import VLLM_LOG, CliTest, lines_of, plain_log, program, rows_of


class ReplayTest(CliTest):
    def round_trip(self, source, *options, env=None, name="out.jsonl"):
        self.moetrace(
            "run", "-o", "out.jsonl", "--", program("moetrace"), "replay", *options, source, env=env
        )
        self.assertRegex(self.err, r"verified; the hook took \d+\.\d ms of the engine's time\n")
        self.moetrace("verify", name)
        self.assertEqual(os.listdir(self.rings), [])
        return self.path(name)

    def test_vllms_log_row_for_row(self):
        out = self.round_trip(VLLM_LOG, "--num-experts", "60")
        expected = rows_of(VLLM_LOG)
        self.assertEqual(len(expected), 400)
        self.assertEqual(rows_of(out), expected)
        self.assertEqual(lines_of(out, "meta")[0]["num_experts"], 60)

    def test_plain_log_row_for_row_with_what_is_unknown(self):
        plain_log(self.path("plain.jsonl"))
        out = self.round_trip("plain.jsonl", "--num-experts", "16")
        self.assertEqual(rows_of(out), rows_of(self.path("plain.jsonl")))
        meta = lines_of(out, "meta")[0]
        self.assertEqual(
            [meta[key] for key in ("num_layers", "rank", "world_size", "ranks", "router")],
            [None] * 5,
        )
        # One prefill of 3 x 5 rows, then 3 rows a step, each in both layers.
        self.assertEqual(
            [(s["rows"], s["layers"]) for s in lines_of(out, "step")],
            [(15, 2), (3, 2), (3, 2), (3, 2)],
        )

    def test_trace_of_a_trace_is_the_same(self):
        plain_log(self.path("plain.jsonl"))
        first = self.round_trip("plain.jsonl", "--num-experts", "16")
        # Add the request fields that a plain log lacks: the replay must carry them over.
        with open(first, encoding="utf-8") as file:
            text = file.read()
        text = text.replace(
            '"prompt_tokens":null,"cached_tokens":null', '"prompt_tokens":5,"cached_tokens":1'
        )
        text = text.replace('"num_layers":null', '"num_layers":9').replace(
            '"rank":null,"world_size":null,"ranks":null',
            '"rank":0,"world_size":3,"ranks":{"tp":2,"dp":0,"pp":1,"ep":0}',
        )
        end = '{"type":"end"'
        text = text.replace(
            end,
            '{"type":"request_end","req_id":"a","generated_tokens":4,"status":"stop","request":0,'
            '"event":1000}\n' + end,
        )
        with open(self.path("rich.jsonl"), "w", encoding="utf-8") as file:
            file.write(text)
        os.remove(first)
        second = self.round_trip("rich.jsonl")
        self.assertEqual(rows_of(second), rows_of(self.path("rich.jsonl")))
        for kind, keys in {
            "request": ("req_id", "prompt_tokens", "cached_tokens", "request"),
            "request_end": ("req_id", "generated_tokens", "status"),
            "step": ("step", "rows", "layers", "seq"),
            "meta": (
                "model_id",
                "device",
                "seed",
                "layers_logged",
                "num_layers",
                "top_k",
                "rank",
                "world_size",
                "ranks",
            ),
        }.items():

            def pick(name, kind=kind, keys=keys):
                return [[line[key] for key in keys] for line in lines_of(self.path(name), kind)]

            self.assertEqual(pick("out.jsonl"), pick("rich.jsonl"))

    def test_layers_that_differ_stay_so(self):
        """The golden trace of a mixed model: its meta, its rows and a row that lacks an expert."""
        source = os.path.join(os.path.dirname(VLLM_LOG), "../seeds/layers.jsonl")
        # Meant for engines.
        out = self.round_trip(source, env={"MOETRACE_ENGINE_ID": "another"}, name="out.rank1.jsonl")
        self.assertEqual(rows_of(out), rows_of(source))
        self.assertEqual([len(ids) for *_, ids, _ in rows_of(out)], [2, 4, 4])
        keys = ("engine_id", "layers", "layers_logged", "top_k", "num_experts", "num_layers")
        [before], [after] = lines_of(source, "meta"), lines_of(out, "meta")
        self.assertEqual([after[key] for key in keys], [before[key] for key in keys])

    def test_positions_that_are_not_known_stay_so(self):
        """In a trace, which has request lines, and in a plain log, where ids of rows imply them."""
        plain_log(self.path("plain.jsonl"))
        first = self.round_trip("plain.jsonl", "--num-experts", "16")
        for source, name in ((first, "trace.jsonl"), (self.path("plain.jsonl"), "log.jsonl")):
            with (
                open(source, encoding="utf-8") as file,
                open(self.path(name), "w", encoding="utf-8") as without,
            ):
                without.write(re.sub('"token_idx": ?[0-9]+', '"token_idx":null', file.read()))
        os.remove(first)
        for name, options in (("trace.jsonl", ()), ("log.jsonl", ("--num-experts", "16"))):
            out = self.round_trip(name, *options)
            rows = rows_of(out)
            self.assertEqual(rows, rows_of(self.path(name)))
            self.assertEqual({position for _, position, *_ in rows}, {None})
            self.assertEqual({request for request, *_ in rows} - {None}, {"a", "ü b"})
            os.remove(out)

    def test_layers_that_meta_does_not_name_are_selected(self):
        """As in a trace whose layer selection changed while it was recorded."""
        plain_log(self.path("plain.jsonl"))
        first = self.round_trip("plain.jsonl", "--num-experts", "16")
        with (
            open(first, encoding="utf-8") as file,
            open(self.path("fewer.jsonl"), "w", encoding="utf-8") as fewer,
        ):
            fewer.write(
                file.read()
                .replace('"layers_logged":[0,2]', '"layers_logged":[2]')
                .replace('"num_layers":null', '"num_layers":3')
            )
        os.remove(first)
        out = self.round_trip("fewer.jsonl")
        self.assertEqual(rows_of(out), rows_of(self.path("plain.jsonl")))
        self.assertEqual([line["layers"] for line in lines_of(out, "control")], [[0, 2]])
        self.assertNotIn("layer", self.err)  # verify accepts the layer of every row

    def test_without_a_rate_replay_waits_for_room(self):
        plain_log(self.path("plain.jsonl"), passes=2000)
        # 64 slots, the smallest ring.
        out = self.round_trip(
            "plain.jsonl", "--num-experts", "16", env={"MOETRACE_RING_MB": "0.001"}
        )
        self.assertEqual(rows_of(out), rows_of(self.path("plain.jsonl")))

    def test_rate_without_a_collector_drops_and_counts(self):
        plain_log(self.path("plain.jsonl"), passes=500)
        said = self.moetrace(
            "replay",
            "--num-experts",
            "16",
            "--rate",
            "1e9",
            "plain.jsonl",
            env={"MOETRACE_RING_MB": "0.001"},
        )
        rows = len(rows_of(self.path("plain.jsonl")))
        self.assertIn(f"{rows:,} rows", said)
        self.assertIn(f"{rows - 64:,} dropped", said)
        # The segment stays for the next collector.
        daemon = self.start("moetraced", "--output", "late.jsonl", "--publish", "none", "--once")
        daemon.communicate(timeout=60)
        self.assertEqual(daemon.returncode, 0)
        self.moetrace("verify", "late.jsonl")
        self.assertEqual(len(rows_of(self.path("late.jsonl"))), 64)

    def test_replay_refuses_what_it_cannot_do(self):
        plain_log(self.path("plain.jsonl"))
        self.moetrace("replay", "plain.jsonl", code=2)
        self.assertIn("--num-experts", self.err)
        self.moetrace("replay", "--num-experts", "10", "plain.jsonl", code=1)
        self.assertRegex(
            self.err,
            r"out of range \(0 to 9, as given\): the model has at least 1\d experts; "
            r"the lines before it were replayed; give a larger --num-experts\n",
        )
        self.moetrace("replay", "nowhere.jsonl", code=1)
        self.one_line_error()
        # A missing folder is a typing error: no collector would find a ring in a new one.
        self.moetrace(
            "replay",
            "--num-experts",
            "16",
            "plain.jsonl",
            code=1,
            env={"MOETRACE_DIR": self.path("nowhere")},
        )
        self.one_line_error()
        self.assertIn(
            "No such file or directory; create the ring directory or set MOETRACE_DIR\n", self.err
        )
        self.assertFalse(os.path.exists(self.path("nowhere")))

    def replay_cut(self, source, rows, *options):
        """Replays `source`, cut in the middle of the row after `rows`.

        All whole rows come out, and one line reports the cut."""
        with open(source, encoding="utf-8") as file:
            lines = file.read().splitlines(keepends=True)
        at = [n for n, line in enumerate(lines) if json.loads(line)["type"] == "route"][rows]
        with open(self.path("cut.jsonl"), "w", encoding="utf-8") as file:
            file.write("".join(lines[:at]) + lines[at][:20])
        self.moetrace(
            "run", "-o", "out.jsonl", "--", program("moetrace"), "replay", *options, "cut.jsonl"
        )
        self.assertIn(
            "moetrace: cut.jsonl: left out 1 unfinished line: "
            f"line {at + 1} has 20 bytes and no newline; wait until its writer "
            "has ended the line\n",
            self.err,
        )
        self.moetrace("verify", "out.jsonl")
        self.assertEqual(rows_of(self.path("out.jsonl")), rows_of(source)[:rows])
        self.assertEqual(
            [end["status"] for end in lines_of(self.path("out.jsonl"), "end")], ["closed"]
        )
        os.remove(self.path("out.jsonl"))

    def test_replay_of_a_torn_file_keeps_the_rows_before(self):
        plain = self.path("plain.jsonl")
        plain_log(plain)
        ours = self.path("ours.jsonl")
        os.rename(self.round_trip("plain.jsonl", "--num-experts", "16"), ours)
        # Two layers of 15 rows, then of 3: cut in each layer of the second step.
        for rows in (31, 34):
            self.replay_cut(plain, rows, "--num-experts", "16")
            self.replay_cut(ours, rows)

    def test_replay_keeps_the_rows_before_one_that_it_cannot_carry(self):
        plain_log(self.path("plain.jsonl"))
        with open(self.path("plain.jsonl"), encoding="utf-8") as file:
            lines = file.read().splitlines(keepends=True)
        lines[32] = lines[32].replace('"req_id": "', '"req_id": "' + "x" * 256)
        with open(self.path("wrong.jsonl"), "w", encoding="utf-8") as file:
            file.writelines(lines)
        self.moetrace(
            "run",
            "-o",
            "out.jsonl",
            "--",
            program("moetrace"),
            "replay",
            "--num-experts",
            "16",
            "wrong.jsonl",
            code=1,
        )
        self.assertRegex(
            self.err,
            "moetrace: wrong.jsonl: line 33: its req_id has .* carries at most 255; "
            "the lines before it were replayed; "
            "look at it: sed -n 33p FILE\n",
        )
        self.moetrace("verify", "out.jsonl")
        self.assertEqual(rows_of(self.path("out.jsonl")), rows_of(self.path("plain.jsonl"))[:31])

    def test_further_ranks_get_their_own_file(self):
        plain_log(self.path("plain.jsonl"))
        first = self.round_trip("plain.jsonl", "--num-experts", "16")
        with open(first, encoding="utf-8") as file:
            text = file.read().replace('"rank":null,"world_size":null', '"rank":1,"world_size":2')
        with open(self.path("second.jsonl"), "w", encoding="utf-8") as file:
            file.write(text)
        self.moetrace(
            "run", "-o", "trace.jsonl", "--", program("moetrace"), "replay", "second.jsonl"
        )
        self.assertIn("trace.rank1.jsonl", self.err)
        self.moetrace("verify", "trace.rank1.jsonl")

    def test_verify_says_what_is_no_trace(self):
        give = (
            "give a file that moetraced or moetrace run has written, or a log of vLLM's MoE patch"
        )
        for content, what, remedy in (
            (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "it is binary data", give),
            (b"\xff" * 5000, "it is binary data", give),
            (b"Dear reader,\nhello\n", "its first line is not a JSON object", give),
            (b"no newline", "its first line is not a JSON object", give),
            (b"[1]\n", "its first line is not a JSON object", give),
            (b'{"type": "a"}', "its first line is neither a meta line nor a row", give),
            (
                b'[{"type": "meta"}]',
                "it is a JSON array",
                "write its elements one a line: jq -c '.[]' FILE",
            ),
            (
                b'{\n  "a": 1\n}\n',
                "its JSON objects stretch over several lines",
                "write one object a line: jq -c . FILE",
            ),
            (
                b"",
                "it is empty",
                "wait until its collector has written to it, or give another file",
            ),
            (
                "{}".encode("utf-16"),
                "it is UTF-16 text",
                "convert it: iconv -f UTF-16 -t UTF-8 FILE",
            ),
            (
                b"MOETRACE\x01\0",
                "it is a ring segment",
                "run moetraced, which drains the ring into a trace file",
            ),
            (
                b"x" * (17 << 20),
                "its first line is longer than 16 MiB, the most that a line of a trace may have",
                give,
            ),
        ):
            with open(self.path("thing"), "wb") as file:
                file.write(content)
            self.moetrace("verify", "thing", code=1)
            self.assertEqual(self.err, f"moetrace: thing: not a trace: {what}; {remedy}\n")
        self.moetrace("verify", ".", code=1)
        self.assertEqual(
            self.err, "moetrace: .: is a folder, not a trace file; give the files in it\n"
        )
        self.moetrace("verify", "nowhere", code=1)
        self.assertEqual(
            self.err,
            "moetrace: nowhere: No such file or directory; give a trace file that can be read\n",
        )
        with open(self.path("thing"), "wb") as file:
            file.write(b'{"type":"meta","schema":"moetr')
        self.moetrace("verify", "thing", code=1)
        self.assertEqual(
            self.err,
            "moetrace: thing: line 1: unfinished: it has no newline; "
            "wait until its writer has ended the line\n",
        )
        # A bad line in the middle: the error says how to see it.
        with open(self.path("thing"), "wb") as file:
            file.write(
                b'{"type":"meta","top_k":1}\nnonsense\n{"type":"route","layer":0,"topk_ids":[1]}\n'
            )
        self.moetrace("verify", "thing", code=1)
        self.assertRegex(
            self.err, "^moetrace: thing: line 2: not JSON: [^;]*; look at it: sed -n 2p FILE\n$"
        )

    def test_verify_names_the_first_wrong_line(self):
        plain_log(self.path("plain.jsonl"))
        out = self.round_trip("plain.jsonl", "--num-experts", "16")
        with open(out, encoding="utf-8") as file:
            lines = file.read().splitlines(keepends=True)
        with open(self.path("wrong.jsonl"), "w", encoding="utf-8") as file:
            file.writelines(lines[:9] + lines[10:])
        self.moetrace("verify", "wrong.jsonl", code=1)
        self.assertTrue(self.err.startswith("moetrace: wrong.jsonl: line 10: "), self.err)
        self.one_line_error()
        # The trace leaves unknown what the log leaves unknown.
        self.moetrace("verify", "out.jsonl")
        self.assertIn(
            "moetrace: warning: out.jsonl: "
            'request 0 ("a") has no request_end line, the first of 2; ',
            self.err,
        )
        said = self.moetrace("verify", "out.jsonl", "wrong.jsonl", "plain.jsonl", code=1)
        self.assertEqual(said.count("good"), 2)
        self.assertIn(
            "out.jsonl: good: 48 rows, 4 steps, 2 requests, attempted=48 delivered=48 ", said
        )


if __name__ == "__main__":
    cli_case.main()
