"""Every read and write of a trace file fails, comes short or is interrupted.

No written row is lost or repeated. The collector names the fault in one line, and continues when
the fault is over."""

import errno
import os
import re
import subprocess
import unittest

from harness import MOETRACE, Case, Collector, Replay, routes_in, wait_until

FAULTS = os.environ["MOETRACE_FAULTS"]
# How the collector names a fault of each call.
SAID = {
    "pread": "can't read it",
    "ftruncate": "can't cut an unfinished write off",
    "open": "can.t (open|make) it",
    "write": "can't write",
    "fdatasync": "can't sync it",
}


class Faults(Case):
    def setUp(self):
        super().setUp()
        self.faults = self.folder / "faults"
        self.set_faults()

    def set_faults(self, *lines):
        """In one step: the preloaded library reads the file at each call."""
        new = self.folder / "faults.new"
        new.write_text("".join(f"{line}\n" for line in lines))
        new.rename(self.faults)

    def start(self, *arguments):
        env = {
            "LD_PRELOAD": FAULTS,
            "MOETRACE_TEST_FAULTS": str(self.faults),
            # The preloaded library comes before the sanitizer's.
            "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0",
        }
        return Collector(self, "--output-dir", self.traces, *arguments, env=env)

    def begin_trace(self, seed=3, rows=6_000):
        """A live trace with rows in its file, and a source with all its rows."""
        self.source = self.write_log(seed, rows)
        lines = self.source.read_text().splitlines(keepends=True)
        replay = Replay(self)
        replay.feed("".join(lines[: rows // 2]))
        self.rest = "".join(lines[rows // 2 :])
        return replay

    def end_feed(self, replay):
        replay.feed(self.rest)
        self.assertEqual(replay.wait(), 0, replay.stderr())

    def drained(self, collector):
        """The check of the trace, once the collector has written all of it and is stopped."""
        self.wait_drained()
        self.assertEqual(collector.stop(), 0, collector.stderr())
        [path] = self.trace_files()
        return self.check(path, self.source)

    def end_trace(self, replay, collector):
        self.end_feed(replay)
        done = self.drained(collector)
        self.assertEqual((done.dropped, done.torn, done.base), (0, 0, None))

    def start_unsynced(self):
        """A collector with a whole trace, which it can't sync to the disk, as it has said."""
        replay = self.begin_trace()
        self.set_faults(f"fdatasync {errno.EIO}")
        collector = self.start()
        self.end_feed(replay)
        wait_until(collector.stderr, "the collector says nothing")
        return collector

    def said_once(self, collector, call):
        said = collector.stderr().splitlines()
        self.assertEqual(len(said), 1, said)
        self.assertRegex(said[0], rf"\Amoetraced: .*\.jsonl: {SAID[call]}")

    def test_short_and_interrupted_calls_are_unseen(self):
        for what in ("short", errno.EINTR):
            with self.subTest(what):
                replay = self.begin_trace()
                self.set_faults(
                    *(f"{call} {what}" for call in ("pread", "write", "fdatasync", "pwrite"))
                )
                first = self.start()
                path = wait_until(self.trace_files, "no trace file")[-1]
                wait_until(lambda path=path: routes_in(path) > 500, "no rows")
                first.kill()
                collector = self.start()
                replay.feed(self.rest)
                self.assertEqual(replay.wait(), 0, replay.stderr())
                self.wait_drained()
                self.assertEqual((collector.stop(), collector.stderr()), (0, ""))
                self.check(path, self.source)
                path.unlink()

    def test_a_file_that_can_not_be_read_is_kept(self):
        """The rows in it are neither written again nor cut off."""
        for call in ("pread", "ftruncate", "open"):
            for number in (errno.EIO, errno.EACCES if call == "open" else errno.EIO):
                with self.subTest(call=call, errno=errno.errorcode[number]):
                    replay = self.begin_trace()
                    first = self.start()
                    [path] = wait_until(self.trace_files, "no trace file")
                    wait_until(lambda path=path: routes_in(path) > 500, "no rows")
                    self.wait_emptied()
                    first.kill()
                    before = path.read_bytes()
                    self.set_faults(f"{call} {number}")
                    collector = self.start()
                    wait_until(collector.stderr, "the collector says nothing")
                    self.assertEqual(path.read_bytes(), before)
                    self.set_faults()
                    self.end_trace(replay, collector)
                    said = collector.stderr().splitlines()
                    self.assertEqual(len(said), 1, said)
                    path.unlink()

    def test_a_write_that_fails(self):
        for number in (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            with self.subTest(errno.errorcode[number]):
                replay = self.begin_trace()
                collector = self.start()
                [path] = wait_until(self.trace_files, "no trace file")
                wait_until(lambda path=path: routes_in(path) > 500, "no rows")
                self.set_faults(f"write {number}")
                replay.feed(self.rest)
                self.rest = ""
                wait_until(collector.stderr, "the collector says nothing")
                self.set_faults()
                self.end_trace(replay, collector)
                self.said_once(collector, "write")
                path.unlink()

    def test_the_ring_stays_until_the_data_is_on_the_disk(self):
        collector = self.start_unsynced()
        self.assertEqual(len(self.segment_files()), 2)
        # The bytes that the kernel counts as written are written again, and that fails, too.
        self.set_faults(f"fdatasync {errno.EIO}", f"pwrite {errno.ENOSPC}")
        wait_until(lambda: "can't write it again" in collector.stderr(), "it does not write again")
        self.assertEqual(len(self.segment_files()), 2)
        self.set_faults()
        self.drained(collector)

    def test_stopped_before_the_data_is_on_the_disk(self):
        collector = self.start_unsynced()
        self.assertEqual(collector.stop(), 1)
        self.assertEqual(len(self.segment_files()), 2)
        self.set_faults()
        self.drained(self.start())

    def test_a_file_that_can_not_be_made(self):
        replay = self.begin_trace()
        self.set_faults(f"open {errno.EMFILE}")
        collector = self.start()
        wait_until(collector.stderr, "the collector says nothing")
        self.assertIn("ulimit -n", collector.stderr())
        self.set_faults()
        self.end_trace(replay, collector)
        self.said_once(collector, "open")

    def test_a_next_part_that_can_not_be_made(self):
        """The present part goes on past its size, until the next one can be made."""
        replay = self.begin_trace(rows=12_000)
        collector = self.start("--max-file-size", "64K")
        wait_until(self.trace_files, "no trace file")
        self.set_faults(f"open {errno.EMFILE}")
        replay.feed(self.rest)
        self.rest = ""
        wait_until(collector.stderr, "the collector says nothing")
        self.set_faults()
        self.end_feed(replay)
        self.wait_drained()
        self.assertEqual(collector.stop(), 0, collector.stderr())
        said = collector.stderr().splitlines()
        self.assertEqual(len(said), 1, said)
        self.assertIn("; the trace continues in its present file", said[0])
        done = subprocess.run(
            [MOETRACE, "verify", *self.trace_files()], env=self.env, capture_output=True, text=True
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        rows = int(re.search(r"good: ([\d,]+) rows", done.stdout).group(1).replace(",", ""))
        self.assertEqual(rows, self.source.read_bytes().count(b'{"type":"route"'))

    def test_few_descriptors(self):
        """Thirty rings, and descriptors for a few: each is drained in its turn."""
        import resource

        source = self.write_log(4, 100)
        for _ in range(30):
            replay = Replay(self, source, rate=1e9)
            self.assertEqual(replay.wait(), 0, replay.stderr())
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (40, hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        collector = self.start()
        # The collector raises the limit as far as it may.
        resource.prlimit(collector.process.pid, resource.RLIMIT_NOFILE, (40, 40))
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        self.wait_drained()
        self.assertEqual(collector.stop(), 0, collector.stderr())
        self.assertEqual(len(self.trace_files()), 30)
        for path in self.trace_files():
            self.check(path, source)


if __name__ == "__main__":
    unittest.main(verbosity=2)
