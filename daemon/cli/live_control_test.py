#!/usr/bin/env python3
"""The commands that change what is recorded: start, stop, set.

usage: live_control_test.py BIN_DIR    (unittest options may follow)
"""

import os
import struct

import cli_case
from live_case import LiveCase


class ControlTest(LiveCase):
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
        self.moetrace(
            "set",
            "--sample",
            "0",
            "--trace",
            segment["trace_id"][:8],
            env={"MOETRACE_SESSION": "other"},
        )
        self.assertEqual(words()[2], 0)
        replay.kill()


if __name__ == "__main__":
    cli_case.main()
