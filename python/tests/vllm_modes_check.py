"""Modes and layers of vLLM, made up here: which are refused, which are recorded at once.

They have only what the adapter looks at. vllm_check.py runs this.
"""

import types
import unittest

import torch


class VllmModes(unittest.TestCase):
    def test_modes_that_lose_rows(self):
        """Each mode is refused for one reason. The configurations and models here have only what
        the refusal looks at."""
        from moetrace.vllm._refusals import refusal

        def why(config=(), parallel=(), module=(), beside=(), layer=(), **model):
            network = torch.nn.Sequential(torch.nn.Sequential(torch.nn.Module()), torch.nn.Module())
            (
                bound(network, **model),
                bound(network[0], **dict(module)),
                bound(network[1], **dict(beside)),
            )
            space = types.SimpleNamespace
            return refusal(
                space(parallel_config=space(**dict(parallel)), cache_config=space(**dict(config))),
                network,
                [space(module=bound(network[0][0], **dict(layer)))],
            )

        def bound(module, **more):
            for name, value in more.items():
                setattr(module, name, value)
            return module

        self.assertIsNone(why())
        self.assertIsNone(
            why(
                module={"use_sequence_parallel": False, "bf16_decode": None},
                decoder_replay_layers=None,
            )
        )
        reasons = [
            why(parallel={"use_ubatching": True}),
            why(parallel={"prefill_context_parallel_size": 2}),
            why(layer={"moe_config": types.SimpleNamespace(is_sequence_parallel=True)}),
            why(layer={"do_naive_dispatch_combine": True}),
            why({"kv_sharing_fast_prefill": True}),
            why(decoder_replay_layers=object()),
            why(module={"specialized_decode_config": object()}),
        ]
        self.assertEqual(
            len({reason for reason in reasons if reason and "\n" not in reason}),
            len(reasons),
            reasons,
        )
        self.assertEqual(why(module={"use_sequence_parallel": True}), reasons[2])
        self.assertIsNone(why(beside={"use_sequence_parallel": True}), "a module without experts")
        self.assertEqual(why(module={"bf16_decode": object()}), reasons[-1])
        self.assertEqual(why(module={"nvfp4_input_global_scale": torch.ones(1)}), reasons[-1])

    def test_what_is_overwritten_is_recorded_at_once(self):
        """Substituted experts' ids overwrite the router's, which must be read before."""
        from moetrace.vllm import _layers

        class Runner(torch.nn.Module):
            is_monolithic, layer_name = False, "model.layers.3.mlp.experts"

            def _apply_quant_method(self):
                pass

        def found(**more):
            network = torch.nn.Sequential(Runner())
            network[0].router = types.SimpleNamespace(_compute_routing=None, top_k=2)
            for name, value in more.items():
                setattr(network[0], name, value)
            return _layers.find(network, False)

        (layer,), missed = found(routed_experts=types.SimpleNamespace())
        self.assertEqual((layer.number, layer.keeps, missed), (3, True, {}))
        (layer,), _ = found(routed_experts=types.SimpleNamespace(expert_substitution=None))
        self.assertFalse(layer.keeps)
        RoutingSimulatorRouter = type("RoutingSimulatorRouter", (), {"_compute_routing": None})
        self.assertEqual(list(found(is_monolithic=True, router=RoutingSimulatorRouter())[1]), [3])
