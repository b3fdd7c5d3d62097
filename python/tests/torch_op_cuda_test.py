"""The operators on a GPU, from Python: eager, torch.compile, torch.cuda.graph with 1,000 replays.

Needs PyTorch with CUDA.

    python3 torch_op_cuda_test.py LIBMOETRACE_TORCH.so

Exit code 77 and one line if there is no GPU.
"""

import os
import pathlib
import sys
import tempfile
import unittest

try:
    import torch
except ImportError:
    print("torch_op_cuda_test: skipped; found no PyTorch")
    sys.exit(77)
if not torch.cuda.is_available():
    print("torch_op_cuda_test: skipped; found no GPU")
    sys.exit(77)

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import moetrace  # noqa: E402  (in the folder just named)

LIBRARY = sys.argv.pop(1)
torch.ops.load_library(LIBRARY)
os.environ["MOETRACE_LIBRARY"] = LIBRARY  # it contains the C API too

EXPERTS, TOP_K, HIDDEN, LAYERS = 16, 4, 64, 3


class Moe(torch.nn.Module):
    """Router, hook, experts. branch: record with record_branch and join."""

    def __init__(self, layer, producer, branch):
        super().__init__()
        self.layer, self.producer, self.branch = layer, producer, branch
        self.gate = torch.nn.Parameter(torch.randn(EXPERTS, HIDDEN, device="cuda") / 8)
        self.expert = torch.nn.Parameter(torch.randn(EXPERTS, HIDDEN, HIDDEN, device="cuda") / 8)

    def forward(self, x):
        weights, ids = torch.topk(torch.softmax(x @ self.gate.T, -1), TOP_K)
        if self.branch:
            torch.ops.moetrace.record_branch(weights, ids, self.layer, self.producer)
        else:
            torch.ops.moetrace.record(weights, ids, self.layer, self.producer)
        out = torch.einsum(
            "rkh,rkgh,rk->rg", x.unsqueeze(1).expand(-1, TOP_K, -1), self.expert[ids], weights
        )
        if self.branch:
            torch.ops.moetrace.join(out, weights, ids, self.producer)
        return x + out


class TorchOpCuda(unittest.TestCase):
    def setUp(self):
        torch.manual_seed(1)
        self.folder = tempfile.TemporaryDirectory(prefix="moetrace-test.", dir="/dev/shm")
        self.addCleanup(self.folder.cleanup)
        self.producer = moetrace.Producer(
            num_layers=LAYERS,
            num_experts=EXPERTS,
            top_k=TOP_K,
            ring_mb=16,
            directory=self.folder.name,
            session="op-test",
            layers="all",
            sample_every=1,
            cuda_device=0,
        )
        self.addCleanup(self.producer.close)
        self.x = torch.randn(8, HIDDEN, device="cuda")

    def model(self, branch, producer=None):
        torch.manual_seed(2)
        producer = self.producer._pointer if producer is None else producer
        return torch.nn.Sequential(
            *(Moe(layer, producer, branch) for layer in range(LAYERS))
        ).requires_grad_(False)

    def totals(self):
        torch.cuda.synchronize()
        self.assertIsNone(self.producer.failure)
        return self.producer.totals.recorded, self.producer.totals.dropped

    def test_eager_gives_the_same_values_and_records(self):
        expected = self.model(False, producer=0)(self.x)
        for branch in (False, True):
            with self.subTest(branch=branch):
                before, _ = self.totals()
                self.model(branch)(self.x)  # not announced
                self.assertEqual(self.totals(), (before, 0))
                self.producer.step(5)
                out = self.model(branch)(self.x)
                self.assertEqual(self.totals(), (before + 5 * LAYERS, 0))
                self.assertTrue(torch.equal(out, expected))

    def test_a_graph_replayed_1000_times(self):
        for branch in (False, True):
            with self.subTest(branch=branch):
                model = self.model(branch)
                side = torch.cuda.Stream()
                with torch.cuda.stream(side):
                    model(self.x)  # warm-up
                side.synchronize()
                before, _ = self.totals()
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph):
                    out = model(self.x)
                graph.replay()  # not announced
                self.assertEqual(self.totals(), (before, 0))
                for n in range(1000):
                    self.producer.step(1 + n % 8)
                    graph.replay()
                rows = sum(1 + n % 8 for n in range(1000)) * LAYERS
                self.assertEqual(self.totals(), (before + rows, 0))
                self.assertTrue(torch.allclose(out, self.model(False, producer=0)(self.x)))

    def test_torch_compile(self):
        for branch in (False, True):
            for mode in ("default", "reduce-overhead"):
                with self.subTest(branch=branch, mode=mode):
                    torch._dynamo.reset()
                    model = torch.compile(self.model(branch), mode=mode, fullgraph=True)
                    expected = self.model(False, producer=0)(self.x)
                    for _ in range(3):
                        model(self.x)
                    before, _ = self.totals()
                    for _ in range(50):
                        self.producer.step(8)
                        out = model(self.x)
                    self.assertEqual(self.totals(), (before + 50 * 8 * LAYERS, 0))
                    self.assertTrue(torch.allclose(out, expected, atol=1e-4))


if __name__ == "__main__":
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", tempfile.mkdtemp())
    unittest.main(verbosity=2)
