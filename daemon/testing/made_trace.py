"""Makes a trace as FORMAT.md describes it, with every kind of line, and true totals.

Shares no code with the programs that write and read traces.
"""

import json
import random

TRACE_ID = "01234567-89ab-4def-8123-456789abcdef"
# As the collector writes a float32: the shortest text that reads back as it.
WEIGHTS = ["0.31", "0.12", "1e-30", "0.0966397", "1e-45", "3.4028235e+38", "0", "-0", "1", "-0.5"]
WEIGHTS += ["null", "16777216", "0.001", "1e-04", "0.33333334", "6.1035156e-05"]
# Ids of requests, as JSON text in the collector's spelling.
NAMES = ['"r0"', '"chatcmpl-1"', '"a \\"b\\" \\\\ c"', '"ü 漢"', '""', '"tab\\t"']
# (top_k, ids) of the layers 1 and 3.
LAYERS = {1: (2, 8), 3: (4, 312)}


class MadeTrace:
    """`part` above 1, or `base`: a file that does not begin with its trace. `first`: the first
    number of a request, and of a step. `lists`: the layers differ. `spaces`: as other JSON writers
    spell it."""

    def __init__(self, seed, part=1, base=False, first=0, differ=True):
        self.random = random.Random(seed)
        self.lines = []
        self.layers = LAYERS if differ else {1: (4, 60), 3: (4, 60)}
        self.meta(differ)
        self.seq = self.event = 0
        self.totals = dict.fromkeys(("attempted", "delivered", "filtered", "torn"), 0)
        self.dropped = self.event_lost = 0
        self.step_number = first
        self.next_request = first
        self.live = {}
        if part > 1 or base:
            self.begin_late(part)
        self.at_start = dict(self.totals, dropped=self.dropped)

    def put(self, text):
        self.lines.append(text)

    def meta(self, differ):
        layers = [
            f'{{"layer":{layer},"experts":{ids - 4},"zero_experts":4,"top_k":{k},"score":"sigmoid",'
            '"renormalized":true,"scaling":2.5,"biased":null,"groups":null,"topk_groups":null,'
            '"table":false}'
            for layer, (k, ids) in self.layers.items()
        ]
        most = max(ids for _, ids in self.layers.values())
        self.put(
            '{"type":"meta","model_id":"test/ü","vllm_version":null,"torch_version":null,"device":'
            f'"cpu","seed":-7,"layers_logged":[1,3],"top_k":4,"num_experts":{most},"schema":'
            f'"moetrace/1","trace_id":"{TRACE_ID}","engine":"example","engine_version":"1",'
            '"num_layers":4,"router":null,"rank":0,"world_size":1,"ranks":{"tp":0,"dp":0,"pp":0,'
            '"ep":0},"host":"box","created_at":1764302556.2499998,"sample_every":1,'
            f'"engine_id":null,"layers":{"[" + ",".join(layers) + "]" if differ else "null"},'
            '"a_later_key":{"rows":[1, 2]}}'
        )

    def all_totals(self):
        return (
            f'"dropped_total":{self.dropped},"attempted_total":{self.totals["attempted"]},'
            f'"delivered_total":{self.totals["delivered"]},'
            f'"filtered_total":{self.totals["filtered"]},"torn_total":{self.totals["torn"]},'
            f'"event_lost_total":{self.event_lost}'
        )

    def begin_late(self, part):
        self.seq, self.event, self.step_number = 920, 41, self.step_number + 17
        self.totals.update(attempted=1001, delivered=800, filtered=105, torn=20)
        self.dropped, self.event_lost = 76, 6
        kind = f'"part","part":{part}' if part > 1 else '"base"'
        self.put(f'{{"type":{kind},"seq":920,"event":41,"step":null,"open":0,{self.all_totals()}}}')
        for _ in range(2):
            self.begin_request(known=True)

    def begin_request(self, known=False):
        name = self.random.choice(NAMES)
        self.live[self.next_request] = name
        event = "null" if known else self.next_event()
        self.put(
            f'{{"type":"request","req_id":{name},"prompt_tokens":57,"cached_tokens":null,'
            f'"request":{self.next_request},"event":{event}}}'
        )
        self.next_request += 1

    def next_event(self):
        self.event += self.random.randint(1, 3)
        return self.event - 1

    def end_request(self):
        if not self.live:
            return
        number = self.random.choice(list(self.live))
        self.put(
            f'{{"type":"request_end","req_id":{self.live.pop(number)},"generated_tokens":null,'
            f'"status":"stop","request":{number},"event":{self.next_event()}}}'
        )

    def step(self):
        """A step of some rows, some of which are filtered, torn or dropped."""
        tokens = self.random.randint(1, 12)
        announced = tokens * len(self.layers)
        self.totals["attempted"] += announced
        self.put(
            f'{{"type":"step","step":{self.step_number},"rows":{tokens},'
            f'"layers":{len(self.layers)},"time_ns":{1000 * self.step_number},"seq":{self.seq},'
            f'"dropped_total":{self.dropped},"event":{self.next_event()},'
            f'"attempted_total":{self.totals["attempted"]},'
            f'"delivered_total":{self.totals["delivered"]},'
            f'"filtered_total":{self.totals["filtered"]},"torn_total":{self.totals["torn"]},'
            f'"event_lost_total":{self.event_lost}}}'
        )
        request = self.random.choice([*self.live, None])
        for layer in self.layers:
            for token in range(tokens):
                self.row(layer, request, self.step_number + token)
        self.step_number += self.random.randint(1, 2)

    def row(self, layer, request, token):
        what = self.random.random()
        if what < 0.05:
            self.seq += 1
            self.totals["filtered"] += 1
        elif what < 0.08:
            self.put(f'{{"type":"torn","first_seq":{self.seq},"count":1}}')
            self.seq += 1
            self.totals["torn"] += 1
        elif what < 0.1:
            self.put('{"type":"torn","first_seq":null,"count":1}')
            self.totals["torn"] += 1
        elif what < 0.13:
            self.lose(1, "ring_full")
        else:
            self.route(layer, request, token)

    def route(self, layer, request, token):
        top_k, experts = self.layers[layer]
        ids = [self.random.choice([self.random.randrange(experts), "null"]) for _ in range(top_k)]
        # Ids are different, as a router's are.
        ids = list(dict.fromkeys(i for i in ids if i != "null")) + ["null"] * top_k
        weights = [self.random.choice(WEIGHTS) for _ in range(top_k)]
        position = "null" if request is None else token
        number = "null" if request is None else request
        self.put(
            f'{{"type":"route","req_id":{self.live.get(request, "null")},"token_idx":{position},'
            f'"layer":{layer},"topk_ids":[{",".join(map(str, ids[:top_k]))}],'
            f'"topk_weights":[{",".join(weights)}],"request":{number},'
            f'"step":{self.step_number},"seq":{self.seq}}}'
        )
        self.seq += 1
        self.totals["delivered"] += 1

    def lose(self, count, cause):
        self.dropped += count
        if cause == "event_ring_full":
            self.event_lost += count
            self.totals["attempted"] += count
        after = self.seq - 1 if self.seq else "null"
        self.put(
            f'{{"type":"loss","dropped":{count},"dropped_total":{self.dropped},"cause":"{cause}",'
            f'"after_seq":{after},"event_lost_total":{self.event_lost}}}'
        )

    def other(self):
        self.put(
            self.random.choice(
                [
                    f'{{"type":"control","layers":[1,3],"sample_every":1,"from_step":'
                    f'{self.step_number},"enabled":true,"event":{self.next_event()}}}',
                    '{"type":"tokens","request":4,"first_position":0,"ids":[151644,8948,198],'
                    f'"event":{self.next_event()}}}',
                    '{ "type": "of a later version", "rows": {"at": [1, "}"]}, "x": null }',
                ]
            )
        )

    def run(self, steps):
        for _ in range(steps):
            what = self.random.random()
            if what < 0.4:
                self.begin_request()
            elif what < 0.5:
                self.end_request()
            elif what < 0.6:
                self.other()
            elif what < 0.65:
                self.lose(self.random.randint(1, 9), "event_ring_full")
            self.step()
        return self

    def end(self):
        """The last rows were filtered, which no later number shows."""
        self.put(
            f'{{"type":"step","step":{self.step_number},"rows":1,"layers":2,"time_ns":'
            f'{1000 * self.step_number},"seq":{self.seq},"dropped_total":{self.dropped},"event":'
            f'{self.next_event()},"attempted_total":{self.totals["attempted"] + 2},'
            f'"delivered_total":{self.totals["delivered"]},'
            f'"filtered_total":{self.totals["filtered"]},"torn_total":{self.totals["torn"]},'
            f'"event_lost_total":{self.event_lost}}}'
        )
        self.totals["attempted"] += 2
        self.totals["filtered"] += 2
        for _ in range(len(self.live)):
            self.end_request()
        here = {key: value - self.at_start[key] for key, value in self.totals.items()}
        self.put(
            f'{{"type":"end","attempted":{here["attempted"]},"delivered":{here["delivered"]},'
            f'"filtered":{here["filtered"]},"dropped":{self.dropped - self.at_start["dropped"]},'
            f'"torn":{here["torn"]},"status":"closed","cost":{{"announce_ns":1,"hook_ns":null}}}}'
        )
        return self

    def text(self):
        return "".join(line + "\n" for line in self.lines)


def parsed(text):
    """The lines of a trace; -0 stays a float."""

    def number(digits):
        return -0.0 if digits == "-0" else int(digits)

    return [json.loads(line, parse_int=number) for line in text.splitlines()]
