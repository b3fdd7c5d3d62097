"""What the adapters say of each layer: of the smallest objects that have what they look at."""

import types
import unittest

import moetrace
from moetrace.sglang._process_tracer import _layer_info
from moetrace.vllm import _routers as vllm_routers


def of_class(name, **attributes):
    """An object of a class with this name."""
    made = type(name, (), {})()
    vars(made).update(attributes)
    return made


class VllmRouters(unittest.TestCase):
    """vllm._routers: what each kind of router says, and nothing that it does not say."""

    NOTHING = types.SimpleNamespace()

    def test_a_plain_router(self):
        router = of_class(
            "FusedTopKRouter",
            top_k=8,
            global_num_experts=128,
            renormalize=True,
            scoring_func="softmax",
        )
        plain = moetrace.LayerInfo(
            experts=128,
            zero_experts=0,
            top_k=8,
            score="softmax",
            renormalized=True,
            scaling=1.0,
            biased=False,
            groups=1,
            topk_groups=1,
            table=False,
        )
        self.assertEqual(vllm_routers.describe(self.NOTHING, router, False), plain)
        # With the load balancer the number includes copies.
        self.assertIsNone(vllm_routers.describe(self.NOTHING, router, True).experts)
        module = types.SimpleNamespace(moe_config=types.SimpleNamespace(num_logical_experts=120))
        self.assertEqual(vllm_routers.describe(module, router, True).experts, 120)

    def test_a_grouped_router(self):
        router = of_class(
            "GroupedTopKRouter",
            top_k=8,
            global_num_experts=256,
            renormalize=True,
            scoring_func="sigmoid",
            num_expert_group=8,
            topk_group=4,
            routed_scaling_factor=2.5,
            e_score_correction_bias=object(),
        )
        info = vllm_routers.describe(self.NOTHING, router, False)
        self.assertEqual(
            (info.score, info.scaling, info.biased, info.groups, info.topk_groups, info.table),
            ("sigmoid", 2.5, True, 8, 4, None),
        )

    def test_a_router_with_a_function_of_its_own(self):
        router = of_class(
            "CPURouter",
            top_k=1,
            global_num_experts=16,
            scoring_func="softmax",
            custom_routing_function=object(),
        )
        info = vllm_routers.describe(self.NOTHING, router, False)
        self.assertEqual((info.experts, info.top_k), (16, 1))
        self.assertEqual(
            (info.score, info.renormalized, info.scaling, info.biased, info.groups, info.table),
            (None,) * 6,
        )

    def test_a_table_of_token_ids(self):
        router = of_class(
            "FusedTopKBiasRouter",
            top_k=6,
            global_num_experts=384,
            scoring_func="sqrtsoftplus",
            e_score_correction_bias=None,
            hash_indices_table=object(),
        )
        info = vllm_routers.describe(self.NOTHING, router, False)
        self.assertEqual((info.table, info.score, info.biased), (True, None, False))
        router.hash_indices_table = None
        info = vllm_routers.describe(self.NOTHING, router, False)
        self.assertEqual((info.table, info.score), (False, "sqrtsoftplus"))

    def test_zero_experts(self):
        router = of_class(
            "ZeroExpertRouter",
            top_k=12,
            global_num_experts=768,
            num_logical_experts=512,
            zero_expert_type="identity",
        )
        info = vllm_routers.describe(self.NOTHING, router, False)
        self.assertEqual((info.experts, info.zero_experts), (512, None))

    def test_an_unknown_router(self):
        info = vllm_routers.describe(self.NOTHING, of_class("Later"), False)
        self.assertEqual(info, moetrace.LayerInfo(zero_experts=0))


class SglangLayers(unittest.TestCase):
    def test_a_grouped_layer_and_a_plain_one(self):
        config = types.SimpleNamespace(
            top_k=9,
            num_shared_topk_slots=1,
            scoring_func="sigmoid",
            renormalize=True,
            apply_routed_scaling_factor_on_output=True,
            routed_scaling_factor=2.5,
            use_grouped_topk=True,
            num_expert_group=8,
            topk_group=4,
            correction_bias=object(),
        )
        grouped = moetrace.LayerInfo(256, None, 8, "sigmoid", True, 2.5, True, 8, 4, False)
        self.assertEqual(_layer_info(config, 256), grouped)
        vars(config).update(
            use_grouped_topk=False, correction_bias=None, routed_scaling_factor=None
        )
        plain = moetrace.LayerInfo(None, None, 8, "sigmoid", True, 1.0, False, 1, 1, False)
        self.assertEqual(_layer_info(config, None), plain)


if __name__ == "__main__":
    unittest.main(verbosity=2)
