"""The adapters' parts that need neither torch nor an engine.

The models, batches and runners here are the smallest objects that have what an adapter looks at.
The rings are real.
"""

import multiprocessing
import pathlib
import tempfile
import types
import unittest
import unittest.mock

import moetrace
from moetrace.recording import _adapter
from moetrace.sglang import _batches
from moetrace.sglang._process_tracer import ProcessTracer, _layer_info
from moetrace.vllm import _layers
from moetrace.vllm import _routers as vllm_routers


class Config(types.SimpleNamespace):
    model_type = "small"


class ConfigLookup(unittest.TestCase):
    def test_names_that_models_use(self):
        for name in ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"):
            self.assertEqual(_adapter.num_experts_of(Config(**{name: 60}), "try"), 60)
        for name in ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k", "top_k"):
            self.assertEqual(_adapter.top_k_of(Config(**{name: 4}), "try"), 4)

    def test_one_number_a_layer(self):
        self.assertEqual(_adapter.num_experts_of(Config(num_experts=[0, 16, 64]), "try"), 64)

    def test_the_top_k_of_sampling_is_another(self):
        with self.assertRaisesRegex(
            moetrace.TracingError, r"^top-k of small is unknown: [^\n]*; give trace\(\) top_k$"
        ):
            _adapter.top_k_of(Config(top_k=50), "give trace() top_k")
        self.assertEqual(_adapter.top_k_of(Config(top_k=50, num_experts_per_tok=8), "try"), 8)

    def test_none_of_the_names(self):
        for config in (Config(), Config(num_experts=None), Config(num_experts=True)):
            with self.assertRaisesRegex(moetrace.TracingError, "^the number of experts of small"):
                _adapter.num_experts_of(config, "try")

    def test_numbers_by_layer(self):
        for given, expected in (
            ({"num_experts": 8}, [8, 8, 8]),
            ({"num_experts": [0, 16, 64]}, [None, 16, 64]),
            ({"num_experts": [16, 64]}, [None] * 3),  # of other layers
            ({}, [None] * 3),
        ):
            self.assertEqual(_adapter.experts_by_layer(Config(**given), 3), expected)
        self.assertEqual(_adapter.top_k_by_layer(Config(moe_topk=[1, 2, 8]), 3), [1, 2, 8])
        self.assertEqual(_adapter.top_k_by_layer(Config(top_k=50), 3), [None] * 3)

    def test_the_most_of_layers_that_differ(self):
        def config():
            raise moetrace.TracingError("it does not say")

        self.assertEqual(_adapter.most_of([2, 8, 4], config), 8)
        self.assertEqual(_adapter.most_of([2, None, 4], lambda: 3), 4)
        self.assertEqual(_adapter.most_of([2, None, 4], lambda: 6), 6)
        with self.assertRaisesRegex(moetrace.TracingError, "it does not say"):
            _adapter.most_of([2, None], config)

    def test_engine_id(self):
        with unittest.mock.patch.dict("os.environ", {"MOETRACE_ENGINE_ID": ""}):
            self.assertEqual(_adapter.given_engine_id("7f3a1"), "7f3a1")
            self.assertIsNone(_adapter.given_engine_id(""))
            self.assertIsNone(_adapter.given_engine_id(None))
        with unittest.mock.patch.dict("os.environ", {"MOETRACE_ENGINE_ID": "mine"}):
            self.assertIsNone(_adapter.given_engine_id("7f3a1"), "the library takes the user's")


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


class Buffers(unittest.TestCase):
    def shared(self, *passes, keeps=True):
        """Whether layers 3 and 5 are taken to share a buffer, by pass and layer."""
        layers = [_layers.Layer(n, None, None, None, None, keeps) for n in (3, 5)]
        buffers = _layers.Buffers(layers)
        return [[buffers.shared(n, at) for n, at in zip((3, 5), at_layer)] for at_layer in passes]

    def test_the_addresses_of_the_last_pass_come_again(self):
        self.assertEqual(self.shared((1, 2), (1, 2), (2, 1)), [[False] * 2] * 3)

    def test_one_address_in_a_pass(self):
        self.assertEqual(self.shared((1, 1), (1, 2)), [[False, True], [True, True]])

    def test_tensors_that_do_not_last(self):
        self.assertEqual(self.shared((1, 2), keeps=False), [[True, True]])


class Lines(unittest.TestCase):
    def test_a_line_is_said_once(self):
        say = _adapter.SayOnce()
        with self.assertLogs("moetrace") as logs:
            for line in ("one", "one", "two", "one"):
                say(line)
        self.assertEqual(
            [record.getMessage() for record in logs.records], ["moetrace: one", "moetrace: two"]
        )

    def test_an_error_is_one_line(self):
        self.assertEqual(_adapter.in_one_line(moetrace.TracingError("two\n lines")), "two lines")
        self.assertEqual(_adapter.in_one_line(KeyError("a")), "KeyError('a')")


class AtExit(unittest.TestCase):
    def test_a_child_of_multiprocessing_calls_it(self):
        """Engines run their models in such processes, where handlers of atexit do not run."""
        with tempfile.NamedTemporaryFile() as file:

            def work():
                _adapter.call_at_exit(lambda: pathlib.Path(file.name).write_text("closed"))

            child = multiprocessing.get_context("fork").Process(target=work)
            child.start()
            child.join()
            self.assertEqual((child.exitcode, file.read()), (0, b"closed"))


class Spans(unittest.TestCase):
    def test_rows_follow_one_another(self):
        rows, spans = _adapter.pack_spans(["a", "b", "c"], [5, 7, 0], [2, 0, 3])
        self.assertEqual((rows, spans), (5, [("a", 5, 0, 2), ("c", 0, 2, 3)]))
        self.assertEqual(_adapter.pack_spans([], [], []), (0, []))


class Experts:
    """Experts as transformers has them, with one parameter."""

    def forward(self, hidden_states, top_k_index, top_k_weights):
        """Only its parameters' names are looked at."""

    def parameters(self):
        yield types.SimpleNamespace(device=types.SimpleNamespace(type="cpu", index=None))


class Model:
    def __init__(self, *layers, **config):
        """layers: what the experts of each layer say of themselves."""
        self.config, self.layers = Config(**config), layers or ({},)

    def named_modules(self):
        for layer, said in enumerate(self.layers):
            experts = Experts()
            vars(experts).update(said)
            yield f"model.layers.{layer}.mlp.experts", experts

    def forward(self, input_ids=None, attention_mask=None):
        """Only its parameters' names are looked at."""


class WithRings(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="moetrace-test.", dir="/dev/shm")
        self.addCleanup(folder.cleanup)
        self.rings = pathlib.Path(folder.name)

    def rings_left(self):
        return sorted(path.name for path in self.rings.iterdir())


class Trace(WithRings):
    """moetrace.trace: what is given wins over what the configuration says or does not say."""

    WHOLE = dict(num_hidden_layers=2, num_experts=8, num_experts_per_tok=2)

    def trace(self, model, **options):
        return moetrace.trace(model, directory=str(self.rings), ring_mb=0.0625, **options)

    def test_options_for_what_the_configuration_lacks(self):
        for option, given in (("num_layers", 4), ("num_experts", 16), ("top_k", 3)):
            name = {"num_layers": "num_hidden_layers", "top_k": "num_experts_per_tok"}
            config = {**self.WHOLE}
            del config[name.get(option, option)]
            with self.subTest(option):
                with self.assertRaisesRegex(
                    moetrace.TracingError, rf"^[^\n]+ of small is unknown: [^\n]+{option}$"
                ):
                    self.trace(Model(**config))
                trace = self.trace(Model(**config), **{option: given})
                self.assertEqual(trace._options[option], given)

    def test_layers_that_differ(self):
        """By their modules, which know best, else by lists in the configuration."""
        whole = dict(num_hidden_layers=3, num_experts=[8, 16, 16], moe_topk=[1, 2, 4])
        model = Model({}, {"num_experts": 12, "top_k": 3}, {}, **whole)
        options = self.trace(model)._options
        self.assertEqual(
            {layer: (i.experts, i.top_k) for layer, i in options["layer_table"].items()},
            {0: (8, 1), 1: (12, 3), 2: (16, 4)},
        )
        self.assertEqual((options["num_experts"], options["top_k"]), (16, 4))
        producer = moetrace.Producer(**options)
        self.addCleanup(producer.close)
        import numpy

        producer.step(1)
        for layer, top_k in enumerate((1, 3, 4)):
            producer.record(layer, numpy.zeros((1, top_k), "int64"))
        self.assertEqual(producer.totals, (1, 3, 3, 0))

    def test_a_family_that_is_known(self):
        config = dict(
            self.WHOLE,
            model_type="deepseek_v3",
            norm_topk_prob=True,
            routed_scaling_factor=2.5,
            n_group=4,
            topk_group=2,
        )
        info = self.trace(Model(**config))._options["layer_table"][0]
        self.assertEqual(info, moetrace.LayerInfo(8, 0, 2, "sigmoid", True, 2.5, True, 4, 2, False))
        unknown = self.trace(Model(**self.WHOLE))._options["layer_table"][0]
        self.assertEqual(unknown, moetrace.LayerInfo(experts=8, top_k=2))

    def test_options_win(self):
        trace = self.trace(Model(**self.WHOLE), top_k=1, model_id="mine", moe_layers=[0, 1])
        self.assertEqual(
            [trace._options[name] for name in ("top_k", "model_id", "moe_layers", "num_experts")],
            [1, "mine", [0, 1], 8],
        )

    def test_a_block_that_can_not_be_entered_leaves_no_open_ring(self):
        trace = self.trace(Model(**self.WHOLE))
        with self.assertRaises((ImportError, AttributeError)):  # no torch; the model has no hooks
            trace.__enter__()
        self.assertEqual(trace._producer.totals.attempted, 0)
        self.assertIsNone(trace._producer._pointer, "the ring is still open")

    def test_a_pass_that_can_not_be_told_does_not_reach_the_model(self):
        trace = self.trace(Model(**self.WHOLE))
        trace._producer = moetrace.Producer(**trace._options)
        self.addCleanup(trace._producer.close)
        with self.assertLogs("moetrace") as logs:
            trace._before(trace._model, (), {})
            trace._before(trace._model, (), {"input_ids": "no tensor"})
        self.assertEqual(
            [
                record.getMessage().partition(": a pass is not recorded: ")[2]
                for record in logs.records
            ],
            [
                "it has neither input_ids nor inputs_embeds",
                "AttributeError(\"'str' object has no attribute 'shape'\")",
            ],
        )
        self.assertEqual(trace._producer.totals.steps, 0)


class Column(list):
    """What a tensor on the host is asked for."""

    def tolist(self):
        return list(self)


def batch(mode, requests, rows, **more):
    return types.SimpleNamespace(
        moetrace_requests=requests,
        forward_mode=types.SimpleNamespace(name=mode),
        positions=types.SimpleNamespace(shape=(rows,)),
        **more,
    )


class SglangBatches(unittest.TestCase):
    def test_decode(self):
        decode = batch("DECODE", ["a", "b"], 2, seq_lens_cpu=Column([8, 3]))
        self.assertEqual(_batches.layout_of(decode), ([7, 2], [1, 1]))

    def test_extend(self):
        lengths = dict(extend_prefix_lens_cpu=[4, 0], extend_seq_lens_cpu=[2, 5])
        self.assertEqual(
            _batches.layout_of(batch("EXTEND", ["a", "b"], 7, **lengths)), ([4, 0], [2, 5])
        )
        with self.assertRaisesRegex(
            ValueError, "^it has 8 rows, but its 2 requests have 7 together"
        ):
            _batches.layout_of(batch("EXTEND", ["a", "b"], 8, **lengths))

    def test_no_requests(self):
        self.assertEqual(_batches.layout_of(types.SimpleNamespace()), ([], []))

    def test_another_mode(self):
        with self.assertRaisesRegex(ValueError, "^its mode TARGET_VERIFY does not say"):
            _batches.layout_of(batch("TARGET_VERIFY", ["a"], 1))


class Runner:
    """A model runner of SGLang's: `forward` as the engine's."""

    is_draft_worker = False

    def init_cuda_graphs(self):
        pass

    def forward(self, forward_batch):
        if forward_batch.fails:
            raise MemoryError("the engine's own")
        return "logits"


class SglangRunner(WithRings):
    def setUp(self):
        super().setUp()
        self.tracer = ProcessTracer()
        self.runner = type("ModelRunner", (Runner,), {})
        self.tracer.patch_runner(types.SimpleNamespace(ModelRunner=self.runner))
        self.producer = self.tracer._producer = moetrace.Producer(
            num_layers=1, num_experts=4, top_k=2, directory=str(self.rings), ring_mb=0.0625
        )
        self.addCleanup(self.producer.close)

    def forward(self, **batch_options):
        request = types.SimpleNamespace(rid="a", origin_input_ids=[1, 2, 3])
        options = {"seq_lens_cpu": Column([3]), "fails": False, **batch_options}
        return self.runner().forward(batch("DECODE", [request], 1, **options))

    def test_a_pass_is_announced(self):
        self.assertEqual(self.forward(), "logits")
        self.assertEqual(self.producer.totals[:2], (1, 1))

    def test_the_engines_error_is_the_engines_after_recording_has_stopped(self):
        """A request without a prompt stops the recording. The pass then fails by itself."""
        with self.assertLogs("moetrace", "ERROR") as logs, self.assertRaises(MemoryError):
            self.runner().forward(
                batch(
                    "DECODE",
                    [types.SimpleNamespace(rid="a")],
                    1,
                    seq_lens_cpu=Column([3]),
                    fails=True,
                )
            )
        self.assertEqual(len(logs.records), 1)
        self.assertRegex(
            logs.records[0].getMessage(), "^moetrace: recording has stopped: AttributeError"
        )
        self.assertEqual(self.forward(), "logits")
        self.assertEqual(self.producer.totals.steps, 0)

    def test_a_pass_that_fails_is_withdrawn(self):
        with self.assertRaises(MemoryError):
            self.forward(fails=True)
        self.producer.record(0, numpy_ids())  # a later pass, which was not announced
        self.assertEqual(self.producer.totals, (1, 1, 0, 0))


def numpy_ids():
    import numpy

    return numpy.zeros((1, 2), "int64")


if __name__ == "__main__":
    unittest.main(verbosity=2)
