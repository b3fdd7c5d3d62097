"""What the passes of one model runner announce: requests that come and go, and which rows are whose."""
from __future__ import annotations

import collections
import struct
import time
from typing import Any, NamedTuple, Optional

import numpy as np

from .._library import UNKNOWN_TOKENS
from ..errors import TracingError
from ..producer import Producer

_PASSES_KEPT = 4  # a request that ends was in one of the last passes, unless it was preempted
_TELL_NS = 100_000_000  # while passes run, the ends of requests are told together, with the first pass after so long


class _Live(NamedTuple):
    number: bytes  # uint64
    name: str
    prompt_tokens: Optional[int]
    max_tokens: Optional[int]  # a request that reaches it has ended by its length; None: it generates nothing


class Steps:
    """Caches are cold here, so what counts is how much code a pass takes, and how often it comes back to it: the first end of a
    request takes 25 us, the next one 2."""

    def __init__(self, producer: Producer, *, speculative: bool, asynchronous: bool):
        """speculative: a pass may feed tokens that are not kept. asynchronous: the next pass is enqueued before they are known."""
        self._producer = producer
        self._speculative, self._asynchronous = speculative, asynchronous
        self.positions_known = not (speculative and asynchronous)
        self._live: dict[str, _Live] = {}
        self._numbers: dict[str, bytes] = {}  # of the live requests
        self._names: set[str] = set()
        self._come: list[Any] = []  # requests not told of yet
        self._gone: list[tuple[list[str], tuple]] = []  # whose ends have not been told yet, each with the passes before
        self._told_ns = 0  # when the last ends were
        self._followed_ns = 0  # time spent in follow() since the last announcement
        self._ids: list[str] = []  # the last pass's requests
        self._requests = b""  # their numbers
        self._passes: collections.deque = collections.deque(maxlen=_PASSES_KEPT)  # (requests, starts, firsts) of each

    def follow(self, schedule: Any) -> None:
        """The scheduler's output, before the pass, if there is one: requests come and go."""
        come, gone = schedule.scheduled_new_reqs, schedule.finished_req_ids
        if not come and not gone:
            return
        began_ns = time.monotonic_ns()
        if self._come:  # the pass before was none that is announced
            self._tell_begins()
            self._tell_ends()
        # Others have gone before they came, and may come again.
        ended = [id for id in gone if id in self._live]
        if ended:
            self._gone.append((ended, tuple(self._passes)))
        self._come += come
        if schedule.total_num_scheduled_tokens == 0:
            self._tell_begins()
            self._tell_ends()
            self._producer.add_cost(announce_ns=time.monotonic_ns() - began_ns)
        else:
            self._followed_ns += time.monotonic_ns() - began_ns

    def announce(self, ids: list[str], starts: Any, firsts: Any) -> None:
        """The pass that is enqueued next. ids: its requests, in the order of their rows; starts [n + 1]: the first row of each,
        and behind the last; firsts [n]: the position of each one's first token. TracingError: the GPU's hook has failed."""
        began_ns = time.monotonic_ns() - self._followed_ns
        self._followed_ns = 0
        if self._come:
            self._tell_begins()
        if self._gone and began_ns - self._told_ns >= _TELL_NS:
            self._tell_ends()
            self._told_ns = began_ns
        if ids != self._ids:
            self._ids, self._requests = list(ids), b"".join(map(self._numbers.__getitem__, ids))
        count = len(ids)
        row_bytes, position_bytes = starts.tobytes(), firsts.tobytes()
        if len(row_bytes) + len(position_bytes) != 8 * count + 4:
            row_bytes, position_bytes = _int32_bytes(starts, count + 1), _int32_bytes(firsts, count)
        self._passes.append((self._requests, row_bytes, position_bytes))
        recorded = self._producer.step_columns(count, self._requests if self.positions_known else None, row_bytes, position_bytes,
                                               began_ns)
        if not recorded and self._producer.failure:
            raise TracingError(self._producer.failure)

    def close(self) -> None:
        """Ends all requests."""
        self._tell_begins()
        self._tell_ends()
        for id in list(self._live):
            self._end(id, tuple(self._passes))

    def _tell_begins(self) -> None:
        for new in self._come:
            if self._gone and (new.req_id in self._live or self._name(new.req_id) in self._names):
                self._tell_ends()  # or it would be taken for one that has gone
            live = self._live.get(new.req_id)
            if live is None:
                self._begin(new)
            elif _prompt_tokens(new) != live.prompt_tokens:  # a session that goes on with more from its client
                self._live[new.req_id] = live._replace(prompt_tokens=None)
            # else it was preempted, and comes again
        self._come.clear()

    def _tell_ends(self) -> None:
        for ids, passes in self._gone:
            for id in ids:
                self._end(id, passes)
        self._gone.clear()

    def _name(self, id: str) -> str:
        """Without what vLLM puts behind the client's request id, to make it unique."""
        return id[:-9] if id[-9:-8] == "-" and not id[-8:].strip("0123456789abcdef") else id

    def _begin(self, new: Any) -> None:
        id = new.req_id
        name = self._name(id)
        if name in self._names:
            name = id
        self._names.add(name)
        self._ids = []  # a name that comes again is another request
        tokens = _prompt_tokens(new)
        number = self._producer.begin_number(name, UNKNOWN_TOKENS if tokens is None else tokens,
                                             int(new.num_computed_tokens)).to_bytes(8, "little")
        self._numbers[id] = number
        self._live[id] = _Live(number, name, tokens, getattr(new.sampling_params, "max_tokens", None))

    def _end(self, id: str, passes: tuple) -> None:
        live = self._live.pop(id, None)
        if live is None:
            return
        self._names.discard(live.name)
        del self._numbers[id]
        generated = self._generated(live, passes)
        by_length = generated is not None and generated >= live.max_tokens
        if generated is None or self._asynchronous and not by_length:
            generated = UNKNOWN_TOKENS  # or one pass more may have run than tokens were kept
        self._producer.end_number(int.from_bytes(live.number, "little"), generated, b"length" if by_length else b"finished")

    def _generated(self, live: _Live, passes: tuple) -> Optional[int]:
        """Tokens sampled: every position behind the prompt's last has been fed one that was sampled, and the last of all gave
        one more."""
        if self._speculative or live.prompt_tokens is None or live.max_tokens is None:
            return None
        for requests, starts, firsts in reversed(passes):
            place = requests.find(live.number)
            while place > 0 and place % 8 > 0:  # bytes of two others
                place = requests.find(live.number, place + 1)
            if place >= 0:
                row, end = struct.unpack_from("2i", starts, place // 2)
                first, = struct.unpack_from("i", firsts, place // 2)
                return max(0, first + end - row - live.prompt_tokens + 1)
        return None


def _prompt_tokens(new: Any) -> Optional[int]:
    prompt = new.prompt_token_ids
    if prompt is None:
        prompt = getattr(new, "prompt_embeds", None)
    return None if prompt is None else len(prompt)


def _int32_bytes(column: Any, count: int) -> bytes:
    """Those of a numpy array [count] of another type: vLLM's are int32. ValueError if it has another length."""
    return column.astype(np.int32).reshape(count).tobytes()
