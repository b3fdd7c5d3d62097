"""Several segments, other sessions, hostile segments, and segments that are cut."""

import contextlib
import fcntl
import os
import random
import struct
import subprocess
import unittest
import uuid

from harness import MOETRACE, Case, Replay, wait_until

# Offsets in the first page of .ring (shm/ABI.md).
ABI_MAJOR, ABI_MINOR, TRACE_ID, NUM_LAYERS, ROUTE_SLOTS, ROUTE_OFFSET = 8, 10, 16, 60, 120, 96
ANNOUNCE_NS, HOOK_NS = 4096 + 40, 4096 + 48  # of the host counters: the second page in version 1


class Segments(Case):
    def test_several_at_once(self):
        collector = self.start_collector()
        sources = [
            self.write_log(seed, 30_000, name=f"source.{seed}.jsonl", layers=layers)
            for seed, layers in enumerate([(0, 1, 2, 5), (0,), (3, 4)])
        ]
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
        """A changed copy of an abandoned segment under a new id."""
        new = uuid.uuid4()
        for kind, change in (("ring", change_ring), ("ctl", change_ctl)):
            content = bytearray((self.rings / f"moetrace.v1.spare.{trace_id}.{kind}").read_bytes())
            content[TRACE_ID : TRACE_ID + 16] = new.bytes
            if change:
                content = change(content)
            (self.rings / f"copy.{kind}").write_bytes(content)
        with open(self.rings / "copy.ctl", "r+b") as ctl:
            fcntl.lockf(
                ctl, fcntl.LOCK_EX, 1
            )  # like a producer: a collector removes an unlocked .ctl without a .ring
            for kind in ("ctl", "ring"):  # .ring last: a live collector attaches when it appears
                (self.rings / f"copy.{kind}").rename(
                    self.rings / f"moetrace.v1.{self.session}.{new}.{kind}"
                )
        return str(new)

    def test_hostile_segments_are_left_alone(self):
        source = self.write_log(3, 3_000)
        spare = Replay(self, source, session="spare", rate=1e9, env={"MOETRACE_RING_MB": "0.5"})
        self.assertEqual(spare.wait(), 0, spare.stderr())
        [good] = self.trace_ids("spare")

        def put(offset, layout, value):
            field = struct.pack(layout, value)
            return lambda content: content[:offset] + field + content[offset + len(field) :]

        rng = random.Random(4)
        bad = {
            "another version": self.copy_segment(good, put(ABI_MAJOR, "<H", 9)),
            "too many layers": self.copy_segment(good, put(NUM_LAYERS, "<I", 1 << 30)),
            "endless ring": self.copy_segment(good, put(ROUTE_SLOTS, "<Q", 1 << 60)),
            "ring outside": self.copy_segment(good, put(ROUTE_OFFSET, "<Q", (1 << 64) - 64)),
            "random bytes": self.copy_segment(good, lambda content: rng.randbytes(len(content))),
            "random control": self.copy_segment(
                good, None, lambda content: rng.randbytes(len(content))
            ),
            "cut short": self.copy_segment(good, lambda content: content[:8192]),
            "empty": self.copy_segment(good, lambda content: b""),
            "no control": self.copy_segment(good, None, lambda content: content[:100]),
        }
        harmless = self.copy_segment(good)
        collector = self.start_collector()
        replay = Replay(self, source)
        self.assertEqual(replay.wait(), 0, replay.stderr())
        wait_until(
            lambda: set(self.trace_ids()) == set(bad.values()), "a good segment is not served"
        )
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
        """The cost is the producer's, whatever its value; unknown if the segment's ABI is older."""
        spare = Replay(
            self,
            self.write_log(3, 3_000),
            session="spare",
            rate=1e9,
            env={"MOETRACE_RING_MB": "0.5"},
        )
        self.assertEqual(spare.wait(), 0, spare.stderr())
        [good] = self.trace_ids("spare")

        def put(*fields):
            def change(content):
                for offset, layout, value in fields:
                    struct.pack_into(layout, content, offset, value)
                return content

            return change

        expected = {
            self.copy_segment(good, put((ABI_MINOR, "<H", 1))): {
                "announce_ns": None,
                "hook_ns": None,
            },
            self.copy_segment(good, put((ANNOUNCE_NS, "<Q", 0), (HOOK_NS, "<Q", 2**64 - 1))): {
                "announce_ns": 0,
                "hook_ns": 2**64 - 1,
            },
        }
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
        """The collector may be reading those slots: it survives, and writes only recorded rows."""
        source = self.write_log(3, 60_000)
        spare = Replay(self, source, session="spare", rate=1e9, env={"MOETRACE_RING_MB": "8"})
        self.assertEqual(spare.wait(), 0, spare.stderr())
        [whole] = self.trace_ids("spare")
        collector = self.start_collector()
        cut = {}
        # On a busy machine most of them are drained before the cut.
        for turn in range(300):
            trace_id = self.copy_segment(whole)
            path = self.traces / f"{trace_id}.jsonl"
            ring = self.rings / f"moetrace.v1.{self.session}.{trace_id}.ring"
            # Cut the first one at its beginning.
            enough = max(1, turn % 10 * len(source.read_bytes()) // 10)
            wait_until(
                lambda path=path, enough=enough: path.exists() and path.stat().st_size >= enough,
                "not drained",
            )
            with contextlib.suppress(FileNotFoundError):
                os.truncate(ring, 4096)
                cut[trace_id] = path
            wait_until(
                lambda trace_id=trace_id, ring=ring: (
                    trace_id in collector.stderr() or not ring.exists()
                ),
                "neither cut nor drained",
            )
            if turn >= 9 and collector.stderr().count("\n") > 3:
                break
        self.assertEqual(collector.stop(), 1, collector.stderr())
        said = collector.stderr().splitlines()
        self.assertTrue(all("was cut while it was in use" in line for line in said), said)
        self.assertGreater(len(said), 3)
        for trace_id, path in cut.items():
            self.check(path, source, need_end=False, whole_source=False)
            self.assertLessEqual(sum(trace_id in line for line in said), 1)

    def test_ring_that_does_not_fit(self):
        result = subprocess.run(
            [MOETRACE, "replay", self.write_log(9, 100)],
            capture_output=True,
            text=True,
            env={**self.env, "MOETRACE_RING_MB": "90000000"},
        )
        self.assertEqual(result.returncode, 1)
        self.assertRegex(result.stderr, r"\Amoetrace: [^\n]+: [^\n]+; [^\n]+\n\Z")
        self.assertEqual(os.listdir(self.rings), [])


if __name__ == "__main__":
    unittest.main(verbosity=2)
