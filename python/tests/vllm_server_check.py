"""vLLM's server, with one rank and with two: the request ids of its API, a trace of each rank.

vllm_check.py runs this.
"""

import concurrent.futures
import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request

import vllm_child
import vllm_cpu_collectives
from vllm_case import ENGINE_TIMEOUT_S, harness, model_folder
from vllm_reference_case import ReferenceCase


class VllmServer(ReferenceCase):
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
