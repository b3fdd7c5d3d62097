"""Several segments, foreign sessions, hostile files, stopping and starting again."""
import contextlib
import fcntl
import os
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import unittest
import uuid

from harness import MOETRACE, MOETRACED, Case, Collector, Replay, make_steps, meta_line, routes_in, wait_until

# Offsets in the first page of .ring (shm/ABI.md).
ABI_MAJOR, ABI_MINOR, TRACE_ID, NUM_LAYERS, ROUTE_SLOTS, ROUTE_OFFSET = 8, 10, 16, 60, 120, 96
ANNOUNCE_NS, HOOK_NS = 4096 + 40, 4096 + 48  # of the host counters, which a producer of version 1 has on the second page


class Segments(Case):
    def start_collector(self, *arguments):
        return Collector(self, "--output-dir", self.traces, *arguments)

    def start_fed(self, first_rows=2_000, seed=1, **how):
        """A live trace, of which the collector has all that was fed."""
        known = set(self.trace_files())
        replay = Replay(self, **how)
        replay.feed(meta_line([0, 1, 2, 5]))
        [path] = wait_until(lambda: set(self.trace_files()) - known, "no trace file")
        steps = list(make_steps(seed, first_rows))
        for step in steps:
            replay.feed(step)
        wait_until(lambda: routes_in(path) > 0, "no rows")
        return replay, path

    def test_several_at_once(self):
        collector = self.start_collector()
        sources = [self.write_log(seed, 30_000, name=f"source.{seed}.jsonl", layers=layers)
                   for seed, layers in enumerate([(0, 1, 2, 5), (0,), (3, 4)])]
        replays = [Replay(self, source) for source in sources]
        for replay in replays:
            self.assertEqual(replay.wait(), 0, replay.stderr())
        self.wait_drained()
        self.assertEqual((collector.stop(), collector.stderr()), (0, ""))
        by_layers = {str(self.check(path).layers): path for path in self.trace_files()}
        for source, layers in zip(sources, [{0, 1, 2, 5}, {0}, {3, 4}]):
            self.assertEqual(self.check(by_layers[str(layers)], source).dropped, 0)

    def test_sessions_do_not_meet(self):
        source = self.write_log(2, 5_000)
        collector = self.start_collector("--once")
        other = Replay(self, source, session="other", rate=1e9)
        self.assertEqual(other.wait(), 0, other.stderr())
        mine = Replay(self, source)
        self.assertEqual(mine.wait(), 0, mine.stderr())
        self.assertEqual(collector.wait(), 0, collector.stderr())
        [path] = self.trace_files()
        self.check(path, source)
        self.assertEqual(self.trace_ids(), [])
        [left] = self.trace_ids("other")
        self.assertNotEqual(left, path.stem)

    def copy_segment(self, trace_id, change_ring=None, change_ctl=None):
        """A copy of an abandoned segment under a new id, changed."""
        new = uuid.uuid4()
        for kind, change in (("ring", change_ring), ("ctl", change_ctl)):
            content = bytearray((self.rings / f"moetrace.v1.spare.{trace_id}.{kind}").read_bytes())
            content[TRACE_ID:TRACE_ID + 16] = new.bytes
            if change:
                content = change(content)
            (self.rings / f"copy.{kind}").write_bytes(content)
        with open(self.rings / "copy.ctl", "r+b") as ctl:
            fcntl.lockf(ctl, fcntl.LOCK_EX, 1)  # as a producer does: a collector removes a .ctl that is nobody's and has no .ring
            for kind in ("ctl", "ring"):  # .ring last: with it, a collector that runs takes the segment
                (self.rings / f"copy.{kind}").rename(self.rings / f"moetrace.v1.{self.session}.{new}.{kind}")
        return str(new)

    def test_hostile_segments_are_left_alone(self):
        source = self.write_log(3, 3_000)
        spare = Replay(self, source, session="spare", rate=1e9, env={"MOETRACE_RING_MB": "0.5"})
        self.assertEqual(spare.wait(), 0, spare.stderr())
        [good] = self.trace_ids("spare")

        def put(offset, layout, value):
            field = struct.pack(layout, value)
            return lambda content: content[:offset] + field + content[offset + len(field):]

        rng = random.Random(4)
        bad = {
            "another version": self.copy_segment(good, put(ABI_MAJOR, "<H", 9)),
            "too many layers": self.copy_segment(good, put(NUM_LAYERS, "<I", 1 << 30)),
            "endless ring": self.copy_segment(good, put(ROUTE_SLOTS, "<Q", 1 << 60)),
            "ring outside": self.copy_segment(good, put(ROUTE_OFFSET, "<Q", (1 << 64) - 64)),
            "random bytes": self.copy_segment(good, lambda content: rng.randbytes(len(content))),
            "random control": self.copy_segment(good, None, lambda content: rng.randbytes(len(content))),
            "cut short": self.copy_segment(good, lambda content: content[:8192]),
            "empty": self.copy_segment(good, lambda content: b""),
            "no control": self.copy_segment(good, None, lambda content: content[:100]),
        }
        harmless = self.copy_segment(good)
        collector = self.start_collector()
        replay = Replay(self, source)
        self.assertEqual(replay.wait(), 0, replay.stderr())
        wait_until(lambda: set(self.trace_ids()) == set(bad.values()), "a good segment is not served")
        self.assertEqual(collector.stop(), 1)
        lines = collector.stderr().splitlines()
        for what, trace_id in bad.items():
            about = [line for line in lines if trace_id in line]
            self.assertEqual(len(about), 1, f"{what}: {about or lines}")
            self.assertRegex(about[0], r"\Amoetraced: [^:]+: .+; .+")
        self.assertEqual(len(lines), len(bad), lines)
        self.assertEqual(len(self.trace_files()), 2)
        self.check(self.traces / f"{harmless}.jsonl")

    def test_what_tracing_cost(self):
        """As the producer says it, whatever that is; unknown where the segment is of an older version."""
        spare = Replay(self, self.write_log(3, 3_000), session="spare", rate=1e9, env={"MOETRACE_RING_MB": "0.5"})
        self.assertEqual(spare.wait(), 0, spare.stderr())
        [good] = self.trace_ids("spare")

        def put(*fields):
            def change(content):
                for offset, layout, value in fields:
                    struct.pack_into(layout, content, offset, value)
                return content
            return change

        expected = {self.copy_segment(good, put((ABI_MINOR, "<H", 1))): {"announce_ns": None, "hook_ns": None},
                    self.copy_segment(good, put((ANNOUNCE_NS, "<Q", 0), (HOOK_NS, "<Q", 2**64 - 1))):
                        {"announce_ns": 0, "hook_ns": 2**64 - 1}}
        as_it_was = self.copy_segment(good)
        self.start_collector()
        wait_until(lambda: not self.trace_ids(), "segments left")
        for trace_id, cost in expected.items():
            self.assertEqual(self.check(self.traces / f"{trace_id}.jsonl").end["cost"], cost)
        cost = self.check(self.traces / f"{as_it_was}.jsonl").end["cost"]
        self.assertGreater(cost["announce_ns"], 0)
        self.assertGreater(cost["hook_ns"], 0)
        for path in self.trace_files():
            subprocess.run([MOETRACE, "verify", path], check=True, stdout=subprocess.DEVNULL)

    def test_segment_cut_while_mapped(self):
        collector = self.start_collector()
        replay, path = self.start_fed()
        os.truncate(self.rings / f"moetrace.v1.{self.session}.{path.stem}.ring", 4096)
        wait_until(collector.stderr, "the collector does not notice")
        good, good_path = self.start_fed(seed=5)
        self.assertEqual(good.wait(), 0, good.stderr())
        wait_until(lambda: self.trace_ids() == [path.stem], "the good segment is not ended")
        self.assertEqual(collector.stop(), 1)
        self.assertEqual(len(collector.stderr().splitlines()), 1)
        self.check(good_path)
        self.check(path, need_end=False)

    def test_segments_cut_in_the_middle_of_a_pass(self):
        """The collector may be reading the very slots: it lives, and writes nothing that was not recorded."""
        source = self.write_log(3, 60_000)
        spare = Replay(self, source, session="spare", rate=1e9, env={"MOETRACE_RING_MB": "8"})
        self.assertEqual(spare.wait(), 0, spare.stderr())
        [whole] = self.trace_ids("spare")
        collector = self.start_collector()
        cut = {}
        # On a busy machine most of them have been drained whole before they are cut.
        for turn in range(300):
            trace_id = self.copy_segment(whole)
            path = self.traces / f"{trace_id}.jsonl"
            ring = self.rings / f"moetrace.v1.{self.session}.{trace_id}.ring"
            # The first one when it has been begun.
            enough = max(1, turn % 10 * len(source.read_bytes()) // 10)
            wait_until(lambda: path.exists() and path.stat().st_size >= enough, "not drained")
            with contextlib.suppress(FileNotFoundError):
                os.truncate(ring, 4096)
                cut[trace_id] = path
            wait_until(lambda: trace_id in collector.stderr() or not ring.exists(), "neither cut nor drained")
            if turn >= 9 and collector.stderr().count("\n") > 3:
                break
        self.assertEqual(collector.stop(), 1, collector.stderr())
        said = collector.stderr().splitlines()
        self.assertTrue(all("was cut while it was in use" in line for line in said), said)
        self.assertGreater(len(said), 3)
        for trace_id, path in cut.items():
            self.check(path, source, need_end=False, whole_source=False)
            self.assertLessEqual(sum(trace_id in line for line in said), 1)

    def test_stop_drains_and_a_restart_goes_on(self):
        source = self.write_log(6, 60_000)
        steps = source.read_text().splitlines(keepends=True)[1:]
        collector = self.start_collector()
        replay = Replay(self)
        replay.feed(meta_line([0, 1, 2, 5]))
        [path] = wait_until(self.trace_files, "no trace file")
        for part in range(4):
            lines = steps[part * len(steps) // 4:(part + 1) * len(steps) // 4]
            replay.feed("".join(lines))
            self.assertEqual(collector.stop(), 0, collector.stderr())
            self.check(path, source, need_end=False, whole_source=False)
            collector = self.start_collector()
        self.assertEqual(replay.wait(), 0, replay.stderr())
        self.wait_drained()
        done = self.check(path, source)
        self.assertEqual((done.dropped, done.base), (0, None))

    def test_stop_drains_what_is_there(self):
        """A segment that nobody has looked at, and a stop: all of it is in the file."""
        source = self.write_log(7, 50_000)
        replay = Replay(self, source, rate=1e9)
        self.assertEqual(replay.wait(), 0, replay.stderr())
        collector = self.start_collector()
        self.assertEqual(collector.stop(), 0, collector.stderr())
        [path] = self.trace_files()
        self.check(path, source, need_end=False)

    def test_either_signal_ends_it_cleanly(self):
        """In the middle of a live trace: what was recorded is in the file, nothing of the collector is left behind."""
        endpoints = self.folder / "moetrace"
        endpoints.mkdir()
        for number in (signal.SIGTERM, signal.SIGINT):
            with self.subTest(number.name):
                collector = Collector(self, "--output-dir", self.traces, publish=f"ipc://{endpoints}/{self.session}.pub")
                replay, path = self.start_fed(seed=number)
                self.assertEqual((collector.stop(number), collector.stderr()), (0, ""))
                self.assertGreater(self.check(path, need_end=False).delivered, 0)
                self.assertEqual(list(endpoints.iterdir()), [])
                self.assertFalse([name for name in os.listdir(self.rings) if path.stem not in name])
                self.start_collector("--once")
                self.assertEqual(replay.wait(), 0, replay.stderr())
                self.wait_drained()
                self.assertEqual(self.check(path).dropped, 0)
                self.assertEqual(self.collectors[-1].wait(), 0)

    def test_lost_file_starts_late(self):
        collector = self.start_collector()
        replay, path = self.start_fed(10_000)
        self.assertEqual(collector.stop(), 0, collector.stderr())
        first = self.check(path, need_end=False)
        path.unlink()
        self.start_collector()
        for step in list(make_steps(1, 20_000))[len(list(make_steps(1, 10_000))):]:
            replay.feed(step)
        self.assertEqual(replay.wait(), 0, replay.stderr())
        self.wait_drained()
        late = self.check(path)
        self.assertIsNotNone(late.base)
        self.assertEqual(late.base["delivered_total"], first.delivered)
        self.assertEqual(late.base["seq"], first.next_seq)
        text = path.read_text()
        self.assertIn('"event":null', text)
        self.assertGreater(late.delivered, 0)

    def test_pictures_of_an_ended_trace_are_waited_for(self):
        plots = self.folder / "plots"
        if not shutil.which("moetrace-plot", path=os.path.dirname(MOETRACED)):
            self.skipTest("moetrace-plot is not built")
        collector = self.start_collector("--plot-dir", plots, "--once")
        replay = Replay(self, self.write_log(8, 5_000))
        self.assertEqual(replay.wait(), 0, replay.stderr())
        self.assertEqual(collector.wait(), 0, collector.stderr())
        [path] = self.trace_files()
        for name in ("expert_hist.png", "expert_metrics.json"):
            self.assertGreater((plots / path.stem / name).stat().st_size, 0)

    def test_ring_that_does_not_fit(self):
        result = subprocess.run([MOETRACE, "replay", self.write_log(9, 100)], capture_output=True, text=True,
                                env={**self.env, "MOETRACE_RING_MB": "90000000"})
        self.assertEqual(result.returncode, 1)
        self.assertRegex(result.stderr, r"\Amoetrace: [^\n]+: [^\n]+; [^\n]+\n\Z")
        self.assertEqual(os.listdir(self.rings), [])

    def refused(self, *arguments, directory=None, **how):
        """A collector that does not start; the one line that it says."""
        result = subprocess.run([MOETRACED, "--directory", directory or self.rings, *map(str, arguments)], env=self.env,
                                cwd=self.folder, capture_output=True, text=True, timeout=60, **how)
        self.assertEqual(result.returncode, 1)
        self.assertRegex(result.stderr, r"\Amoetraced: [^\n]+; [^\n]+\n\Z")
        return result.stderr

    def test_usage(self):
        for words, said in (("foo", "unexpected argument 'foo'"), ("--outputdir x", "unknown option --outputdir"),
                            ("--layers", "--layers: its value is missing"), ("--once=x", "--once takes no value"),
                            ("--once=4x", "--once takes no value"), ("--quiet=0", "--quiet takes no value"),
                            ("--session= --once", "--session: its value is missing"),
                            ("--output-dir --once", "--output-dir: its value is missing before --once"),
                            ("--output a --output-dir b", "--output-dir and --output exclude each other")):
            result = subprocess.run([MOETRACED, *words.split()], env=self.env, cwd=self.folder, capture_output=True, text=True, timeout=60)
            self.assertEqual((result.returncode, result.stderr), (2, f"moetraced: {said}; see moetraced --help\n"))

    def test_output_that_cannot_be_written(self):
        (self.folder / "file").write_text("in the way")
        for output in (["--output-dir", self.folder / "file"], ["--output", self.folder / "file/trace.jsonl"]):
            self.assertIn(f"{self.folder}/file: can't write", self.refused("--publish", "none", *output))

    def test_a_socket_is_not_taken_from_another_collector(self):
        endpoint = f"ipc://{self.folder}/moetrace/{self.session}.pub"  # the default one
        (self.folder / "moetrace").mkdir()
        first = Collector(self, "--output-dir", self.traces, publish=endpoint)
        socket_file = self.folder / f"moetrace/{self.session}.pub"
        def file():  # the same one as long as this does not change; its time of access does, at each attempt to connect
            status = socket_file.stat()
            return status.st_ino, status.st_ctime_ns

        before = file()
        elsewhere = self.folder / "rings"
        elsewhere.mkdir()
        self.assertIn("Address already in use", self.refused("--output-dir", self.traces, directory=elsewhere))
        self.assertIn("Address already in use",
                      self.refused("--output-dir", self.traces, "--publish", endpoint, directory=elsewhere))
        self.assertEqual(file(), before)
        self.assertTrue(socket_file.with_suffix(".endpoint").exists())
        first.kill()  # its file stays, and is nobody's
        second = Collector(self, "--output-dir", self.traces, publish=endpoint)
        self.assertEqual(second.stop(), 0, second.stderr())
        self.assertEqual(list(socket_file.parent.iterdir()), [], "a collector that was stopped leaves nothing behind")

    def test_a_session_has_one_collector(self):
        endpoint_file = self.folder / "moetrace" / f"{self.session}.endpoint"
        endpoint_file.parent.mkdir()
        first = Collector(self, "--output-dir", self.traces, publish=f"ipc://{self.folder}/first.pub")
        listed = endpoint_file.read_text()
        for publish in ("none", f"ipc://{self.folder}/second.pub"):
            said = self.refused("--output-dir", self.folder / "untouched", "--publish", publish)
            self.assertEqual(said, f"moetraced: a collector (pid {first.process.pid}) already serves session '{self.session}' in "
                                   f"{self.rings}; stop it, or set another --session\n")
        self.assertEqual(endpoint_file.read_text(), listed)
        self.assertFalse((self.folder / "untouched").exists())
        self.assertFalse((self.folder / "second.pub").exists())
        # Neither another session nor another ring directory is in its way, and neither takes its endpoints along.
        elsewhere = self.folder / "rings"
        elsewhere.mkdir()
        others = [Collector(self, session="other"), Collector(self, directory=elsewhere)]
        for other in others:
            self.assertEqual(other.stop(), 0, other.stderr())
        self.assertEqual(endpoint_file.read_text(), listed)
        # One that was killed is in nobody's way.
        for _ in range(20):
            first.kill()
            first = self.start_collector()
        self.assertEqual(len(os.listdir(self.rings)), 1)
        self.assertEqual((first.stop(), first.stderr()), (0, ""))
        self.assertEqual(os.listdir(self.rings), [])

    def test_of_collectors_that_start_at_once_one_stays(self):
        started = [subprocess.Popen([MOETRACED, "--directory", self.rings, "--publish", "none", "--output-dir", self.traces],
                                    env=self.env, stderr=subprocess.PIPE, text=True) for _ in range(10)]
        said = [process.stderr.readline() for process in started]
        for process in started:
            process.terminate()
            process.communicate(timeout=60)
        self.assertEqual(sum(line.startswith("moetraced: ready") for line in said), 1, said)
        self.assertEqual(sum("already serves" in line for line in said), 9, said)

    def test_only_the_own_endpoints_are_removed(self):
        endpoint_file = self.folder / "moetrace" / f"{self.session}.endpoint"
        endpoint_file.parent.mkdir()
        elsewhere = self.folder / "rings"
        elsewhere.mkdir()
        first = Collector(self, "--output-dir", self.traces, publish=f"ipc://{self.folder}/first.pub")
        second = Collector(self, directory=elsewhere, publish=f"ipc://{self.folder}/second.pub")
        listed = endpoint_file.read_text()
        self.assertIn("second.pub", listed)
        self.assertEqual(first.stop(), 0, first.stderr())
        self.assertEqual(endpoint_file.read_text(), listed)
        self.assertEqual(second.stop(), 0, second.stderr())
        self.assertFalse(endpoint_file.exists())

    @unittest.skipUnless(os.geteuid() == 0, "running as another user needs root")
    def test_users_of_one_ring_directory(self):
        """Who may serve each other's rings meet; who may not don't, and nor does who can't make a file there."""
        try:
            subprocess.run([MOETRACED, "--version"], user=64001, cwd="/", stdout=subprocess.DEVNULL, check=True)
        except PermissionError:
            self.skipTest("other users can't start the program")
        self.folder.chmod(0o777)
        for name, ours, theirs, mode, meet in (("group", 64001, 64001, 0o2770, True), ("all", 64001, 64002, 0o1777, False),
                                               ("read-only", 64001, 64001, 0o555, False)):
            rings = self.rings / name
            rings.mkdir()
            os.chown(rings, 0, ours)
            rings.chmod(mode)
            self.rings.chmod(0o755)
            first = self.start_as(64001, ours, rings)
            if meet:
                said = self.refused("--publish", "none", directory=rings, user=64002, group=theirs, extra_groups=[])
                self.assertIn(f"(pid {first.pid}) already serves", said)
                continue
            second = self.start_as(64002, theirs, rings)
            if name == "all":
                said = self.refused("--publish", "none", directory=rings, user=64002, group=theirs, extra_groups=[])
                self.assertIn(f"(pid {second.pid}) already serves", said)

    @unittest.skipUnless(os.geteuid() == 0, "running as another user needs root")
    def test_rings_of_another_user(self):
        """A service drains what its group may open; what it can't remove, or can't open, it says once, whatever follows."""
        engine, service, group = 64001, 64002, 64003
        try:
            subprocess.run([MOETRACED, "--version"], user=engine, cwd="/", stdout=subprocess.DEVNULL, check=True)
        except PermissionError:
            self.skipTest("other users can't start the program")
        self.folder.chmod(0o777)
        self.rings.chmod(0o755)
        source = self.write_log(14, 500)
        source.chmod(0o644)

        def record(rings, user, **env):
            subprocess.run([MOETRACE, "replay", source, "--rate", "1e9"], user=user, group=user, extra_groups=[group], cwd="/",
                           env={**self.env, "MOETRACE_DIR": str(rings), **env}, stdout=subprocess.DEVNULL, check=True)

        for name, mode, env, left, said in (
                ("service", 0o2770, {}, 0, []),
                ("sticky", 0o1777, {"MOETRACE_GROUP": str(group)}, 1, ["drained, but can't be removed"]),
                ("private", 0o1777, {}, 1, ["MOETRACE_GROUP"])):
            with self.subTest(name):
                rings = self.rings / name
                rings.mkdir()
                os.chown(rings, 0, group)
                rings.chmod(mode)
                record(rings, engine, **env)
                process = self.start_as(service, group, rings)
                record(rings, service)
                record(rings, service)
                lines = [process.stderr.readline() for _ in range(4)]
                wait_until(lambda: len([file for file in rings.iterdir() if file.suffix == ".ring"]) == left, "not drained")
                process.terminate()
                lines += process.stderr.readlines()
                complaints = [line for line in lines if " begins: " not in line and " has ended: " not in line]
                self.assertEqual(len(complaints), len(said), lines)
                for line, part in zip(complaints, said):
                    self.assertIn(part, line)
                self.assertEqual(sum(" has ended: closed, " in line for line in lines), 2 if name == "private" else 3, lines)

    def start_as(self, user, group, rings):
        command = [MOETRACED, "--directory", rings, "--output-dir", self.folder / f"{rings.name}.{user}", "--publish", "none"]
        process = subprocess.Popen(command, env=self.env, cwd=self.folder, stderr=subprocess.PIPE, text=True, umask=0o077,
                                   user=user, group=group, extra_groups=[])
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        self.assertIn("moetraced: ready", process.stderr.readline())
        return process

    def test_says_where_everything_is(self):
        process = subprocess.Popen([MOETRACED, "--directory", self.rings, "--output-dir", "traces"], env=self.env,
                                   cwd=self.folder, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        try:
            line = process.stderr.readline()
            for part in (f"session {self.session}", str(self.rings), "traces/<trace id>.jsonl", f"ipc://{self.folder}/moetrace/"):
                self.assertIn(part, line)
        finally:
            process.terminate()
            self.assertEqual(process.communicate(timeout=60)[1], "")

    def test_says_when_a_trace_begins_and_how_it_ended(self):
        collector = subprocess.Popen([MOETRACED, "--directory", self.rings, "--output-dir", "traces", "--publish", "none"],
                                     env=self.env, cwd=self.folder, stderr=subprocess.PIPE, text=True)
        self.addCleanup(collector.communicate)
        self.addCleanup(collector.kill)
        self.assertIn("ready", collector.stderr.readline())
        replay = Replay(self, self.write_log(11, 500))
        pid = replay.process.pid
        self.assertEqual(replay.wait(), 0, replay.stderr())
        begun = re.fullmatch(r'moetraced: trace (\S+) begins: model "test/model", pid (\d+), file traces/(\S+)\.jsonl\n',
                             collector.stderr.readline())
        self.assertEqual((begun[1], int(begun[2])), (begun[3], pid))
        ended = collector.stderr.readline()
        rows = routes_in(self.folder / f"traces/{begun[1]}.jsonl")
        self.assertEqual(ended, f"moetraced: trace {begun[1]} has ended: closed, {rows} delivered, 0 dropped, 0 torn\n")
        # One that is killed, and a collector that comes to it late; what is odd in a name stays in the line.
        replay = Replay(self)
        replay.feed(meta_line([0, 1, 2, 5], model="odd\nname"))
        replay.feed("".join(make_steps(3, 500)))
        begun = collector.stderr.readline()
        trace = begun.split()[2]
        self.assertIn('begins: model "odd\\nname", pid ', begun)
        wait_until(lambda: routes_in(self.folder / f"traces/{trace}.jsonl"), "no rows")
        collector.terminate()
        self.assertEqual(collector.communicate(timeout=60)[1], "")
        replay.kill()
        late = subprocess.run([MOETRACED, "--directory", self.rings, "--output-dir", "traces", "--publish", "none", "--once"],
                              env=self.env, cwd=self.folder, capture_output=True, text=True, timeout=60)
        self.assertRegex(late.stderr, rf'\Amoetraced: ready[^\n]+\nmoetraced: trace {trace} goes on: model [^\n]+\n'
                                      rf'moetraced: trace {trace} has ended: producer died, \d+ delivered, 0 dropped, \d+ torn\n\Z')

    def test_quiet(self):
        replay = Replay(self, self.write_log(12, 500), rate=1e9)
        self.assertEqual(replay.wait(), 0, replay.stderr())
        result = subprocess.run([MOETRACED, "--directory", self.rings, "--publish", "none", "--once", "--quiet"],
                                env=self.env, cwd=self.folder, capture_output=True, text=True, timeout=60)
        self.assertEqual((result.returncode, result.stdout, result.stderr), (0, "", ""))

    def test_notifies_the_service_manager(self):
        address = self.folder / "notify"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(str(address))
            manager.settimeout(60)
            collector = Collector(self, "--output-dir", self.traces, env={"NOTIFY_SOCKET": str(address)})
            self.assertEqual(manager.recv(4096), b"READY=1")
            self.assertEqual(collector.stop(), 0)
            self.assertEqual(manager.recv(4096), b"STOPPING=1")


if __name__ == "__main__":
    unittest.main(verbosity=2)
