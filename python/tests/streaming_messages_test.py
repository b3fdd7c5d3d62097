"""moetrace.stream with a publisher of our own: a malformed message gets one line, and every missing
row is counted.

MOETRACE_LIBRARY, MOETRACE_READER_LIBRARY, MOETRACED and MOETRACE_CLI name the libraries and the
programs; the package is on PYTHONPATH.
"""

import json
import unittest

import moetrace
import zmq
from reading_case import META as TRACE_META
from streaming_case import Case

META = json.dumps({**TRACE_META, "layers_logged": [0]}, separators=(",", ":")).encode() + b"\n"
ROUTE = (
    b'{"type":"route","req_id":"r0","token_idx":%d,"layer":1,"topk_ids":[3,0],"topk_weights":[0.5,0.25],"request":0,"step":0,'
    b'"seq":0}\n'
)
END = (
    b'{"type":"end","attempted":5,"delivered":5,"filtered":0,"dropped":0,"torn":0,'
    b'"status":"closed"}\n'
)


class Hostile(Case):
    """A publisher of our own."""

    def setUp(self):
        super().setUp()
        context = zmq.Context()
        self.socket = context.socket(zmq.XPUB)
        self.addCleanup(context.destroy, 0)
        self.socket.setsockopt(zmq.XPUB_VERBOSE, 1)
        self.socket.bind(self.endpoint)
        self.open = self.stream(timeout=5)
        for _ in range(3):
            self.socket.recv()
        self.sent = {}

    @staticmethod
    def header(**more):
        return {
            "trace_id": "t",
            "generation": 1,
            "message": 0,
            "first_seq": None,
            "count": 1,
            "attempted": 0,
            "delivered": 0,
            "filtered": 0,
            "dropped": 0,
            "torn": 0,
            **more,
        }

    def send(self, topic, payload, **more):
        header = self.header(message=self.sent.get(topic, 0), **more)
        self.sent[topic] = header["message"] + 1
        self.socket.send_multipart([topic, json.dumps(header).encode(), payload])

    def send_rows(self, delivered, count=1):
        self.send(
            b"route",
            b"".join(ROUTE % n for n in range(count)),
            count=count,
            delivered=delivered,
            attempted=delivered,
        )

    def test_messages_that_are_none(self):
        self.send(b"meta", META)
        good = json.dumps(self.header()).encode()
        route = json.dumps(self.header(count=1, delivered=1)).encode()
        for pattern, frames in (
            ("it has 2 frames", [b"route", good]),
            ("its topic is b'routes'", [b"routes", good, b"\n"]),
            ("its header: ", [b"route", b"{", b"\n"]),
            ("its header: ", [b"route", b"\xff\0", b"\n"]),
            ("its header: ", [b"route", b"[" * 100_000, b"\n"]),
            ("its header has no trace_id", [b"route", b"[]", b"\n"]),
            ("its header has no trace_id", [b"route", b'{"trace_id":5}', b"\n"]),
            (
                "delivered in its header must be an integer",
                [b"route", good.replace(b'"delivered": 0', b'"delivered": -1'), b"\n"],
            ),
            (
                "count in its header must be an integer",
                [b"route", good.replace(b'"count": 1', b'"count": 1' + b"0" * 400), b"\n"],
            ),
            (
                "count in its header must be an integer",
                [b"route", good.replace(b'"count": 1', b'"count": true'), b"\n"],
            ),
            (
                "its header counts more rows than there are",
                [b"route", good.replace(b'"count": 1', b'"count": 999999999'), b"\n"],
            ),
            ("it ends inside a line", [b"route", route, ROUTE[:-1] % 0]),
            ("it has other rows than the 1", [b"route", route, ROUTE % 0 + ROUTE % 1]),
            ("it has other rows than the 1", [b"route", route, b'{"type":"later"}\n']),
            (
                "line 1: expert id 8 is out of range",
                [b"route", route, ROUTE.replace(b"[3", b"[8") % 0],
            ),
            ("line 1: not JSON", [b"route", route, b"\0\0\0\n"]),
            (
                "line 1: not a meta line",
                [b"meta", json.dumps(self.header(trace_id="u")).encode(), b'{"type":"meta"\n'],
            ),
            ("its statistics: ", [b"stats", good, b"x\n"]),
            ("its statistics have no counts", [b"stats", good, b'{"counts":[[1],[2,3]]}\n']),
            (
                "its statistics have no counts",
                [b"stats", good, b'{"counts":[[1' + b"0" * 30 + b"]]}\n"],
            ),
            ("its statistics have no counts", [b"stats", good, b"[]\n"]),
        ):
            self.socket.send_multipart(frames)
            with self.assertRaises(moetrace.ReadError) as caught:
                list(self.open)
            self.assertRegex(
                str(caught.exception),
                f"^ipc:[^\n]+: not a message of a collector: {pattern}[^\n]*; [^\n]+$",
            )
        self.send(b"meta", META)
        self.send_rows(1000)
        self.assertEqual(len(next(self.open)), 1)  # it goes on

    def test_the_end_comes_before_the_last_rows(self):
        """A batch's other lines are published before its rows."""
        self.send(b"meta", META)
        self.send_rows(3, 3)
        self.send(b"meta", END, attempted=5, delivered=3)
        self.send_rows(5, 2)
        batches = [next(self.open) for _ in range(3)]
        self.assertEqual([len(batch) for batch in batches], [3, 2, 0])
        live = batches[0].trace
        self.assertEqual((live.rows, live.rows_missed, live.end["delivered"]), (5, 0, 5))

    def test_the_last_rows_are_lost(self):
        self.send(b"meta", META, delivered=1)
        self.send(b"meta", END, attempted=6, delivered=3, dropped=1)
        batch = next(self.open)
        self.assertEqual((len(batch), batch.trace.rows_before, batch.trace.rows_missed), (0, 1, 4))

    def test_rows_between_the_two_subscriptions(self):
        """The one to `route` begins after that to `meta`: these rows are no loss."""
        self.send(b"meta", META, delivered=50)
        self.send_rows(64, 2)
        self.send_rows(67, 1)
        live = [next(self.open) for _ in range(2)][0].trace
        self.assertEqual((live.rows_before, live.rows, live.rows_missed), (62, 3, 2))

    def test_the_first_rows_of_a_trace_are_lost(self):
        self.send(b"meta", META)
        self.send_rows(64, 2)
        live = next(self.open).trace
        self.assertEqual((live.rows_before, live.rows, live.rows_missed), (0, 2, 62))

    def test_rows_before_their_meta_line(self):
        """It asks for the line, and counts from there."""
        self.send_rows(1)
        self.open.timeout = 1.5
        self.assertEqual(list(self.open), [])
        self.send_rows(2)
        self.open.timeout = 0.2
        self.assertEqual(list(self.open), [])
        self.assertEqual(self.socket.recv(), b"\1meta")
        self.send(b"meta", META, delivered=2)
        self.send_rows(3)
        batch = next(self.open)
        self.assertEqual((len(batch), batch.trace.rows_before, batch.trace.rows_missed), (1, 2, 0))

    def test_what_was_lost_torn_and_selected(self):
        loss = (
            b'{"type":"loss","dropped":3,"dropped_total":%d,"cause":"ring_full","after_seq":null,'
            b'"event_lost_total":0}\n'
        )
        torn = b'{"type":"torn","first_seq":4,"count":2}\n'
        control = (
            b'{"type":"control","layers":[0,2],"sample_every":5,"from_step":6,"enabled":false,'
            b'"event":7}\n'
        )
        step = (
            b'{"type":"step","step":%d,"rows":1,"layers":1,"time_ns":5,"seq":0,"dropped_total":0,'
            b'"event":%d,"attempted_total":0,'
            b'"delivered_total":0,"filtered_total":0,"torn_total":0,"event_lost_total":0}\n'
        )
        self.send(b"meta", META)
        self.send(
            b"meta", step % (0, 0) + loss % 3 + torn + control + b'{"type":"later"}\n' + loss % 6
        )
        for n in range(20):
            self.send(b"meta", b"".join(step % (1 + 1000 * n + k, 2) for k in range(1000)))
        for _ in range(5):
            self.send(b"meta", b"".join(loss % k for k in range(1000)))
        self.send_rows(1)
        live = next(self.open).trace
        self.assertEqual(list(live.torn), [moetrace.TornLine(0, 4, 2)])
        self.assertEqual(list(live.controls), [moetrace.ControlLine(0, (0, 2), 5, 6, False, 7)])
        self.assertEqual(
            (len(live.losses), live.losses[-1]),
            (4096, moetrace.LossLine(0, 3, 999, "ring_full", None, 0)),
        )
        self.assertEqual(live.steps().step.tolist(), list(range(20_001 - 16_384, 20_001)))

    def test_a_new_collector_counts_from_zero(self):
        self.send(b"meta", META)
        self.send_rows(1)
        self.sent = {b"route": 2}  # its numbers 0 and 1 don't come
        self.send(b"route", ROUTE % 3, generation=2, delivered=4)
        live = [next(self.open), next(self.open)][0].trace
        self.assertEqual(
            (live.rows, live.rows_missed, live.messages_missed, live.collectors), (2, 2, 2, 2)
        )

    def test_counts_that_ran_ahead(self):
        """The counts with a repeated meta line may have rows in them that are still to be
        published."""
        self.send(b"meta", META, delivered=10)
        self.send_rows(10, 4)
        self.send_rows(12, 1)
        live = [next(self.open), next(self.open)][0].trace
        self.assertEqual((live.rows_before, live.rows, live.rows_missed), (6, 5, 1))


if __name__ == "__main__":
    unittest.main(verbosity=2)
