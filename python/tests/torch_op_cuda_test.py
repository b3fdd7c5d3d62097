"""The operators on a GPU, from Python: eager, torch.compile, torch.cuda.graph with 1,000 replays.

Needs PyTorch with CUDA.

    python3 torch_op_cuda_test.py LIBMOETRACE_TORCH.so

Exit code 77 and one line if there is no GPU.
"""

import ctypes
import os
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

LIBRARY = sys.argv.pop(1)
torch.ops.load_library(LIBRARY)
moetrace = ctypes.CDLL(LIBRARY)  # it contains the C API too

EXPERTS, TOP_K, HIDDEN, LAYERS = 16, 4, 64, 3


class Options(ctypes.Structure):
    """The first fields of moetrace_options, as an older caller knows them."""

    _fields_ = [
        ("size", ctypes.c_size_t),
        ("directory", ctypes.c_char_p),
        ("session", ctypes.c_char_p),
        ("ring_mb", ctypes.c_double),
        ("num_layers", ctypes.c_uint32),
        ("num_experts", ctypes.c_uint32),
        ("top_k", ctypes.c_uint32),
        ("moe_layers", ctypes.c_void_p),
        ("layers", ctypes.c_char_p),
        ("sample_every", ctypes.c_int64),
        ("strings", ctypes.c_char_p * 6),
        ("has_seed", ctypes.c_int),
        ("seed", ctypes.c_int64),
        ("router_score", ctypes.c_char_p),
        ("router_renormalized", ctypes.c_int),
        ("router_scaling", ctypes.c_double),
        ("ranks", ctypes.c_uint32 * 6),
        ("cuda_device", ctypes.c_int32),
    ]


class Totals(ctypes.Structure):
    _fields_ = [
        ("size", ctypes.c_size_t),
        ("steps", ctypes.c_uint64),
        ("attempted", ctypes.c_uint64),
        ("recorded", ctypes.c_uint64),
        ("dropped", ctypes.c_uint64),
    ]


moetrace.moetrace_open.restype = ctypes.c_void_p
moetrace.moetrace_failure.restype = ctypes.c_char_p
for function in ("close", "get_totals", "step_begin_cuda", "failure"):
    getattr(moetrace, f"moetrace_{function}").argtypes = {
        "close": [ctypes.c_void_p],
        "get_totals": [ctypes.c_void_p, ctypes.c_void_p],
        "step_begin_cuda": [
            ctypes.c_void_p,
            ctypes.c_void_p,
            ctypes.c_uint32,
            ctypes.c_void_p,
            ctypes.c_size_t,
        ],
        "failure": [ctypes.c_void_p],
    }[function]


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
        options = Options()
        moetrace.moetrace_options_init(
            ctypes.byref(options), ctypes.c_size_t(ctypes.sizeof(options))
        )
        options.directory, options.session = self.folder.name.encode(), b"op-test"
        options.ring_mb, options.layers, options.sample_every = 16, b"all", 1
        options.num_layers, options.num_experts, options.top_k, options.cuda_device = (
            LAYERS,
            EXPERTS,
            TOP_K,
            0,
        )
        why = ctypes.create_string_buffer(256)
        self.producer = moetrace.moetrace_open(ctypes.byref(options), why, ctypes.c_size_t(256))
        self.assertTrue(self.producer, why.value)
        self.addCleanup(moetrace.moetrace_close, self.producer)
        self.x = torch.randn(8, HIDDEN, device="cuda")

    def model(self, branch, producer=None):
        torch.manual_seed(2)
        producer = self.producer if producer is None else producer
        return torch.nn.Sequential(
            *(Moe(layer, producer, branch) for layer in range(LAYERS))
        ).requires_grad_(False)

    def announce(self, rows):
        stream = torch.cuda.current_stream().cuda_stream
        return moetrace.moetrace_step_begin_cuda(self.producer, stream, rows, None, 0)

    def totals(self):
        torch.cuda.synchronize()
        self.assertIsNone(moetrace.moetrace_failure(self.producer))
        totals = Totals(size=ctypes.sizeof(Totals))
        moetrace.moetrace_get_totals(self.producer, ctypes.byref(totals))
        return totals.recorded, totals.dropped

    def test_eager_gives_the_same_values_and_records(self):
        expected = self.model(False, producer=0)(self.x)
        for branch in (False, True):
            with self.subTest(branch=branch):
                before, _ = self.totals()
                self.model(branch)(self.x)  # not announced
                self.assertEqual(self.totals(), (before, 0))
                self.announce(5)
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
                    self.announce(1 + n % 8)
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
                        self.announce(8)
                        out = model(self.x)
                    self.assertEqual(self.totals(), (before + 50 * 8 * LAYERS, 0))
                    self.assertTrue(torch.allclose(out, expected, atol=1e-4))


if __name__ == "__main__":
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", tempfile.mkdtemp())
    unittest.main(verbosity=2)
