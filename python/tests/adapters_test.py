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
from moetrace.vllm import _layers
from ring_case import WithRings


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


if __name__ == "__main__":
    unittest.main(verbosity=2)
