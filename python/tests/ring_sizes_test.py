"""How large a ring the adapters ask for: of the smallest objects that have what they look at. The
rings are real."""

import os
import struct
import types
import unittest
import unittest.mock

import moetrace
from moetrace.sglang import _batches
from moetrace.sglang._process_tracer import ProcessTracer
from moetrace.vllm import _sizes
from ring_case import WithRings

ROUTE_SLOTS = 120  # the offset in the ring's header (shm/ABI.md)
RECORD = 64  # bytes, up to top-8


def vllm_config(most, data_parallel=1):
    """A VllmConfig: what vLLM's scheduler puts into a step, in each data-parallel rank."""
    return types.SimpleNamespace(
        scheduler_config=types.SimpleNamespace(max_num_batched_tokens=most),
        parallel_config=types.SimpleNamespace(data_parallel_size=data_parallel),
    )


class LargestStep(unittest.TestCase):
    def test_vllm(self):
        self.assertEqual(_sizes.largest_step(vllm_config(8192)), 8192)
        self.assertEqual(_sizes.largest_step(vllm_config(8192, data_parallel=8)), 8192)
        for unknown in (None, 0, -1, 8192.0):
            self.assertIsNone(_sizes.largest_step(vllm_config(unknown)))
        self.assertIsNone(_sizes.largest_step(types.SimpleNamespace(scheduler_config=object())))

    def test_sglang(self):
        for expected, given in (
            (8192, dict(chunked_prefill_size=8192, max_prefill_tokens=16384)),
            (16384, dict(chunked_prefill_size=-1, max_prefill_tokens=16384)),
            (16384, dict(chunked_prefill_size=None, max_prefill_tokens=16384)),
            (4096, dict(chunked_prefill_size=2048, max_running_requests=4096)),
            (2048, dict(chunked_prefill_size=2048, max_running_requests=None)),
            (None, dict(chunked_prefill_size=-1)),
            (None, {}),
        ):
            self.assertEqual(_batches.largest_step(types.SimpleNamespace(**given)), expected)


class RingSizes(WithRings):
    def setUp(self):
        super().setUp()
        self.enterContext(unittest.mock.patch.dict(os.environ, MOETRACE_RING_MB=""))

    def opened(self, **options):
        """The slots of a ring, and what its line says of them."""
        options = {"num_layers": 48, "num_experts": 128, "top_k": 8, "layers": "all", **options}
        with moetrace.Producer(directory=str(self.rings), **options) as producer:
            [ring] = self.rings.glob("*.ring")
            header = ring.read_bytes()[: ROUTE_SLOTS + 8]
            ring.unlink()
        [slots] = struct.unpack_from("<Q", header, ROUTE_SLOTS)
        return slots, producer.summary.split(".ring: ")[1]

    def test_room_for_four_of_the_largest_steps_in_the_recorded_layers(self):
        step = _sizes.largest_step(vllm_config(2048, data_parallel=2))
        slots, said = self.opened(largest_step=step, layers=range(0, 48, 2))
        self.assertTrue(4 * 2048 * 24 <= slots < 2 * 4 * 2048 * 24)
        self.assertEqual(
            said,
            f"{slots * RECORD >> 20} MiB for four of the largest steps: holds "
            f"{slots / (2048 * 24):.1f} steps of 2,048 tokens in 24 layers, 1.5 KiB a token",
        )
        # Of a model with dense layers, those that have experts.
        slots, said = self.opened(largest_step=step, moe_layers=range(16, 48))
        self.assertEqual(slots, 4 * 2048 * 32)
        self.assertIn("holds 4.0 steps of 2,048 tokens in 32 layers, 2 KiB a token", said)

    def test_sglangs_adapter(self):
        """Its arguments of `Producer`, from SGLang's configuration."""
        router = types.SimpleNamespace(
            top_k=8,
            num_shared_topk_slots=0,
            scoring_func="softmax",
            renormalize=True,
            apply_routed_scaling_factor_on_output=False,
            routed_scaling_factor=None,
        )
        runner = types.SimpleNamespace(
            model_config=types.SimpleNamespace(
                hf_text_config=types.SimpleNamespace(num_hidden_layers=24, num_experts=128),
                model_path="some/model",
            ),
            server_args=types.SimpleNamespace(chunked_prefill_size=4096, max_prefill_tokens=16384),
            device="cpu",
        )
        parallel = types.SimpleNamespace(tp_rank=0, tp_size=1)
        described = ProcessTracer()._describe(runner, parallel, dict.fromkeys(range(24), router))
        slots, said = self.opened(**described)
        self.assertEqual(slots, 1 << 19)  # 4 * 4,096 * 24, rounded up
        self.assertIn(" for four of the largest steps: holds 5.3 steps of 4,096 tokens in ", said)

    def test_what_goes_before_the_largest_step(self):
        os.environ["MOETRACE_RING_MB"] = "1"
        slots, said = self.opened(largest_step=2048)
        self.assertEqual(slots * RECORD, 1 << 20)
        self.assertIn("1 MiB from MOETRACE_RING_MB: holds ", said)
        slots, said = self.opened(largest_step=2048, ring_mb=0.5)
        self.assertEqual(slots * RECORD, 1 << 19)
        self.assertIn("0.5 MiB from ring_mb: holds ", said)

    def test_what_knows_no_largest_step_gets_the_default(self):
        slots, said = self.opened(num_layers=24)
        self.assertEqual(slots * RECORD, 64 << 20)
        self.assertEqual(
            said, "64 MiB by default: holds 43,690 tokens in 24 layers, 1.5 KiB a token"
        )


if __name__ == "__main__":
    unittest.main(verbosity=2)
