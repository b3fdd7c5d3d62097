"""Unmodified vLLM on a CPU, with a small random model, the installed package and a real collector.

In float32. Every recorded row's experts are compared, as sets, with those of transformers on the
same tokens, and its weights within 1e-5; the tokens with those of an untraced engine.
scripts/check-vllm runs this; CTest does not, because vLLM is large.
"""

import collections
import concurrent.futures
import contextlib
import functools
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import types
import unittest
import urllib.error
import urllib.request

import small_models
import torch
import vllm_child
import vllm_cpu_collectives
from vllm_case import CHILD, ENGINE_TIMEOUT_S, VllmCase, harness, model_folder


@functools.cache
def reference(kind):
    return small_models.load(model_folder(kind))


def routing(kind, tokens):
    """{layer: (ids, weights)} of transformers for one sequence: what the routers return."""
    model, seen, handles = reference(kind), {}, []
    for index, layer in enumerate(model.model.layers):
        experts = getattr(layer.mlp, "experts", None)
        if experts is not None:

            def keep(_module, args, kwargs, index=index):
                values = [*args, *kwargs.values()]
                seen[index] = (values[1], values[2])

            handles.append(experts.register_forward_pre_hook(keep, with_kwargs=True))
    with torch.no_grad():
        model(torch.tensor([tokens]))
    for handle in handles:
        handle.remove()
    return seen


class Vllm(VllmCase):
    figures = collections.Counter()
    worst = 0.0

    def compare(self, lines, answers, kind="Qwen2Moe", layers=(0, 2, 3), factor=1.0):
        """Checks each row of `answers` in a trace. Returns {request: its route lines}. factor: of
        transformers' weights."""
        self.assertEqual(tuple(lines[0]["layers_logged"]), tuple(layers))
        self.assertEqual(lines[-1]["status"], "closed")
        rows = collections.defaultdict(list)
        for line in lines:
            if line["type"] == "route":
                rows[line["req_id"]].append(line)
        self.assertEqual(set(rows), {answer["id"] for answer in answers})
        for answer in answers:
            self.compare_request(kind, layers, answer, rows[answer["id"]], factor)
        return rows

    def compare_request(self, kind, layers, answer, rows, factor):
        known = answer["prompt"] + answer["tokens"]
        last = len(known) - 2  # the last token is never fed
        expected = routing(kind, known)
        for layer in layers:
            positions = sorted({row["token_idx"] for row in rows if row["layer"] == layer})
            if answer["whole"]:
                self.assertEqual(positions, list(range(answer["cached"], last + 1)), answer["id"])
            else:
                self.assertEqual(positions, list(range(len(positions))), answer["id"])
                self.assertGreaterEqual(len(positions), len(known) - 1)
        for row in rows:
            if row["token_idx"] > last:
                self.assertFalse(answer["whole"])
                continue  # sampled after the last token that the client saw
            ids, weights = (values[row["token_idx"]] for values in expected[row["layer"]])
            got = dict(zip(row["topk_ids"], row["topk_weights"]))
            self.assertEqual(set(got), set(ids.tolist()), f"{answer['id']} {row}")
            for expert, weight in zip(ids.tolist(), (factor * weights).tolist()):
                Vllm.worst = max(Vllm.worst, abs(got[expert] - weight))
                self.assertLess(abs(got[expert] - weight), 1e-5)
        self.figures["rows"] += len(rows)

    def rows_per_layer(self, rows, layer=0):
        return collections.Counter(row["token_idx"] for row in rows if row["layer"] == layer)

    def test_one_process(self):
        """Eager, chunked prefill, prefix cache, preemption."""
        workloads = ("plain", "chunked", "cached", "preempted")
        untraced, _ = self.run_vllm(*workloads, traced=False)
        self.collect()
        answers, _ = self.run_vllm(*workloads)
        self.assertEqual(answers, untraced)
        traces = self.lines()
        self.assertEqual(len(traces), len(workloads))
        by_name = {
            name: self.compare(lines, answers[name]) for name, lines in zip(workloads, traces)
        }
        for name in ("plain", "chunked"):
            for answer in answers[name]:
                counts = self.rows_per_layer(by_name[name][answer["id"]])
                self.assertEqual(set(counts.values()), {1})
                self.assertEqual(len(counts), len(answer["prompt"]) + len(answer["tokens"]) - 1)
        steps = collections.Counter(
            row["step"] for rows in by_name["chunked"].values() for row in rows if row["layer"] == 0
        )
        self.assertLessEqual(max(steps.values()), 32)
        self.assertTrue(all(answer["cached"] >= 64 for answer in answers["cached"][1:]))
        requests = {line["req_id"]: line for line in traces[2] if line["type"] == "request"}
        for answer in answers["cached"]:
            self.assertEqual(requests[answer["id"]]["cached_tokens"], answer["cached"])
            self.assertEqual(requests[answer["id"]]["prompt_tokens"], len(answer["prompt"]))
        twice = [
            count
            for rows in by_name["preempted"].values()
            for count in self.rows_per_layer(rows).values()
            if count > 1
        ]
        self.assertTrue(twice, "nothing was preempted")
        for name, lines in zip(workloads, traces):
            ends = {line["req_id"]: line for line in lines if line["type"] == "request_end"}
            for answer in answers[name]:
                if ends[answer["id"]]["generated_tokens"] is not None:
                    self.assertEqual(ends[answer["id"]]["generated_tokens"], len(answer["tokens"]))
        meta = traces[0][0]
        import vllm

        self.assertEqual(
            (meta["engine"], meta["engine_version"], meta["vllm_version"]),
            ("vllm", vllm.__version__, vllm.__version__),
        )
        self.assertEqual(
            (meta["model_id"], meta["seed"], meta["device"], meta["torch_version"]),
            (str(model_folder("Qwen2Moe")), 1234, "cpu", torch.__version__),
        )
        self.assertEqual(
            (meta["num_layers"], meta["num_experts"], meta["top_k"]),
            (small_models.LAYERS, small_models.EXPERTS, small_models.TOP_K),
        )
        self.assertEqual(meta["router"]["score"], "softmax")

    def test_compiled_in_three_processes(self):
        """torch.compile, then again from vLLM's cached graphs, beside untraced engines."""
        self.collect()
        first, _ = self.run_vllm("compiled", processes=True)
        untraced, _ = self.run_vllm("compiled", processes=True, traced=False)
        again, log = self.run_vllm("compiled", processes=True)
        self.assertEqual(first, untraced)
        self.assertEqual(again, first)
        traces = self.lines()
        self.assertEqual(len(traces), 2)
        for lines in traces:
            self.compare(lines, first["compiled"])

    def test_speculative_decoding(self):
        """Only rows of the target. A position whose guess was rejected has several rows; the last
        is that of the token that stayed."""
        model_folder("Qwen3Moe")
        self.collect()
        answers = {}
        for name in (
            "guessed",
            "drafted",
        ):  # vLLM 0.32 can't make a second engine in a process that has speculated
            try:
                answers |= self.run_vllm(name)[0]
            except AssertionError:
                with self.assertRaises(AssertionError):
                    self.run_vllm(name, traced=False)
                self.skipTest("this vLLM can't on a CPU, traced or not")
        for (name, answered), lines in zip(answers.items(), self.lines()):
            known = {answer["id"]: len(answer["prompt"] + answer["tokens"]) for answer in answered}
            kept, routes = {}, 0
            for line in lines:
                if line["type"] == "route":
                    routes += 1
                    if line["token_idx"] < known[line["req_id"]] - 1:
                        kept[line["req_id"], line["layer"], line["token_idx"]] = line
            self.assertGreater(routes, len(kept), f"{name}: every guess was right")
            self.compare([lines[0], *kept.values(), lines[-1]], answered)

    def test_streams_with_cancellations(self):
        """200 concurrent requests with different prompts: a row of another has other experts."""
        self.collect()
        answers, _ = self.run_vllm("streams", processes=True)
        [lines] = self.lines()
        self.compare(lines, answers["streams"])

    @contextlib.contextmanager
    def server(self, *options, traced=True, **environment):
        """vLLM's server and its log. At the end the server is stopped, and has ended."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        log = self.enterContext(open(self.folder / "server.log", "w+"))
        server = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "vllm.entrypoints.openai.api_server",
                "--model",
                model_folder("Qwen2Moe"),
                "--dtype",
                "float32",
                "--host",
                "127.0.0.1",
                "--port",
                str(self.port),
                "--max-model-len",
                "512",
                "--seed",
                "1234",
                "--enforce-eager",
                "--no-enable-prefix-caching",
                *options,
            ],
            env=self.environment(MOETRACE="1" if traced else "0", **environment),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        self.addCleanup(server.wait)
        self.addCleanup(server.kill)

        def ready():
            self.assertIsNone(
                server.poll(), "the server has ended; its log ends with\n" + self.tail(log)
            )
            with contextlib.suppress(OSError):
                return (
                    urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5).status
                    == 200
                )

        harness.wait_until(ready, "the server does not answer", ENGINE_TIMEOUT_S)
        yield log
        server.send_signal(signal.SIGTERM)
        server.wait(ENGINE_TIMEOUT_S)

    def ask(self, number, tokens):
        body = {
            "model": str(model_folder("Qwen2Moe")),
            "prompt": tokens,
            "max_tokens": 8,
            "temperature": 0,
            "ignore_eos": True,
            "return_token_ids": True,
        }
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/v1/completions",
            json.dumps(body).encode(),
            {"Content-Type": "application/json", "X-Request-Id": f"mine-{number}"},
        )
        answer = json.load(urllib.request.urlopen(request, timeout=ENGINE_TIMEOUT_S))
        return dict(
            id=answer["id"] + "-0",
            prompt=tokens,
            tokens=answer["choices"][0]["token_ids"],
            cached=0,
            whole=True,
        )

    def test_server(self):
        """The request ids of the API, and a trace that ends well when the server is stopped."""
        self.collect()
        with self.server() as log:
            answers = [
                self.ask(number, tokens)
                for number, tokens in enumerate(vllm_child.prompts(3, 5, 30))
            ]
        [lines] = self.lines()
        self.assertNotIn("force killing", self.tail(log))
        self.compare(lines, answers)

    def two_ranks_answer(self, traced=True):
        plugins = self.folder / f"plugins-{traced}"
        plugins.mkdir()
        vllm_cpu_collectives.install(plugins)
        path = os.pathsep.join(filter(None, (str(plugins), os.environ.get("PYTHONPATH"))))
        texts = vllm_child.prompts(15, 5, 30)
        with (
            self.server(
                "--data-parallel-size",
                "2",
                traced=traced,
                PYTHONPATH=path,
                VLLM_CPU_OMP_THREADS_BIND="0|1",
                VLLM_CPU_SIM_MULTI_NUMA="0",
            ),  # set: else 0.33 wants a memory node for each rank
            concurrent.futures.ThreadPoolExecutor(8) as pool,
        ):
            return [*map(self.ask, range(3), texts), *pool.map(self.ask, range(3, 15), texts[3:])]

    def test_data_parallel(self):
        """Each rank has a trace with its requests. An idle rank computes dummy passes, so that the
        other can go on; they leave no rows. A vLLM that gathers the rows of all ranks before it
        routes them is refused, in one line."""
        self.collect()
        try:
            answers = self.two_ranks_answer()
        except (AssertionError, urllib.error.HTTPError):
            with self.assertRaises((AssertionError, urllib.error.HTTPError)):
                self.two_ranks_answer(traced=False)
            self.skipTest("this vLLM can't on a CPU, traced or not")
        traces = self.lines()
        log = (self.folder / "server.log").read_text()
        if "not traced: this all2all backend gathers the rows of all data-parallel ranks" in log:
            self.assertEqual(traces, [])
            return
        self.assertEqual(
            sorted((lines[0]["ranks"]["dp"], lines[0]["world_size"]) for lines in traces),
            [(0, 2), (1, 2)],
        )
        for lines in traces:
            own = {line["req_id"] for line in lines if line["type"] == "request"}
            self.assertTrue(own)
            self.compare(lines, [answer for answer in answers if answer["id"] in own])
            answers = [answer for answer in answers if answer["id"] not in own]
        self.assertEqual(answers, [])

    def tail(self, log):
        log.flush()
        return pathlib.Path(log.name).read_text()[-4000:]

    def test_tensor_parallel(self):
        """Two ranks see the same rows: one trace, of rank 0."""
        self.collect()
        answers, _ = self.run_vllm(
            "tensor_parallel", processes=True, VLLM_CPU_OMP_THREADS_BIND="0|1"
        )
        [lines] = self.lines()
        self.compare(lines, answers["tensor_parallel"])
        self.assertEqual((lines[0]["world_size"], lines[0]["ranks"]["tp"]), (2, 0))

    def test_other_routers(self):
        """A renormalised softmax; a sigmoid with a bias, groups and a scaling that vLLM may apply
        to the output."""
        self.collect()
        for kind, layers, score, scaling in (
            ("Qwen3Moe", (0, 1, 2, 3), "softmax", 1.0),
            ("Glm4Moe", (1, 2, 3), "sigmoid", 2.5),
        ):
            with self.subTest(kind):
                answers, _ = self.run_vllm("plain", kind=kind)
                *_, lines = self.lines()
                said = lines[0]["router"]
                self.assertEqual((said["score"], said["renormalized"]), (score, True))
                self.compare(lines, answers["plain"], kind, layers, said["scaling"] / scaling)
                if kind == "Glm4Moe":
                    self.assertEqual(
                        (said["biased"], said["groups"], said["topk_groups"]), (True, 4, 2)
                    )
                    self.assertEqual("notes" in lines[0], said["scaling"] == 1.0)

    def test_selected_layers(self):
        """vLLM's log has a line for what is recorded, and one for a layer that can't be."""
        self.collect()
        answers, log = self.run_vllm("plain", MOETRACE_LAYERS="1,2")
        [lines] = self.lines()
        self.compare(lines, answers["plain"], layers=(2,))
        said = [line for line in log.splitlines() if "moetrace: " in line]
        self.assertEqual(len(said), 2, log)
        self.assertRegex(
            said[0],
            r"^[^\n]*WARNING .* moetrace: MOETRACE_LAYERS '1,2': left out [^\n]* \(1\); "
            "the MoE layers are 0,2-3$",
        )
        self.assertRegex(
            said[1],
            rf"^[^\n]*INFO .* moetrace: tracing {model_folder('Qwen2Moe')}: "
            f"layers 2, session {self.session}, ring ",
        )

    def test_variables_of_the_public_patch(self):
        """VLLM_LOG_MOE names the file, VLLM_LOG_MOE_LAYER the one layer, through `moetrace run`."""
        path, output = self.folder / "moe.jsonl", self.folder / "answers.json"
        env = self.environment(
            VLLM_LOG_MOE=str(path), VLLM_LOG_MOE_LAYER="2", VLLM_ENABLE_V1_MULTIPROCESSING="0"
        )
        subprocess.run(
            [
                harness.MOETRACE,
                "run",
                "--",
                sys.executable,
                "-B",
                CHILD,
                model_folder("Qwen2Moe"),
                output,
                "plain",
            ],
            env=env,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=ENGINE_TIMEOUT_S,
        )
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        self.compare(lines, json.loads(output.read_text())["plain"], layers=(2,))

    def test_not_asked_for(self):
        """Without MOETRACE nothing is patched, and no file remains."""
        code = (
            "import moetrace.vllm, sys; before = list(sys.meta_path); moetrace.vllm.register();"
            "assert sys.meta_path == before; assert not {'torch', 'numpy'} & set(sys.modules)"
        )
        for value in (None, "", "0"):
            env = {key: text for key, text in os.environ.items() if key != "MOETRACE"} | (
                {} if value is None else {"MOETRACE": value}
            )
            subprocess.run([sys.executable, "-B", "-c", code], env=env, check=True)
        self.run_vllm("plain", traced=False)
        self.assertEqual(list(self.rings.iterdir()), [])

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

    def test_no_ring_to_be_had(self):
        """The engine runs, and one line says why it is not traced."""
        untraced, _ = self.run_vllm("plain", traced=False)
        answers, log = self.run_vllm("plain", MOETRACE_DIR=str(self.folder / "nowhere"))
        self.assertEqual(answers, untraced)
        said = [line for line in log.splitlines() if "moetrace" in line and "not traced" in line]
        self.assertEqual(len(said), 1, log)
        self.assertIn("nowhere", said[0])

    @classmethod
    def tearDownClass(cls):
        print(
            f"{cls.figures['rows']:,} rows compared; weights differ by at most {cls.worst:.1e}",
            file=sys.stderr,
        )


if __name__ == "__main__":
    unittest.main(verbosity=2)
