#!/usr/bin/env python3
"""`moetrace status` of a live segment: what it records, its counts, its collector.

usage: live_status_test.py BIN_DIR    (unittest options may follow)
"""

import json
import os

import cli_case
from live_case import LiveCase


class StatusTest(LiveCase):
    def endpoints(self):
        [segment] = json.loads(self.moetrace("status", "--json"))
        return segment["endpoints"]

    def silent_collector(self):
        """A second collector, which does not publish, once it is attached."""
        daemon = self.start("moetraced", "--output", "out.jsonl", "--publish", "none")
        self.wait_for(
            lambda: json.loads(self.moetrace("status", "--json"))[0]["collector"] == "attached",
            "the second collector",
        )
        return daemon

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
        self.wait_for(
            lambda: json.loads(self.moetrace("status", "--json"))[0]["cost"]["hook_ns"] > 0,
            "the hook's time",
        )
        text = self.moetrace("status")
        self.assertRegex(
            text,
            r"\n  cost       \d+\.\d ms in announcements, \d+\.\d ms in the hook; "
            r"\d+\.\d\d us a step\n",
        )
        self.assertIn("\n  recording  on, layers 0,2, every step\n", text)
        self.assertEqual(
            (segment["enabled"], segment["layers"], segment["sample_every"]), (True, [0, 2], 1)
        )
        self.assertIn(segment["trace_id"], text)
        self.assertLessEqual(max(map(len, text.splitlines())), 100)
        top = self.wait_for(
            lambda: [
                s
                for s in json.loads(self.moetrace("top", "--once", "--json"))
                if s["layers"][0]["selections"] > 0
            ],
            "counts",
        )[0]
        self.assertEqual([layer["layer"] for layer in top["layers"]], [0, 1, 2])
        for layer in (0, 2):
            self.assertGreater(sum(top["layers"][layer]["counts"]), 0)
            counts = top["layers"][layer]["counts"]
            self.assertAlmostEqual(
                top["layers"][layer]["max_over_mean"], max(counts) * len(counts) / sum(counts)
            )
        watch = self.start("moetrace", "top", "--json")
        self.assertIn(segment["trace_id"], watch.stdout.readline())
        replay.kill()
        replay.wait()
        dead = json.loads(self.moetrace("status", "--json"))[0]
        self.assertEqual(dead["producer"], "dead")
        daemon = self.start("moetraced", "--output", "out.jsonl", "--publish", "none", "--once")
        daemon.communicate(timeout=60)
        self.assertEqual(daemon.returncode, 0)
        self.assertEqual(
            watch.communicate(timeout=60)[1], "moetrace: top: the last trace has ended\n"
        )
        self.assertEqual(watch.returncode, 0)

    def test_status_shows_no_endpoint_of_a_collector_that_is_gone(self):
        daemon = self.publishing_collector()
        replay, _ = self.live_replay()
        endpoint = f"ipc://{self.dir}/moetrace/live.pub"
        self.assertEqual(self.endpoints(), [endpoint])
        self.assertIn(f"\n  endpoint   {endpoint}\n", self.moetrace("status"))
        daemon.kill()
        daemon.wait()
        self.assertTrue(os.path.exists(self.path("moetrace/live.endpoint")))
        self.assertEqual(self.endpoints(), [])
        self.assertIn("\n  endpoint   none, no collector runs\n", self.moetrace("status"))
        # The next collector does not publish.
        second = self.silent_collector()
        self.assertEqual(self.endpoints(), [])
        self.assertIn("\n  endpoint   none\n", self.moetrace("status"))
        self.assertFalse(os.path.exists(self.path("moetrace/live.endpoint")))
        second.kill()
        replay.kill()

    def test_status_shows_no_tcp_endpoint_of_a_collector_that_is_gone(self):
        """A port does not show its owner, so the list counts only while its collector lives."""
        listed = self.path("moetrace/live.endpoint")
        daemon = self.publishing_collector("--publish", "tcp://127.0.0.1:*")
        self.live_replay()
        with open(listed, encoding="utf-8") as file:
            text = file.read()
        self.assertEqual(self.endpoints(), text.splitlines())
        daemon.kill()
        daemon.wait()
        self.assertEqual(self.endpoints(), [])
        self.silent_collector()
        with open(listed, "w", encoding="utf-8") as file:  # like a killed collector's
            file.write(text)
        self.assertEqual(self.endpoints(), [])
        self.moetrace("tail", code=69)
        self.one_line_error()


if __name__ == "__main__":
    cli_case.main()
