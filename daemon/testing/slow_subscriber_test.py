"""A subscriber that stops reading does not slow the collector, and knows what it missed.

The file is complete."""

import json
import unittest

import zmq
from harness import TIMEOUT_S, Case, Collector, Replay, make_steps, meta_line, routes_in, wait_until


class SlowSubscriber(Case):
    def read(self):
        if self.socket.poll(TIMEOUT_S * 1000) == 0:
            raise AssertionError("no message came")
        topic, header, payload = self.socket.recv_multipart()
        return topic, json.loads(header), payload

    def test_stops_reading_and_counts_what_it_missed(self):
        endpoint = f"ipc://{self.folder}/pub"
        collector = Collector(self, "--output-dir", self.traces, publish=endpoint)
        replay = Replay(self)
        replay.feed(meta_line([0, 1, 2, 5]))
        [path] = wait_until(self.trace_files, "no trace file")

        context = zmq.Context()
        self.addCleanup(context.destroy, 0)
        self.socket = context.socket(zmq.SUB)
        self.socket.setsockopt(zmq.RCVHWM, 1)
        self.socket.setsockopt(zmq.RCVBUF, 4096)
        for topic in (b"route", b"meta"):
            self.socket.setsockopt(zmq.SUBSCRIBE, topic)
        self.socket.connect(endpoint)
        topic, header, _ = self.read()
        self.assertEqual((topic, header["delivered"]), (b"meta", 0))

        # The subscriber reads nothing meanwhile: far more messages than the queues hold.
        steps = make_steps(11, 1 << 40)
        fed = 0
        while fed < 600_000:
            step = next(steps)
            replay.feed(step)
            fed += step.count("\n")
        wait_until(lambda: routes_in(path) >= fed - 5_000, "the collector waits for its subscriber")

        # Now it reads again: the queued messages, then new ones. The end tells it the rest.
        got, seqs, missed_by_number, numbers = 0, set(), 0, {b"meta": header["message"] + 1}
        ended = False
        while True:
            # While its queue counts as full, the collector drops new messages for it, even the
            # end of the trace.
            while not ended and self.socket.poll(100) == 0:
                replay.feed(next(steps))
            topic, header, payload = self.read()
            if not ended and header["delivered"] > fed:
                self.assertEqual(replay.wait(), 0, replay.stderr())
                ended = True
            missed_by_number += header["message"] - numbers.get(topic, 0)
            numbers[topic] = header["message"] + 1
            lines = [json.loads(line) for line in payload.splitlines()]
            if topic == b"route":
                got += len(lines)
                seqs.update(line["seq"] for line in lines)
                self.assertEqual(header["count"], len(lines))
            elif lines[-1]["type"] == "end":
                break
        self.wait_drained()
        self.assertEqual(collector.stop(), 0, collector.stderr())

        done = self.check(path)
        self.assertEqual((done.dropped, done.torn), (0, 0))
        self.assertEqual(got, len(seqs), "a row came twice")
        self.assertGreater(missed_by_number, 0, "nothing was missed: the test tests nothing")
        # Its numbers, from the headers alone, against the file.
        self.assertEqual(header["delivered"], done.delivered)
        not_seen = sum(
            json.loads(line)["seq"] not in seqs
            for line in path.read_bytes().splitlines()
            if line.startswith(b'{"type":"route"')
        )
        self.assertEqual(header["delivered"] - got, not_seen)


if __name__ == "__main__":
    unittest.main(verbosity=2)
