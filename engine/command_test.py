"""The program: exit codes, one line on standard error for every mistake, and the files it writes.

usage: command_test.py <moetrace-engine>
"""

import array
import fcntl
import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest

ENGINE = None


def run(*arguments, **environment):
    clean = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("MOETRACE", "VLLM_LOG"))
    }
    return subprocess.run(
        [ENGINE, *map(str, arguments)],
        capture_output=True,
        timeout=300,
        env={**clean, **environment},
    )


class Command(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.root = pathlib.Path(tempfile.mkdtemp(prefix="moetrace-engine-"))
        cls.whole = cls.root / "whole"
        made = run("init-model", "--dtype", "bfloat16", cls.whole)
        assert made.returncode == 0, made.stderr
        cls.prompts = cls.root / "prompts.txt"
        cls.prompts.write_text("Two and two?\n\n---\n\nA second prompt, a little longer.")

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.root)

    def setUp(self):
        self.model = self.root / self._testMethodName
        self.model.mkdir()
        for file in self.whole.iterdir():  # links, which a test replaces where it breaks a file
            (self.model / file.name).symlink_to(file)

    def edit_config(self, **changes):
        config = json.loads((self.whole / "config.json").read_text())
        config.update(changes)
        self.replace("config.json", json.dumps(config).encode())

    def replace(self, name, content):
        (self.model / name).unlink(missing_ok=True)
        (self.model / name).write_bytes(content)

    def generate(self, *more, **environment):
        return run(
            "generate",
            "--model",
            self.model,
            "--prompts",
            self.prompts,
            "--max-new-tokens",
            4,
            *more,
            **environment,
        )

    def expect_failure(self, result, code, *words):
        text = result.stderr.decode()
        self.assertEqual(result.returncode, code, text)
        self.assertEqual(result.stdout, b"")
        self.assertTrue(text.startswith("moetrace-engine: "), text)
        self.assertEqual(text.count("\n"), 1, text)
        self.assertRegex(text, r"; [^;]+\n\Z")  # what to try
        for word in words:
            self.assertIn(word, text)

    def test_a_full_standard_output_is_an_error(self):
        with open("/dev/full", "wb") as full:
            result = subprocess.run(
                [ENGINE, "--version"], stdout=full, stderr=subprocess.PIPE, timeout=300
            )
        self.assertEqual(result.returncode, 1)
        self.assertTrue(
            result.stderr.startswith(b"moetrace-engine: standard output: can't write all of it"),
            result.stderr,
        )

    def test_generates_json_lines(self):
        result = self.generate()
        self.assertEqual(result.returncode, 0, result.stderr)
        lines = [json.loads(line) for line in result.stdout.decode().splitlines()]
        self.assertEqual([line["req_id"] for line in lines], ["r0", "r1"])
        self.assertEqual(lines[0]["prompt_tokens"], len("Two and two?"))
        for line in lines:
            self.assertEqual(line["generated_tokens"], len(line["token_ids"]))
            self.assertIn(line["status"], ("stop", "length"))
        self.assertNotIn(b"\r", result.stderr)  # no progress bar, as this is not a terminal

    def test_compare_writes_timing_and_the_same_texts(self):
        plain, compared, timing = (
            self.model / name for name in ("plain.jsonl", "compared.jsonl", "timing.json")
        )
        self.assertEqual(self.generate("--output", plain).returncode, 0)
        result = self.generate(
            "--compare",
            "--output",
            compared,
            "--timing",
            timing,
            MOETRACE="1",
            MOETRACE_DIR=str(self.model),
        )
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(plain.read_bytes(), compared.read_bytes())
        figures = json.loads(timing.read_text())
        self.assertEqual(list(figures), ["no_log", "log", "overhead_percent"])
        self.assertEqual(figures["no_log"]["tokens_generated"], figures["log"]["tokens_generated"])
        self.assertGreater(figures["log"]["wall_time_sec"], 0)
        self.assertEqual(len(list(self.model.glob("*.ring"))), 1)

    def test_compare_needs_the_ring(self):
        self.expect_failure(self.generate("--compare"), 2, "MOETRACE=1")

    def test_neither_on_nor_off_is_one_line_and_no_trace(self):
        for value, lines in (("maybe", 1), ("no", 0)):
            result = self.generate(MOETRACE=value, MOETRACE_DIR=str(self.model))
            self.assertEqual(result.returncode, 0, result.stderr)
            said = [line for line in result.stderr.splitlines() if b"MOETRACE" in line]
            self.assertEqual(len(said), lines, result.stderr)
            self.assertEqual(list(self.model.glob("*.ring")), [])

    def test_a_ring_that_cannot_be_made_is_one_line_and_no_more(self):
        result = self.generate(MOETRACE="1", MOETRACE_DIR=str(self.model / "nowhere"))
        self.assertEqual(result.returncode, 0)
        self.assertEqual(len(result.stdout.splitlines()), 2)
        self.assertTrue(result.stderr.startswith(b"moetrace-engine: not traced: "), result.stderr)
        compared = self.generate(
            "--compare", MOETRACE="1", MOETRACE_DIR=str(self.model / "nowhere")
        )
        self.expect_failure(compared, 1)

    def test_says_once_that_no_collector_is_attached(self):
        result = self.generate(
            MOETRACE="1", MOETRACE_DIR=str(self.model), MOETRACE_SESSION="uncollected"
        )
        self.assertEqual(result.returncode, 0, result.stderr)
        first, last = result.stderr.decode().splitlines()
        self.assertRegex(
            first,
            r"\Amoetrace-engine: no collector serves this trace yet: "
            r"the ring keeps the first \d+ records; "
            rf"start moetraced --session uncollected --directory {self.model}\Z",
        )
        self.assertRegex(last, r", traced: \d+ records, 0 dropped\Z")
        with open(self.model / "moetrace.v1.served.0.collector", "w", encoding="ascii") as claim:
            fcntl.lockf(claim, fcntl.LOCK_EX, 1)  # as a collector does
            result = self.generate(
                MOETRACE="1", MOETRACE_DIR=str(self.model), MOETRACE_SESSION="served"
            )
        self.assertEqual(len(result.stderr.splitlines()), 1, result.stderr)

    def test_no_folder(self):
        shutil.rmtree(self.model)
        self.expect_failure(self.generate(), 1, "no such folder", "init-model")

    def test_not_a_folder(self):
        shutil.rmtree(self.model)
        self.model.write_text("")
        self.expect_failure(self.generate(), 1, "not a folder")
        self.model.unlink()
        self.model.mkdir()

    def test_no_weights(self):
        (self.model / "model.safetensors").unlink()
        self.expect_failure(self.generate(), 1, "model.safetensors")

    def test_missing_shard(self):
        (self.model / "model.safetensors").unlink()
        index = {"weight_map": {"model.norm.weight": "model-00001-of-00002.safetensors"}}
        self.replace("model.safetensors.index.json", json.dumps(index).encode())
        self.expect_failure(self.generate(), 1, "model-00001-of-00002.safetensors", "missing")

    def test_truncated_weights(self):
        whole = (self.whole / "model.safetensors").read_bytes()
        for size in (0, 7, 1000, len(whole) - 1):
            self.replace("model.safetensors", whole[:size])
            self.expect_failure(self.generate(), 1, "model.safetensors")

    def test_wrong_shape(self):
        self.edit_config(num_experts=61)
        self.expect_failure(self.generate(), 1, "mlp.gate.weight", "[60, 64]", "[61, 64]")

    def test_missing_weight(self):
        self.edit_config(num_hidden_layers=25)
        self.expect_failure(self.generate(), 1, "model.layers.24", "missing")

    def test_a_name_with_a_line_end_stays_in_one_line(self):
        whole = (self.whole / "model.safetensors").read_bytes()
        begin = 8 + struct.unpack("<Q", whole[:8])[0]
        header = json.loads(whole[8:begin])
        header["two\nlines"] = {"dtype": "F32", "shape": [-1], "data_offsets": [0, 0]}
        text = json.dumps(header).encode()
        self.replace("model.safetensors", struct.pack("<Q", len(text)) + text + whole[begin:])
        self.expect_failure(self.generate(), 1, "tensor two?lines: bad shape")

    def test_float16_weights(self):
        """The bfloat16 weights as float16: the same numbers, except for a few near 0."""
        whole = (self.whole / "model.safetensors").read_bytes()
        begin = 8 + struct.unpack("<Q", whole[:8])[0]
        header = whole[8:begin].replace(b'"BF16"', b'"F16" ')
        count = (len(whole) - begin) // 2
        numbers = array.array(
            "f",
            array.array("I", [bits << 16 for bits in array.array("H", whole[begin:])]).tobytes(),
        )
        self.replace("model.safetensors", whole[:8] + header + struct.pack(f"<{count}e", *numbers))
        self.edit_config(
            **{
                key: "float16"
                for key in ("dtype", "torch_dtype")
                if key in json.loads((self.whole / "config.json").read_text())
            }
        )
        got = [
            [json.loads(line)["token_ids"] for line in result.stdout.splitlines()]
            for result in (
                self.generate(),
                run(
                    "generate",
                    "--model",
                    self.whole,
                    "--prompts",
                    self.prompts,
                    "--max-new-tokens",
                    4,
                ),
            )
        ]
        self.assertEqual(got[0], got[1])
        self.assertEqual(len(got[0]), 2)

    def test_dtype_that_is_not_done(self):
        whole = (self.whole / "model.safetensors").read_bytes()
        self.replace("model.safetensors", whole.replace(b'"dtype":"BF16"', b'"dtype":"I16" '))
        self.expect_failure(self.generate(), 1, "dtype I16")

    def test_unknown_architecture(self):
        self.edit_config(architectures=["LlamaForCausalLM"])
        self.expect_failure(self.generate(), 1, "LlamaForCausalLM", "Qwen2MoeForCausalLM")

    def test_bad_json(self):
        for name in ("config.json", "tokenizer.json", "generation_config.json"):
            self.replace(name, b"{")
            self.expect_failure(self.generate(), 1, name, "JSON")
            self.replace(
                name, json.dumps(json.loads((self.whole / name).read_bytes())).encode("utf-16")
            )
            self.expect_failure(self.generate(), 1, name, "UTF-16")
            self.replace(name, b"\xef\xbb\xbf" + (self.whole / name).read_bytes())
            self.assertEqual(self.generate().returncode, 0)

    def test_missing_tokenizer(self):
        (self.model / "tokenizer.json").unlink()
        self.expect_failure(self.generate(), 1, "tokenizer.json")

    def test_prompt_files(self):
        for content, word in (
            (b"", "empty"),
            (b"a\n\n---\n\n", "prompt 1"),
            (b"\xff", "UTF-8"),
            (b"x" * 9000, "positions"),
        ):
            prompts = self.model / "p.txt"
            prompts.write_bytes(content)
            result = run("generate", "--model", self.model, "--prompts", prompts)
            self.expect_failure(result, 1, word)
        self.expect_failure(
            run("generate", "--model", self.model, "--prompts", self.model / "none"),
            1,
            "No such file",
        )
        self.expect_failure(
            run("generate", "--model", self.model, "--prompts", self.model), 1, "folder"
        )

    def test_prompt_file_of_windows(self):
        lines = b"Two and two?\r\n\r\n---\r\n\r\nA second prompt, a little longer.\r\n"
        self.prompts = self.model / "p.txt"
        for content in (lines, b"\xef\xbb\xbf" + lines):
            self.prompts.write_bytes(content)
            result = self.generate()
            self.assertEqual(result.returncode, 0, result.stderr)
            done = [
                json.loads(line)["prompt_tokens"] for line in result.stdout.decode().splitlines()
            ]
            self.assertEqual(done, [len("Two and two?"), len("A second prompt, a little longer.")])
        self.prompts.write_bytes("Two and two?".encode("utf-16"))
        self.expect_failure(self.generate(), 1, "p.txt: UTF-16", "save the file as UTF-8")

    def test_output_that_cannot_be_written(self):
        self.expect_failure(
            self.generate("--output", self.model / "no" / "texts.jsonl"), 1, "texts.jsonl"
        )

    def test_usage(self):
        commands = "init-model, prompts, generate; see moetrace-engine --help\n"
        self.expect_failure(
            run(), 2, f"moetrace-engine: a command is missing: expected one of {commands}"
        )
        self.expect_failure(
            run("conjure"),
            2,
            f"moetrace-engine: unknown command 'conjure': expected one of {commands}",
        )
        self.expect_failure(
            run("generate"),
            2,
            "generate: --model is missing; see moetrace-engine generate --help\n",
        )
        self.expect_failure(
            self.generate("--modle", "x"), 2, "generate: unknown option --modle; see"
        )
        self.expect_failure(
            self.generate("--max-new-tokens", 0),
            2,
            "--max-new-tokens: '0': expected an integer from 1 to 1048576;",
        )
        self.expect_failure(
            self.generate("--batch", "ten"),
            2,
            "--batch: 'ten': expected an integer from 1 to 4096;",
        )
        self.expect_failure(
            self.generate("--device", "abacus"), 2, "--device: 'abacus': expected one of cpu, cuda;"
        )
        self.expect_failure(
            run("init-model", "--dtype", "int4", self.model),
            2,
            "--dtype: 'int4': expected one of float32, bfloat16;",
        )
        self.expect_failure(
            self.generate("--batch", "4x"), 2, "--batch: '4x': expected an integer from 1 to 4096;"
        )
        self.expect_failure(self.generate("--compare=4x"), 2, "generate: --compare takes no value;")
        self.expect_failure(
            self.generate("--timing="), 2, "generate: --timing: its value is missing;"
        )
        self.assertEqual(run("--help").returncode, 0)
        self.assertRegex(run("--version").stdout, rb"^moetrace-engine \d+\.\d+\.\d+\n$")
        self.assertIn(b"--compare", run("generate", "--help").stdout)

    def test_cuda_where_there_is_none(self):
        result = self.generate("--device", "cuda")
        if result.returncode == 0:
            self.skipTest("there is a GPU")
        self.expect_failure(result, 1, "--device cuda", "--device cpu")

    def test_prompts_command(self):
        source, target = self.model / "q.jsonl", self.model / "p.txt"
        source.write_text(
            '{"question": "one?\\n", "answer": "1"}\n{"question": "två?"}\n{"question": "3"}\n'
        )
        self.assertEqual(
            run("prompts", "--gsm8k", source, "--first", 2, "-o", target).returncode, 0
        )
        self.assertEqual(target.read_bytes(), "one?\n\n\n---\n\ntvå?".encode())
        self.expect_failure(
            run("prompts", "--gsm8k", source, "--first", 4, "-o", target), 1, "only 3"
        )
        self.expect_failure(run("prompts", "--gsm8k", self.prompts, "-o", target), 1, "line 1")

    def test_init_model_leaves_other_folders_alone(self):
        self.edit_config()
        config = json.loads((self.model / "config.json").read_text())
        del config["moetrace_seed"]
        self.replace("config.json", json.dumps(config).encode())
        self.expect_failure(run("init-model", self.model), 1, "did not write")

    def test_weights_are_safetensors(self):
        data = (self.whole / "model.safetensors").read_bytes()
        (length,) = struct.unpack("<Q", data[:8])
        header = json.loads(data[8 : 8 + length])
        ends = [
            entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"
        ]
        self.assertEqual(max(ends), len(data) - 8 - length)
        self.assertEqual(length % 8, 0)


if __name__ == "__main__":
    ENGINE = str(pathlib.Path(sys.argv.pop(1)).resolve())
    unittest.main()
