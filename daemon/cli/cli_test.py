#!/usr/bin/env python3
"""moetrace end to end: run, replay, verify, status, top, tail, set. Shares no code with the project.

usage: cli_test.py BIN_DIR [DATA_DIR]    (unittest options may follow)
"""
import fcntl
import json
import os
import pty
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import time
import unittest

BIN = DATA = None
LOG = "vllm_qwen_moe_layer0.jsonl"


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
                rows.append((row["req_id"], row["token_idx"], row["layer"], row["topk_ids"], weights))
    return rows


def lines_of(path, kind):
    with open(path, encoding="utf-8") as file:
        return [row for row in map(json.loads, file) if row["type"] == kind]


def plain_log(path, passes=4, layers=(0, 2), requests=("a", "ü b", None)):
    """A plain log: a prefill of 5 tokens a request, then decode steps; unknown ids and weights among them."""
    state = 1
    with open(path, "w", encoding="utf-8") as file:
        meta = {"type": "meta", "model_id": "made/up", "vllm_version": "0", "torch_version": "0", "device": "cpu",
                "seed": 7, "layers_logged": list(layers), "top_k": 3, "created_at": 1.0}
        file.write(json.dumps(meta) + "\n")
        for number in range(passes):
            for layer in layers:
                for request in requests:
                    for token in range(5) if number == 0 else [4 + number]:
                        state = state * 6364136223846793005 + 1442695040888963407 & (1 << 64) - 1
                        ids = [state >> 33 & 15, None if token == 3 else state >> 40 & 15, state >> 50 & 15]
                        weights = [struct.unpack("<f", struct.pack("<f", (state >> 20 & 0xFFFFF) / 3e6))[0], None, 1e-40]
                        file.write(json.dumps({"type": "route", "req_id": request, "token_idx": token, "layer": layer,
                                               "topk_ids": ids, "topk_weights": weights}) + "\n")


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [int(child) for child in file.read().split()]


class CliTest(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="moetrace-cli-")
        self.rings = tempfile.mkdtemp(prefix="moetrace-rings-", dir="/dev/shm")
        self.env = {key: value for key, value in os.environ.items()
                    if not key.startswith(("MOETRACE", "VLLM_LOG_MOE"))}
        self.env |= {"MOETRACE_DIR": self.rings, "XDG_RUNTIME_DIR": self.dir, "MOETRACE_RING_MB": "1"}
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
        done = subprocess.run([os.path.join(BIN, "moetrace"), *arguments], env=self.env | (env or {}), cwd=self.dir,
                              capture_output=True, text=True, timeout=120)
        self.err = done.stderr
        self.assertEqual(done.returncode, code, f"moetrace {' '.join(arguments)}\n{done.stdout}{done.stderr}")
        return done.stdout

    def start(self, program, *arguments, **options):
        process = subprocess.Popen([os.path.join(BIN, program), *arguments], env=self.env, cwd=self.dir,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)
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

    def live_replay(self, session="live", rate="400"):
        """A replay that goes on for long, seen by status."""
        plain_log(self.path("long.jsonl"), passes=5000)
        self.env["MOETRACE_SESSION"] = session
        replay = self.start("moetrace", "replay", "--num-experts", "16", "--rate", rate, "long.jsonl")

        def segment():
            done = subprocess.run([os.path.join(BIN, "moetrace"), "status", "--json", "--session", session],
                                  env=self.env, capture_output=True, text=True)
            segments = json.loads(done.stdout or "[]")
            return segments and segments[0]["recorded"] > 0 and segments[0]
        return replay, self.wait_for(segment, "the replay's segment")

    # ---- run and replay

    def round_trip(self, source, *options, env=None):
        self.moetrace("run", "-o", "out.jsonl", "--", os.path.join(BIN, "moetrace"), "replay", *options, source, env=env)
        self.assertRegex(self.err, r"verified; the hook took \d+\.\d ms of the engine's time\n")
        self.moetrace("verify", "out.jsonl")
        self.assertEqual(os.listdir(self.rings), [])
        return self.path("out.jsonl")

    def test_real_log_row_for_row(self):
        source = os.path.join(DATA or "", LOG)
        if not DATA or not os.path.exists(source):
            self.skipTest("no real log here")
        out = self.round_trip(source, "--num-experts", "60")
        expected = rows_of(source)
        self.assertEqual(len(expected), 12805)
        self.assertEqual(rows_of(out), expected)
        self.assertEqual(lines_of(out, "meta")[0]["num_experts"], 60)

    def test_plain_log_row_for_row_with_what_is_unknown(self):
        plain_log(self.path("plain.jsonl"))
        out = self.round_trip("plain.jsonl", "--num-experts", "16")
        self.assertEqual(rows_of(out), rows_of(self.path("plain.jsonl")))
        # One prefill of 3 x 5 rows, then 3 rows a step, each in both layers.
        self.assertEqual([(s["rows"], s["layers"]) for s in lines_of(out, "step")], [(15, 2), (3, 2), (3, 2), (3, 2)])

    def test_trace_of_a_trace_is_the_same(self):
        plain_log(self.path("plain.jsonl"))
        first = self.round_trip("plain.jsonl", "--num-experts", "16")
        # Give its requests what a plain log can't know, to see that carried over.
        with open(first, encoding="utf-8") as file:
            text = file.read()
        text = text.replace('"prompt_tokens":null,"cached_tokens":null', '"prompt_tokens":5,"cached_tokens":1')
        end = '{"type":"end"'
        text = text.replace(end, '{"type":"request_end","req_id":"a","generated_tokens":4,"status":"stop","request":0,'
                                 '"event":1000}\n' + end)
        with open(self.path("rich.jsonl"), "w", encoding="utf-8") as file:
            file.write(text)
        os.remove(first)
        second = self.round_trip("rich.jsonl")
        self.assertEqual(rows_of(second), rows_of(self.path("rich.jsonl")))
        for kind, keys in {"request": ("req_id", "prompt_tokens", "cached_tokens", "request"),
                           "request_end": ("req_id", "generated_tokens", "status"),
                           "step": ("step", "rows", "layers", "seq"),
                           "meta": ("model_id", "device", "seed", "layers_logged", "num_layers", "top_k")}.items():
            pick = lambda name: [[line[key] for key in keys] for line in lines_of(self.path(name), kind)]
            self.assertEqual(pick("out.jsonl"), pick("rich.jsonl"))

    def test_without_a_rate_replay_waits_for_room(self):
        plain_log(self.path("plain.jsonl"), passes=2000)
        # 64 slots, the smallest ring.
        out = self.round_trip("plain.jsonl", "--num-experts", "16", env={"MOETRACE_RING_MB": "0.001"})
        self.assertEqual(rows_of(out), rows_of(self.path("plain.jsonl")))

    def test_rate_without_a_collector_drops_and_counts(self):
        plain_log(self.path("plain.jsonl"), passes=500)
        said = self.moetrace("replay", "--num-experts", "16", "--rate", "1e9", "plain.jsonl", env={"MOETRACE_RING_MB": "0.001"})
        rows = len(rows_of(self.path("plain.jsonl")))
        self.assertIn(f"{rows} rows", said)
        self.assertIn(f"{rows - 64} dropped", said)
        # The segment is left to whoever collects it.
        daemon = self.start("moetraced", "--output", "late.jsonl", "--publish", "none", "--once")
        daemon.communicate(timeout=60)
        self.assertEqual(daemon.returncode, 0)
        self.moetrace("verify", "late.jsonl")
        self.assertEqual(len(rows_of(self.path("late.jsonl"))), 64)

    def test_replay_refuses_what_it_cannot_do(self):
        plain_log(self.path("plain.jsonl"))
        self.moetrace("replay", "plain.jsonl", code=2)
        self.assertIn("--num-experts", self.err)
        self.moetrace("replay", "nowhere.jsonl", code=1)
        self.one_line_error()
        self.moetrace("replay", "--num-experts", "16", "plain.jsonl", code=1, env={"MOETRACE_DIR": "/nowhere"})
        self.one_line_error()

    def replay_cut(self, source, rows, *options):
        """Replays `source`, cut in the middle of its next row after `rows`; checks that they all come out."""
        with open(source, encoding="utf-8") as file:
            lines = file.read().splitlines(keepends=True)
        at = [n for n, line in enumerate(lines) if json.loads(line)["type"] == "route"][rows]
        with open(self.path("cut.jsonl"), "w", encoding="utf-8") as file:
            file.write("".join(lines[:at]) + lines[at][:20])
        self.moetrace("run", "-o", "out.jsonl", "--", os.path.join(BIN, "moetrace"), "replay", *options, "cut.jsonl", code=1)
        self.assertIn(f"moetrace: cut.jsonl: line {at + 1}: torn: the file ends inside this line (no newline); what stands before it was "
                      "replayed; wait for its collector, or start it again, to end the line\n", self.err)
        self.moetrace("verify", "out.jsonl")
        self.assertEqual(rows_of(self.path("out.jsonl")), rows_of(source)[:rows])
        self.assertEqual([end["status"] for end in lines_of(self.path("out.jsonl"), "end")], ["closed"])
        os.remove(self.path("out.jsonl"))

    def test_replay_of_a_torn_file_keeps_the_rows_before(self):
        plain = self.path("plain.jsonl")
        plain_log(plain)
        ours = self.path("ours.jsonl")
        os.rename(self.round_trip("plain.jsonl", "--num-experts", "16"), ours)
        # Two layers of 15 rows, then of 3: in the middle of the second step's first layer, and of its second.
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
        self.moetrace("run", "-o", "out.jsonl", "--", os.path.join(BIN, "moetrace"), "replay", "--num-experts", "16", "wrong.jsonl", code=1)
        self.assertRegex(self.err, "moetrace: wrong.jsonl: line 33: its req_id has .* carries 255; what stands before it was replayed; "
                                   "record it again, or cut the file before it\n")
        self.moetrace("verify", "out.jsonl")
        self.assertEqual(rows_of(self.path("out.jsonl")), rows_of(self.path("plain.jsonl"))[:31])

    def test_further_ranks_get_their_own_file(self):
        plain_log(self.path("plain.jsonl"))
        first = self.round_trip("plain.jsonl", "--num-experts", "16")
        with open(first, encoding="utf-8") as file:
            text = file.read().replace('"rank":0,"world_size":1', '"rank":1,"world_size":2')
        with open(self.path("second.jsonl"), "w", encoding="utf-8") as file:
            file.write(text)
        self.moetrace("run", "-o", "trace.jsonl", "--", os.path.join(BIN, "moetrace"), "replay", "second.jsonl")
        self.assertIn("trace.rank1.jsonl", self.err)
        self.moetrace("verify", "trace.rank1.jsonl")

    # ---- run

    def test_run_keeps_the_commands_status(self):
        self.moetrace("run", "--", "sh", "-c", "exit 3", code=3)
        self.assertIn("no ring was seen", self.err)
        self.moetrace("run", "--", "sh", "-c", "kill -9 $$", code=137)
        self.moetrace("run", "--", "true")
        self.moetrace("run", "--", "/nowhere/command", code=127)
        self.moetrace("run", "--", "/etc", code=126)
        self.assertEqual(os.listdir(self.rings), [])

    def test_run_says_what_its_command_line_misses(self):
        write = "; write: moetrace run [OPTIONS] -- COMMAND [ARG...]\n"
        for arguments, said in ((["run"], "run: -- and COMMAND are missing" + write),
                                (["run", "--"], "run: COMMAND is missing behind --" + write),
                                (["run", "-o", "x", "--"], "run: COMMAND is missing behind --" + write),
                                (["run", "true"], "run: -- is missing before COMMAND, here 'true'" + write),
                                (["run", "sh", "-c", "true", "--plot"], "run: -- is missing before COMMAND, here 'sh'" + write),
                                (["run", "status"], "run: -- is missing before COMMAND, here 'status'" + write),
                                (["run", "x", "--", "true"], "run: 'x' stands before --, where only options may stand" + write),
                                (["run", "--plto", "x", "--", "true"], "run: there is no option --plto; see moetrace run --help\n")):
            self.moetrace(*arguments, code=2)
            self.assertEqual(self.err, "moetrace: " + said)
        self.assertIn("Usage: moetrace run [OPTIONS] -- COMMAND [ARG...]\n", self.moetrace("run", "--help"))

    def test_run_says_where_to_look_when_there_was_no_ring(self):
        self.moetrace("run", "--", "true")
        self.assertEqual(self.err, "moetrace: run: no ring was seen: COMMAND made none; look at its own messages for a line that begins "
                                   "with \"moetrace:\" or \"moetrace-engine:\"; without one: does its engine have the hook, and does it "
                                   "read MOETRACE=1?\n")

    def test_run_refuses_an_output_that_cannot_be_written(self):
        with open(self.path("file"), "w", encoding="utf-8") as file:
            file.write("in the way")
        os.mkdir(self.path("folder"))
        for output, why in (("file/trace.jsonl", "file is no folder"), ("folder", "Is a directory"), ("folder/", "Is a directory"),
                            ("new/deep/" + "x" * 300, "File name too long"), ("/proc/new/trace.jsonl", "No such file or directory"),
                            ("/dev/null", "it is a device or a pipe")):
            self.moetrace("run", "-o", output, "--", "touch", "ran", code=1)
            self.assertEqual(self.err, f"moetrace: {output}: can't write the trace there: {why}; give -o a file that can be written\n")
        self.moetrace("run", "--plot", "file/pictures", "--", "touch", "ran", code=1)
        self.assertEqual(self.err, "moetrace: file/pictures: can't draw pictures there: file is no folder; "
                                   "give --plot a folder that can be written\n")
        self.assertEqual(sorted(os.listdir(self.dir)), ["file", "folder"])
        self.assertEqual(os.listdir(self.path("folder")), [])

    def test_run_leaves_no_empty_folder_behind(self):
        os.mkdir(self.path("old"))
        for command, code in ((["true"], 0), (["/nowhere/command"], 127)):
            self.moetrace("run", "-o", "old/new/deep/trace.jsonl", "--plot", "pictures", "--", *command, code=code)
            self.assertEqual(os.listdir(self.path("old")), [])
            self.assertFalse(os.path.exists(self.path("pictures")))
        self.moetrace("run", "-o", "old/new/deep/trace.jsonl", "--", "touch", "old/new/kept")
        self.assertEqual(os.listdir(self.path("old/new")), ["kept"])

    def test_run_passes_input_output_and_environment(self):
        done = subprocess.run([os.path.join(BIN, "moetrace"), "run", "--", "sh", "-c", "cat; echo $MOETRACE --help"],
                              env=self.env, cwd=self.dir, input="in\n", capture_output=True, text=True, timeout=60)
        self.assertEqual(done.stdout, "in\n1 --help\n")

    def test_run_passes_signals_on(self):
        for number, code in ((signal.SIGINT, 42), (signal.SIGTERM, 42)):
            run = self.start("moetrace", "run", "--", "sh", "-c",
                             "trap 'exit 42' INT TERM; echo up; while :; do sleep 0.02; done", start_new_session=True)
            self.assertEqual(run.stdout.readline(), "up\n")
            run.send_signal(number)
            run.communicate(timeout=60)
            self.assertEqual(run.returncode, code)

    def test_run_survives_its_collectors_death(self):
        plain_log(self.path("plain.jsonl"), passes=1000)
        replay = f"{BIN}/moetrace replay --num-experts 16 plain.jsonl"
        run = self.start("moetrace", "run", "-o", "out.jsonl", "--", "sh", "-c", f"echo up; read go; {replay}; exit $1", "sh", "0",
                         stdin=subprocess.PIPE)
        self.assertEqual(run.stdout.readline(), "up\n")
        daemon = [pid for pid in children(run.pid) if os.readlink(f"/proc/{pid}/exe").endswith("/moetraced")]
        self.assertEqual(len(daemon), 1)
        os.kill(daemon[0], signal.SIGKILL)
        out, err = run.communicate("go\n", timeout=60)
        self.assertEqual(run.returncode, 1, err)
        self.assertIn("moetraced: ended too early", err)
        self.assertIn("0 dropped", out)  # COMMAND ran to its end
        self.assertEqual(os.listdir(self.rings), [])
        self.moetrace("verify", "out.jsonl")

    def test_run_whose_collector_does_not_end(self):
        """A second signal ends it, and nothing of it stays."""
        run = self.start("moetrace", "run", "--", "sh", "-c", "echo up; read go", stdin=subprocess.PIPE)
        self.assertEqual(run.stdout.readline(), "up\n")
        [daemon] = [pid for pid in children(run.pid) if os.readlink(f"/proc/{pid}/exe").endswith("/moetraced")]
        os.kill(daemon, signal.SIGSTOP)
        self.assertEqual(len(os.listdir(self.rings)), 1)
        run.stdin.write("go\n")
        run.stdin.flush()
        self.wait_for(lambda: children(run.pid) == [daemon], "the command's end")
        run.send_signal(signal.SIGINT)
        _, err = run.communicate(timeout=60)
        self.assertEqual(run.returncode, 1, err)
        self.assertIn("moetraced: ended with signal 9", err)
        self.assertEqual(os.listdir(self.rings), [])

    def test_run_says_when_its_collector_cannot_start(self):
        self.moetrace("run", "--publish", "nonsense", "--", "sh", "-c", "exit 5", code=5)
        self.assertIn("moetraced", self.err)
        self.moetrace("run", "--publish", "nonsense", "--", "true", code=1)

    def test_run_reads_its_output_from_the_environment(self):
        plain_log(self.path("plain.jsonl"))
        self.moetrace("run", "--", os.path.join(BIN, "moetrace"), "replay", "--num-experts", "16", "plain.jsonl",
                      env={"VLLM_LOG_MOE": "sub/named.jsonl"})
        self.moetrace("verify", "sub/named.jsonl")

    # ---- what is live

    def test_status_and_top_show_a_live_segment(self):
        self.moetrace("status", code=69)
        self.one_line_error()
        self.moetrace("top", "--once", code=69)
        replay, segment = self.live_replay()
        self.assertEqual(segment["pid"], replay.pid)
        self.assertEqual(segment["producer"], "alive")
        self.assertEqual(segment["collector"], "none")
        self.assertEqual(segment["model_id"], "made/up")
        self.assertEqual(segment["dropped"], 0)
        self.assertGreater(segment["cost"]["announce_ns"], 0)
        self.wait_for(lambda: json.loads(self.moetrace("status", "--json"))[0]["cost"]["hook_ns"] > 0, "the hook's time")
        text = self.moetrace("status")
        self.assertRegex(text, r"\n  cost       \d+\.\d ms in announcements, \d+\.\d ms in the hook; \d+\.\d\d us a step\n")
        self.assertIn("\n  recording  on, layers 0,2, every step\n", text)
        self.assertEqual((segment["enabled"], segment["layers"], segment["sample_every"]), (True, [0, 2], 1))
        self.assertIn(segment["trace_id"], text)
        self.assertLessEqual(max(map(len, text.splitlines())), 100)
        top = self.wait_for(lambda: [s for s in json.loads(self.moetrace("top", "--once", "--json"))
                                     if s["layers"][0]["selections"] > 0], "counts")[0]
        self.assertEqual([layer["layer"] for layer in top["layers"]], [0, 1, 2])
        for layer in (0, 2):
            self.assertGreater(sum(top["layers"][layer]["counts"]), 0)
            counts = top["layers"][layer]["counts"]
            self.assertAlmostEqual(top["layers"][layer]["max_over_mean"], max(counts) * len(counts) / sum(counts))
        self.assertLessEqual(max(map(len, self.moetrace("top", "--once").splitlines())), 100)
        watch = self.start("moetrace", "top", "--json")
        self.assertIn(segment["trace_id"], watch.stdout.readline())
        replay.kill()
        replay.wait()
        dead = json.loads(self.moetrace("status", "--json"))[0]
        self.assertEqual(dead["producer"], "dead")
        daemon = self.start("moetraced", "--output", "out.jsonl", "--publish", "none", "--once")
        daemon.communicate(timeout=60)
        self.assertEqual(daemon.returncode, 0)
        self.assertEqual(watch.communicate(timeout=60)[1], "moetrace: top: the last trace has ended\n")
        self.assertEqual(watch.returncode, 0)

    def test_top_fits_the_terminal(self):
        replay, segment = self.live_replay()
        for rows, columns in ((24, 80), (4, 120), (10, 20)):
            ours, theirs = pty.openpty()
            fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))
            top = subprocess.Popen([os.path.join(BIN, "moetrace"), "top"], env=self.env, stdout=theirs, stderr=theirs)
            self.started.append(top)
            os.close(theirs)
            drawn = b""
            while b"\x1b[J" not in drawn:  # the end of the first picture
                drawn += os.read(ours, 4096)
            top.send_signal(signal.SIGINT)
            os.close(ours)
            top.wait(timeout=60)
            self.assertTrue(drawn.startswith(b"\x1b[H"))
            lines = drawn.decode().split("\x1b[J")[0].removeprefix("\x1b[H").split("\x1b[K\r\n")
            self.assertEqual(lines.pop(), "")
            self.assertEqual(len(lines), min(rows - 1, 5))  # two heads and three layers
            self.assertLessEqual(max(map(len, lines)), columns)
        replay.kill()

    def test_control_words(self):
        self.moetrace("stop", code=69)
        replay, segment = self.live_replay()
        ctl = os.path.join(self.rings, f"moetrace.v1.live.{segment['trace_id']}.ctl")

        def words():
            with open(ctl, "rb") as file:
                file.seek(384)  # 4 lines of 64 bytes, 2 of the ledger
                return struct.unpack("<QII4Q", file.read(48))
        before = words()
        self.assertEqual(before[1:4], (1, 1, 0b101))
        self.moetrace("stop")
        self.assertEqual(words()[1], 0)
        self.moetrace("start")
        self.assertEqual(words()[1], 1)
        self.moetrace("set", "--layers", "1-2", "--sample", "10")
        self.assertEqual(words()[1:4], (1, 10, 0b110))
        self.assertEqual(words()[0], before[0] + 6)
        self.assertIn("\n  recording  on, layers 1-2, one step in 10\n", self.moetrace("status"))
        self.moetrace("set", "--layers", "1,7", code=2)
        self.one_line_error()
        self.moetrace("set", code=2)
        self.assertEqual(words()[1:4], (1, 10, 0b110))
        self.moetrace("set", "--sample", "0", "--session", "other", code=69)
        self.moetrace("set", "--sample", "0", "--trace", segment["trace_id"][:8], env={"MOETRACE_SESSION": "other"})
        self.assertEqual(words()[2], 0)
        replay.kill()

    def test_segment_of_another_version(self):
        """Each command says the same line of it; beside it, the others are served."""
        plain_log(self.path("plain.jsonl"))
        self.moetrace("replay", "--num-experts", "16", "--rate", "1e9", "plain.jsonl", env={"MOETRACE_SESSION": "live"})
        [ring] = [os.path.join(self.rings, name) for name in os.listdir(self.rings) if name.endswith(".ring")]
        with open(ring, "r+b") as file:
            file.seek(8)  # abi_major
            file.write(struct.pack("<H", 9))
        said = (f"moetrace: {ring}: ABI version 9, this program speaks version 1; use the collector that belongs to the producer; "
                "remove the segment's two files if no producer uses them\n")
        self.env["MOETRACE_SESSION"] = "live"
        commands = ["status"], ["top", "--once"], ["top"], ["top", "--json"], ["stop"], ["start"], ["set", "--sample", "2"]
        for command in commands:
            out = self.moetrace(*command, code=1)
            self.assertEqual((out, self.err), ("[]\n" if "--json" in command else "", said), command)
        replay, segment = self.live_replay()
        for command in commands:
            if command != ["top", "--json"]:  # which goes on
                self.assertIn(segment["trace_id"], self.moetrace(*command, code=1))
                self.assertEqual(self.err, said, command)
        replay.kill()
        replay.wait()
        self.moetrace("stop", code=1)
        self.assertEqual(self.err, said)

    def test_tail_prints_the_files_own_lines(self):
        self.moetrace("tail", code=69)
        self.one_line_error()
        self.env["MOETRACE_SESSION"] = "live"
        daemon = self.start("moetraced", "--output", "out.jsonl")
        self.wait_for(lambda: os.path.exists(self.path("moetrace/live.endpoint")), "the endpoint")
        replay, _ = self.live_replay()
        tail = self.start("moetrace", "tail", "--json", "--count", "200")
        out, err = tail.communicate(timeout=60)
        self.assertEqual(tail.returncode, 0, err)
        self.assertIn(" 0 missed", err)
        lines = out.splitlines()
        self.assertEqual(len(lines), 200)
        self.assertEqual(sum('"type":"meta"' in line for line in lines), 1)
        with open(self.path("out.jsonl"), encoding="utf-8") as file:
            self.assertLessEqual(set(lines), set(file.read().splitlines()))
        short = self.moetrace("tail", "--count", "3", "--topic", "route").splitlines()
        self.assertEqual(len(short), 3)
        self.assertIn(" layer ", short[0])
        stats = json.loads(self.moetrace("tail", "--count", "1", "--topic", "stats", "--json"))
        self.assertEqual(stats["num_experts"], 16)
        replay.kill()
        replay.wait()
        daemon.send_signal(signal.SIGTERM)
        daemon.communicate(timeout=60)
        self.assertEqual(daemon.returncode, 0)

    def test_tail_sees_a_socket_that_nobody_serves(self):
        self.env["MOETRACE_SESSION"] = "live"
        daemon = self.start("moetraced", "--output", "out.jsonl")
        self.wait_for(lambda: os.path.exists(self.path("moetrace/live.endpoint")), "the endpoint")
        daemon.kill()
        daemon.wait()
        self.moetrace("tail", code=69)
        self.one_line_error()

    def test_tail_says_that_it_is_not_connected_and_waits(self):
        self.env["MOETRACE_SESSION"] = "live"
        with socket.create_server(("127.0.0.1", 0)) as server:
            endpoint = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        tail = self.start("moetrace", "tail", "--endpoint", endpoint, "--count", "3")
        self.assertEqual(tail.stderr.readline(), f"moetrace: tail: nobody publishes on {endpoint} yet; start moetraced --publish {endpoint}, "
                                                 "or check the endpoint; waiting\n")
        self.start("moetraced", "--output", "out.jsonl", "--publish", endpoint)
        replay, _ = self.live_replay()
        out, err = tail.communicate(timeout=60)
        self.assertEqual((tail.returncode, len(out.splitlines())), (0, 3), err)
        replay.kill()

    def test_tail_is_quiet_beside_a_collector_without_a_trace(self):
        self.env["MOETRACE_SESSION"] = "live"
        self.start("moetraced", "--output", "out.jsonl", "--publish", "tcp://127.0.0.1:*")
        self.wait_for(lambda: os.path.exists(self.path("moetrace/live.endpoint")), "the endpoint")
        tail = self.start("moetrace", "tail")
        self.assertEqual(select.select([tail.stderr, tail.stdout], [], [], 4)[0], [])  # longer than it waits for a connection
        tail.send_signal(signal.SIGINT)
        self.assertEqual(tail.communicate(timeout=60), ("", "moetrace: tail: 0 rows received, 0 missed\n"))

    # ---- verify and the command line

    def test_verify_says_what_is_no_trace(self):
        give = "; give a file that moetraced or moetrace run has written, or a log of vLLM's MoE patch\n"
        for content, what in ((b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "its first line is not JSON"), (b"\xff" * 5000, "its first line is not JSON"),
                              (b"Dear reader,\nhello\n", "its first line is not JSON"), (b"no newline", "its first line is not JSON"),
                              (b'{"a": 1}', "its first line is JSON, but no meta line"), (b'[1]\n', "its first line is JSON, but no meta line"),
                              (b'{"type": "route"}\n', "its first line is JSON, but no meta line"), (b"", "it is empty"),
                              (b'{\n  "a": 1\n}\n', "its first line is not JSON"), (b"x" * (17 << 20), "its first line is longer than any of a trace")):
            with open(self.path("thing"), "wb") as file:
                file.write(content)
            self.moetrace("verify", "thing", code=1)
            self.assertEqual(self.err, f"moetrace: thing: not a trace: {what}{give}")
        self.moetrace("verify", ".", code=1)
        self.assertEqual(self.err, "moetrace: .: is a folder, not a trace file; give a trace file that can be read\n")
        self.moetrace("verify", "nowhere", code=1)
        self.assertEqual(self.err, "moetrace: nowhere: No such file or directory; give a trace file that can be read\n")
        with open(self.path("thing"), "wb") as file:
            file.write(b'{"type":"meta","schema":"moetr')
        self.moetrace("verify", "thing", code=1)
        self.assertIn("thing: line 1: torn: ", self.err)

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
        said = self.moetrace("verify", "out.jsonl", "wrong.jsonl", "plain.jsonl", code=1)
        self.assertEqual(said.count("good"), 2)
        self.assertIn("out.jsonl: good: 48 rows, 4 steps, 2 requests, attempted=48 delivered=48 ", said)

    def test_command_line(self):
        self.moetrace(code=2)
        self.assertIn("verify", self.err)
        self.assertIn("replay", self.moetrace("--help"))
        self.assertRegex(self.moetrace("--version"), r"^moetrace \d+\.\d+\.\d+\n$")
        for wrong in (["dance"], ["verify"], ["replay", "--rate", "-1", "x"], ["tail", "--topic", "x"], ["set", "--sample", "x"]):
            self.moetrace(*wrong, code=2)
            self.one_line_error()


if __name__ == "__main__":
    BIN = os.path.abspath(sys.argv[1])
    DATA = sys.argv[2] if len(sys.argv) > 2 and not sys.argv[2].startswith("-") else None
    unittest.main(argv=[sys.argv[0]] + [a for a in sys.argv[2:] if a != DATA])
