"""How full the ring was, and what waits in it: in `moetrace status`, the `end` line and the
collector's one warning, against a count of the ring's slots that shares no code with them."""

import pathlib
import re
import signal
import struct
import subprocess
import unittest

from harness import MOETRACE, Case, Replay, make_steps, meta_line, wait_until

# Offsets in .ring and .ctl (shm/ABI.md).
ROUTE_STRIDE, ROUTE_OFFSET, ROUTE_SLOTS, ROUTE_CONSUMED = 52, 96, 120, 64
SLOTS = 4096
SMALL = {"MOETRACE_RING_MB": "0.25"}  # of 64-byte records
WARNING = re.compile(r"moetraced: trace \S+: its ring of 0\.25 MiB was ([\d.]+) % full[^\n]*\n")


def rows_in_ring(rings, trace_id):
    """The records after the consumed position, by their commit words; and that position."""
    [ring] = rings.glob(f"*{trace_id}.ring")
    content = ring.read_bytes()
    [stride] = struct.unpack_from("<I", content, ROUTE_STRIDE)
    [offset] = struct.unpack_from("<Q", content, ROUTE_OFFSET)
    [slots] = struct.unpack_from("<Q", content, ROUTE_SLOTS)
    [consumed] = struct.unpack_from("<Q", ring.with_suffix(".ctl").read_bytes(), ROUTE_CONSUMED)
    for count in range(slots):
        slot = consumed + count
        [word] = struct.unpack_from("<I", content, offset + slot % slots * stride)
        if word != slot + 1:
            return count, consumed
    return slots, consumed


class RingUse(Case):
    def lines_of(self, rows):
        """A plain log of exactly so many rows."""
        lines = "".join(make_steps(7, rows)).splitlines(keepends=True)
        path = self.folder / f"{rows}.jsonl"
        path.write_text(meta_line([0, 1, 2, 5]) + "".join(lines[:rows]))
        return path

    def filled(self, rows):
        """A ring with so many rows, whose producer has ended; what `status` says of it."""
        replay = Replay(self, self.lines_of(rows), rate=1e9, env=SMALL)
        self.assertEqual(replay.wait(), 0, replay.stderr())
        [status] = self.status()
        self.assertEqual(rows_in_ring(self.rings, status["trace_id"]), (min(rows, SLOTS), 0))
        self.assertEqual(status["lag_rows"], min(rows, SLOTS))
        self.assertEqual(status["lag_bytes"], 64 * min(rows, SLOTS))
        self.assertGreater(status["lag_seconds"], 0)
        self.assertIsNone(status["high_water"])
        self.assertIsNone(status["high_water_percent"])
        return status

    def status_text(self):
        return subprocess.run(
            [MOETRACE, "status"], env=self.env, check=True, capture_output=True, text=True
        ).stdout

    def ended(self, collector):
        """The `end` line of the only trace, and the collector's lines."""
        lines = self.lines_of_trace()
        self.assertEqual(collector.stop(), 0)
        return lines[-1], collector.stderr()

    def test_a_share_that_a_late_collector_finds(self):
        for rows, said in ((3071, None), (3072, "75.0"), (4096, "100.0")):
            with self.subTest(rows):
                self.filled(rows)
                self.assertRegex(
                    self.status_text(),
                    rf"\n  lag        {rows:,} rows to write, the oldest for \d+\.\d s; "
                    "high water unknown\n",
                )
                end, lines = self.ended(self.start_collector())
                self.assertEqual(end["ring"], {"slots": SLOTS, "high_water": rows})
                self.assertEqual(end["delivered"], rows)
                if said is None:
                    self.assertEqual(lines, "")
                else:
                    self.assertEqual(WARNING.fullmatch(lines)[1], said, lines)
                    self.assertIn(
                        " It was so when this collector began: start moetraced first, or try "
                        "MOETRACE_RING_MB=0.5 for the engine\n",
                        lines,
                    )
                for path in self.traces.iterdir():
                    path.unlink()

    def test_a_replay_that_waits_leaves_room(self):
        collector = self.start_collector()
        replay = Replay(self, self.lines_of(20_000), env=SMALL)
        self.assertEqual(replay.wait(), 0, replay.stderr())
        end, lines = self.ended(collector)
        self.assertEqual((lines, end["dropped"]), ("", 0))
        self.assertGreater(end["ring"]["high_water"], 0)
        self.assertLess(end["ring"]["high_water"], SLOTS * 3 // 4)

    def test_dropped_rows(self):
        self.filled(5000)
        end, lines = self.ended(self.start_collector())
        self.assertEqual(end["ring"], {"slots": SLOTS, "high_water": SLOTS})
        self.assertEqual(end["dropped"], 5000 - SLOTS)
        self.assertIn(f"100.0 % full, with {5000 - SLOTS} rows dropped.", lines)
        self.assertIn("MOETRACE_RING_MB=1 ", lines)  # 2 * 5,000 rows, rounded up

    def test_a_collector_that_stops_for_a_while(self):
        """One line for the trace, whatever comes later."""
        collector = self.start_collector()
        replay, path = self.start_fed(first_rows=600, rate=1e9, env=SMALL)
        self.wait_emptied()
        self.assertEqual(collector.stderr(), "")
        steps = make_steps(9, 100_000)

        def fill(rows):
            """Feeds steps to the ring while no collector reads; how many rows are in it then."""
            fed = []
            # The replay holds the last step back, until the next one begins.
            while sum(text.count("\n") for text in fed) < rows:
                fed.append(next(steps))
            replay.feed("".join(fed))
            most = 0

            def still():
                nonlocal most
                before, most = most, rows_in_ring(self.rings, path.stem)[0]
                return most >= rows - 200 and before == most and self.is_idle(replay)

            wait_until(still, "the replay does not fill the ring")
            [status] = self.status()
            self.assertEqual(status["lag_rows"], most)
            return most

        def stopped(rows):
            collector.process.send_signal(signal.SIGSTOP)
            wait_until(lambda: self.state_of(collector) == "T", "not stopped")
            self.assertEqual(self.status()[0]["lag_rows"], 0)
            most = fill(rows)
            collector.process.send_signal(signal.SIGCONT)
            self.wait_emptied()
            return most

        marks = [stopped(2400)]
        self.assertEqual(collector.stderr(), "", f"{marks} of {SLOTS}")
        self.assertEqual(self.status()[0]["high_water"], marks[0])
        marks.append(stopped(3400))
        [status] = self.status()
        self.assertEqual(status["high_water"], marks[1])
        self.assertAlmostEqual(status["high_water_percent"], 100 * marks[1] / SLOTS)
        self.assertEqual((status["lag_rows"], status["lag_seconds"]), (0, None))
        self.assertRegex(
            self.status_text(), rf"\n  lag        none; high water {marks[1]:,} rows \([\d.]+ %\)\n"
        )
        [said] = [float(share) for share in WARNING.findall(collector.stderr())]
        self.assertAlmostEqual(said, 100 * marks[1] / SLOTS, delta=0.051)
        self.assertIn(" were written. Try MOETRACE_RING_MB=0.5 for the engine", collector.stderr())
        marks.append(stopped(3500))
        self.assertEqual(collector.stderr().count("\n"), 1)
        collector.kill()
        marks.append(fill(3300))
        again = self.start_collector()
        self.assertEqual(replay.wait(), 0, replay.stderr())
        end, lines = self.ended(again)
        self.assertEqual(lines, "", "another collector says it again")
        self.assertGreater(marks[2], marks[3])
        self.assertEqual(end["ring"], {"slots": SLOTS, "high_water": max(marks)})

    @staticmethod
    def state_of(child):
        stat = pathlib.Path(f"/proc/{child.process.pid}/stat").read_text()
        return stat.rpartition(") ")[2][0]

    def is_idle(self, replay):
        """Sleeps, in a read of its empty pipe."""
        return self.state_of(replay) == "S"


if __name__ == "__main__":
    unittest.main(verbosity=2)
