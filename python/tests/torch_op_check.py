"""moetrace_py::record: compiled code records what eager code records.

scripts/check-transformers runs this.
"""

import unittest

import torch
from moetrace.recording import _torch_op
from producer_case import harness, open_producer

LAYERS, EXPERTS, TOP_K, HIDDEN = 4, 16, 2, 8


class Model(torch.nn.Module):
    def __init__(self, key, read_again):
        super().__init__()
        torch.manual_seed(3)
        self.gates = torch.nn.ModuleList(
            torch.nn.Linear(HIDDEN, EXPERTS, bias=False) for _ in range(LAYERS)
        )
        self.key = key
        self.read_again = read_again  # the token is the weights, which the experts read
        self.token = _torch_op.token_on(torch.device("cpu"))

    def forward(self, hidden):
        for layer, gate in enumerate(self.gates):
            weights, ids = gate(hidden).softmax(-1).topk(TOP_K)
            torch.ops.moetrace_py.record(
                weights if self.read_again else self.token, ids, weights.detach(), layer, self.key
            )
            hidden = torch.tanh(hidden * weights.sum(-1, keepdim=True) + ids.sum(-1, keepdim=True))
        return hidden


class TorchOp(harness.Case):
    def open(self):
        return open_producer(self, num_layers=LAYERS, num_experts=EXPERTS, top_k=TOP_K)

    def setUp(self):
        super().setUp()
        self.key = _torch_op.new_key()
        self.addCleanup(_torch_op.bind, self.key, None)

    def test_compiled_as_eager(self):
        seen = []
        for read_again in (False, True):
            for grad in (False, True):
                torch.compiler.reset()
                with self.subTest(read_again=read_again, grad=grad), torch.set_grad_enabled(grad):
                    model = Model(self.key, read_again)
                    compiled = torch.compile(model, fullgraph=True)
                    compiled(torch.randn(5, HIDDEN))  # warm-up: no recorder is bound
                    seen.clear()
                    _torch_op.bind(
                        self.key,
                        lambda layer, ids, weights: seen.append(
                            (layer, ids.clone(), weights.clone())
                        ),
                    )
                    for rows in (5, 7, 1):
                        hidden = torch.randn(rows, HIDDEN)
                        expected = model(hidden)
                        eager, seen[:] = list(seen), []
                        torch.testing.assert_close(compiled(hidden), expected)
                        self.assertEqual([layer for layer, *_ in seen], list(range(LAYERS)))
                        torch.testing.assert_close(seen, eager)
                        seen.clear()
                    _torch_op.bind(self.key, None)

    def test_rows_in_the_ring(self):
        model = Model(self.key, False)
        compiled = torch.compile(model, fullgraph=True)
        producer = self.open()
        _torch_op.bind(self.key, producer.record)
        with torch.no_grad():
            compiled(torch.randn(3, HIDDEN))  # not announced
            for forward in (model, compiled):
                producer.step(3)
                forward(torch.randn(5, HIDDEN))  # two rows of padding
        self.assertEqual(producer.totals, (2, 2 * 3 * LAYERS, 2 * 3 * LAYERS, 0))

    def test_gradients_are_those_without(self):
        gradients = []
        for forward in (lambda m: m, lambda m: torch.compile(m, fullgraph=True)):
            model = Model(self.key, False)
            torch.manual_seed(4)
            forward(model)(torch.randn(5, HIDDEN)).sum().backward()
            gradients.append([gate.weight.grad for gate in model.gates])
        torch.testing.assert_close(*gradients)

    def test_a_recorder_that_raises_is_one_line_and_off(self):
        compiled = torch.compile(Model(self.key, False), fullgraph=True)
        calls = []

        def raises(*routing):
            calls.append(routing)
            raise ValueError("two\nlines")

        _torch_op.bind(self.key, raises)
        with self.assertLogs("moetrace") as logs, torch.no_grad():
            compiled(torch.randn(5, HIDDEN))
        self.assertEqual((len(calls), len(logs.output)), (1, 1))
        self.assertIn("recording has stopped: layer 0: ValueError", logs.output[0])

    def test_operator_as_pytorch_checks_it(self):
        ids = torch.zeros(3, TOP_K, dtype=torch.int64)
        for weights in (None, torch.ones(3, TOP_K)):
            torch.library.opcheck(_torch_op.record, (torch.zeros(1), ids, weights, 0, self.key))


if __name__ == "__main__":
    torch.set_num_threads(2)
    unittest.main(verbosity=2)
