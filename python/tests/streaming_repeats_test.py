"""moetrace.stream with topic `rows`, where a new collector sends rows again, or begins after some
that never came: a publisher of our own repeats the messages of a real collector.

MOETRACE_LIBRARY, MOETRACE_READER_LIBRARY, MOETRACED and MOETRACE_CLI name the libraries and the
programs; the package is on PYTHONPATH.
"""

import json
import unittest

import moetrace
import zmq
from streaming_case import LAYERS, Case, harness


class Repeats(Case):
    def setUp(self):
        super().setUp()
        self.context = zmq.Context()
        self.addCleanup(self.context.destroy, 0)

    def recorded(self):
        """A trace's messages of `meta`, and of `rows`: (header, payload)."""
        self.start_collector()
        sub = self.context.socket(zmq.SUB)
        self.addCleanup(sub.close, 0)
        sub.setsockopt(zmq.RCVHWM, 0)
        for topic in (b"meta", b"rows"):
            sub.setsockopt(zmq.SUBSCRIBE, topic)
        sub.connect(self.endpoint)
        replay = harness.Replay(self)
        replay.feed(harness.meta_line(LAYERS))
        steps, messages, fed = harness.make_steps(7, 1 << 40), {b"meta": [], b"rows": []}, False
        while not fed or b'"type":"end"' not in messages[b"meta"][-1][1]:
            self.assertTrue(sub.poll(harness.TIMEOUT_S * 1000), "no message came")
            topic, header, payload = sub.recv_multipart()
            messages[topic].append((json.loads(header), payload))
            if len(messages[b"rows"]) < 20:
                replay.feed(next(steps))
            elif not fed:
                fed = True
                self.assertEqual(replay.wait(), 0, replay.stderr())
        return messages

    def publisher(self):
        """Listens at `repeated`; `self.open` is a stream of it."""
        self.repeated = f"ipc://{self.folder}/repeated"
        self.out = self.context.socket(zmq.XPUB)
        self.addCleanup(self.out.close, 0)
        self.out.setsockopt(zmq.SNDHWM, 0)
        self.out.setsockopt(zmq.XPUB_VERBOSE, 1)
        self.out.bind(self.repeated)
        self.open = self.stream(self.repeated, topic="rows")
        for _ in range(3):
            self.out.recv()

    def send(self, generation, topic, messages):
        for number, (header, payload) in enumerate(messages):
            header = {**header, "generation": generation, "message": number}
            self.out.send_multipart([topic, json.dumps(header).encode(), payload])

    def stream_of(self, first, second):
        """A first collector publishes rows messages up to `first`, a second one from `second`."""
        messages = self.recorded()
        meta, rows = messages[b"meta"], messages[b"rows"]
        self.publisher()
        self.send(1, b"meta", meta[:1])
        self.send(1, b"rows", rows[:first])
        self.send(2, b"meta", meta[:1])
        self.send(2, b"rows", rows[second:])
        self.send(2, b"meta", meta)
        batches = []
        for batch in self.open:
            if len(batch) == 0:
                break
            batches.append(batch)
        live = batches[0].trace
        file = moetrace.open(self.traces / f"{live.trace_id}.jsonl")
        self.assert_each_once(live, batches, file)
        self.assert_adds_up(live, file)
        self.assertEqual(
            (live.collectors, live.rows_before), (2, rows[0][0]["delivered"] - rows[0][0]["count"])
        )
        self.assertEqual(
            {
                number: batch.trace.req_id_of(number)
                for batch in batches
                for number in batch.request.tolist()
            },
            {request.number: request.req_id for request in file.requests()},
        )
        return live, rows

    def test_rows_that_come_again_count_once(self):
        live, rows = self.stream_of(15, 8)
        self.assertEqual((live.rows_missed, live.messages_missed), (0, 0))

    def test_rows_that_never_came_are_missed(self):
        live, rows = self.stream_of(8, 15)
        self.assertEqual(live.rows_missed, sum(header["count"] for header, _ in rows[8:15]))

    def test_messages_that_are_none(self):
        messages = self.recorded()
        self.publisher()
        self.send(1, b"meta", messages[b"meta"][:1])
        header, payload = messages[b"rows"][0]
        for pattern, changed, content in (
            ("it is not an Arrow stream", {}, b"x" * len(payload)),
            ("an Arrow message in it is cut", {}, payload[:400]),
            ("the checksum of its batch is wrong", {}, payload[:-8] + b"12345678"),
            ("its header counts more rows than there are", {"count": 1 << 40}, payload),
            ("it has [0-9]+ rows, more than its header says", {"count": 1}, payload),
            ("its header has no requests", {"requests": None}, payload),
            ("its header has no requests", {"requests": {"x": "y"}}, payload),
            ("a name of a request in its header is no text", {"requests": {"4": 5}}, payload),
        ):
            self.send(1, b"rows", [({**header, **changed}, content)])
            with self.assertRaisesRegex(
                moetrace.ReadError, f"^ipc:[^\n]+: not a message of a collector: {pattern}; [^\n]+$"
            ):
                next(self.open)
        self.send(1, b"rows", [(header, payload)])
        self.assertEqual(len(next(self.open)), header["count"])  # it goes on

    def test_a_topic_that_is_none(self):
        with self.assertRaisesRegex(ValueError, "topic is 'row'; it must be one of route, rows"):
            moetrace.stream(self.endpoint, topic="row")


if __name__ == "__main__":
    unittest.main(verbosity=2)
