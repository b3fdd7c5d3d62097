"""moetrace.Producer with a cuda_device: every way to record delivers what was given.

Runs on an emulated GPU (producer/cuda/emulator), whose memory is the host's: a tensor there is an
array that says it is on cuda:0. MOETRACE_LIBRARY, MOETRACE_READER_LIBRARY, MOETRACED and
MOETRACE_CLI name the libraries and the programs.
"""

import ctypes
import gc
import itertools
import os
import types
import unittest

import moetrace
import numpy
from moetrace.recording import _library
from producer_case import EXPERTS, LAYERS, TOP_K, harness, open_producer


class OnGpu:
    """An array that looks to the package as a torch tensor on a GPU. When its last reference goes,
    the next owner of its memory overwrites it, after what is in the stream by then."""

    device = types.SimpleNamespace(type="cuda", index=0)

    def __init__(self, array):
        self.array = array
        self.dtype, self.shape = array.dtype, array.shape

    def __del__(self):
        KEPT.append(self.array)
        LIBRARY.cudaMemset(ctypes.c_void_p(self.data_ptr()), 0, ctypes.c_size_t(self.array.nbytes))

    def data_ptr(self):
        return self.array.__array_interface__["data"][0]

    def is_contiguous(self):
        return True


KEPT = []
LIBRARY = ctypes.CDLL(os.environ["MOETRACE_LIBRARY"])


class CudaProducer(harness.Case):
    def setUp(self):
        super().setUp()
        self.random = numpy.random.default_rng(3)
        harness.Collector(self, "--output-dir", self.traces)

    def producer(self, **options):
        return open_producer(self, cuda_device=0, device="cuda", **options)

    def synchronize(self):
        self.assertEqual(LIBRARY.cudaDeviceSynchronize(), 0)

    def record(self, producer, rows, ids_type, weights_type, **how):
        """Records all layers of a pass. Returns what was given: {layer: (ids, weights)}."""
        given, tensors = {}, []
        for layer in range(LAYERS):
            ids = numpy.stack(
                [self.random.permutation(EXPERTS)[:TOP_K] for _ in range(rows)]
            ).astype(ids_type)
            weights = self.random.random((rows, TOP_K)).astype(weights_type)
            given[layer] = ids.copy(), weights.astype("float32")
            tensors += [OnGpu(ids), OnGpu(weights)]
            producer.record(layer, *tensors[-2:], **how)
            if how:
                del tensors[:]  # the producer keeps them
                gc.collect()
        if how:
            self.synchronize()  # what has been launched by now has run; what is deferred has not
        producer.join()
        self.synchronize()
        return given

    def test_every_way_to_record(self):
        ways = list(
            itertools.product(
                ({}, {"branch": True}, {"deferred": True}),
                ("int32", "int64", "int16", "uint32"),
                ("float32", "float16"),
            )
        )
        given = []
        with self.producer() as producer:
            request = producer.request("r", prompt_tokens=1)
            for position, (how, *dtypes) in enumerate(ways):
                self.assertTrue(producer.step(1, [(request, position, 0, 1)]))
                given.append(self.record(producer, 3, *dtypes, **how))  # two rows of padding
            request.end(1, "stop")
            self.assertGreater(producer.cost.announce_ns, 0)
            self.assertGreater(producer.cost.hook_ns, 0)
            self.assertEqual(
                producer.totals, (len(ways), len(ways) * LAYERS, len(ways) * LAYERS, 0)
            )
        self.wait_drained()
        [path] = self.trace_files()
        with moetrace.open(path) as trace:
            self.assertEqual(
                (trace.end["status"], trace.end["dropped"], trace.end["torn"]), ("closed", 0, 0)
            )
            self.assertEqual(trace.meta["device"], "cuda")
            routing = trace.request("r")
            for position, layers in enumerate(given):
                for layer, (ids, weights) in layers.items():
                    numpy.testing.assert_array_equal(
                        routing.ids[position, layer], ids[0], err_msg=str(ways[position])
                    )
                    numpy.testing.assert_array_equal(routing.weights[position, layer], weights[0])

    def test_columns_and_aborted_passes(self):
        with self.producer() as producer:
            steps = _library.load_compiled("moetrace_steps").Steps(
                producer, speculative=False, asynchronous=True
            )
            come = [
                types.SimpleNamespace(
                    req_id=name, prompt_token_ids=None, num_computed_tokens=0, sampling_params=None
                )
                for name in "ab"
            ]
            steps.follow(types.SimpleNamespace(scheduled_new_reqs=come, finished_req_ids=set()))
            batch = ["a", "b"], numpy.array([0, 2, 3], "int32"), numpy.array([5, 0], "int32")
            steps.announce(*batch)
            given = self.record(producer, 3, "int32", "float32", deferred=True)
            later = batch[0], batch[1], numpy.array([7, 1], "int32")
            steps.announce(*later)
            ids, weights = numpy.zeros((3, TOP_K), "int32"), numpy.zeros((3, TOP_K), "float32")
            producer.record(0, OnGpu(ids), OnGpu(weights), branch=True)
            self.assertEqual(len(producer._kept), 1)
            steps.announce(*later)  # joins it
            self.assertEqual(producer._kept, [])
            producer.abort()
            self.record(
                producer, 3, "int32", "float32", deferred=True
            )  # of a pass that was not announced
            self.assertTrue(producer.step(2))
            self.record(producer, 2, "int32", "float32", branch=True)
        self.wait_drained()
        [path] = self.trace_files()
        with moetrace.open(path) as trace:
            self.assertEqual(
                (trace.end["delivered"], trace.end["torn"]),
                (3 * LAYERS + 3 + 2 * LAYERS, 3 * (LAYERS - 1) + 3 * LAYERS),
            )
            for name, position, row in (("a", 5, 0), ("a", 6, 1), ("b", 0, 2)):
                for layer, (ids, _) in given.items():
                    numpy.testing.assert_array_equal(
                        trace.request(name).ids[position, layer], ids[row]
                    )

    def test_wrong_memory_is_one_line(self):
        with self.producer() as producer:
            with self.assertRaisesRegex(
                TypeError,
                "record: ids is in host memory, but the producer was opened for arrays on GPU 0",
            ):
                producer.record(0, numpy.zeros((1, TOP_K), "int32"))


if __name__ == "__main__":
    unittest.main(verbosity=2)
