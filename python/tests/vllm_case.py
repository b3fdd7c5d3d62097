"""Shared by the checks inside vLLM: private rings, small models, vLLM in its own process."""

import functools
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "daemon/testing"))
import harness  # noqa: E402  (in the folder just named)
import small_models  # noqa: E402

CHILD = pathlib.Path(__file__).with_name("vllm_child.py")
_SCRATCH = tempfile.TemporaryDirectory(prefix="moetrace-vllm.")  # removed when the process ends
MODELS, CACHE = pathlib.Path(_SCRATCH.name) / "models", pathlib.Path(_SCRATCH.name) / "cache"
ENGINE_TIMEOUT_S = int(os.environ.get("MOETRACE_CHECK_TIMEOUT_S", "600"))


@functools.cache
def model_folder(kind):
    folder = MODELS / kind
    small_models.make(kind, folder)
    return folder


class VllmCase(harness.Case):
    def run_vllm(
        self, *workloads, kind="Qwen2Moe", model=None, processes=False, traced=True, **environment
    ):
        """The answers of the workloads, and vLLM's log. model: a folder; None: a small one of this
        kind."""
        output = pathlib.Path(tempfile.mkstemp(".json", dir=self.folder)[1])
        env = self.environment(
            MOETRACE="1" if traced else "0",
            VLLM_ENABLE_V1_MULTIPROCESSING="1" if processes else "0",
            **environment,
        )
        # A session of its own, so that an engine that hangs ends with all its processes, and frees
        # the GPU.
        with subprocess.Popen(
            [sys.executable, "-B", CHILD, model or model_folder(kind), output, *workloads],
            env=env,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as child:
            try:
                log, _ = child.communicate(timeout=ENGINE_TIMEOUT_S)
            except BaseException:
                os.killpg(child.pid, signal.SIGKILL)
                raise
        self.assertEqual(child.returncode, 0, log[-4000:])
        return json.loads(output.read_text()), log

    def environment(self, **more):
        return {
            **os.environ,
            "MOETRACE_DIR": str(self.rings),
            "MOETRACE_SESSION": self.session,
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_NO_USAGE_STATS": "1",
            "HF_HUB_OFFLINE": "1",
            "VLLM_CACHE_ROOT": os.environ.get("VLLM_CACHE_ROOT", str(CACHE)),
            "TORCHINDUCTOR_CACHE_DIR": os.environ.get(
                "TORCHINDUCTOR_CACHE_DIR", str(CACHE / "inductor")
            ),
            **more,
        }

    def collect(self):
        harness.Collector(self, "--output-dir", self.traces)

    def lines(self):
        """The lines of each trace, in the order in which the engines started."""
        self.wait_drained()
        traces = []
        for path in self.trace_files():
            self.check(path)
            traces.append([json.loads(line) for line in path.read_text().splitlines()])
        return sorted(traces, key=lambda lines: lines[0]["created_at"])
