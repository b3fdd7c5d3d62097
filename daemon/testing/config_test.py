"""Where the collector's settings come from, and what it says of mistakes."""

import os
import pathlib
import re
import subprocess
import unittest

from config_case import ONE_LINE, ConfigCase, layers_of
from harness import MOETRACE

OPERATIONS = pathlib.Path(__file__).resolve().parents[2] / "docs/operations.md"


class Sources(ConfigCase):
    def test_printed_configuration_is_a_configuration(self):
        self.write(layers="0,5-7", quiet=True, plot_dir="pictures")
        env = {"MOETRACE_PLOT_DIR": "elsewhere", "MOETRACE_CONFIG": str(self.config)}
        result = self.moetraced("--print-config", "--no-quiet", "--publish", "none", env=env)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        for line in (
            f'"session": "{self.session}",  // environment variable MOETRACE_SESSION',
            f'"directory": "{self.rings}",  // environment variable MOETRACE_DIR',
            '"output_dir": ".",  // default',
            '"publish": ["none"],  // flag --publish',
            '"plot_dir": "elsewhere",  // environment variable MOETRACE_PLOT_DIR',
            f'"layers": "0,5-7",  // file "{self.config}"',
            '"quiet": false  // flag --no-quiet',
        ):
            self.assertIn(f"  {line}\n", result.stdout)
        self.config.write_text(result.stdout)
        for name in ("MOETRACE_SESSION", "MOETRACE_DIR"):
            del self.env[name]
        again = self.moetraced("--print-config", "--config", self.config)
        self.assertEqual((again.returncode, again.stderr), (0, ""))
        values = [
            re.findall(r'^  ("\w+": .*?),?  //', text, re.M)
            for text in (result.stdout, again.stdout)
        ]
        self.assertEqual(len(values[0]), 17)
        # A file that names the folder leaves out the file's name.
        self.assertEqual([value for value in values[0] if value != '"output": ""'], values[1])

    def test_no_file_is_read_that_nobody_named(self):
        """The service's file is for the service alone: systemd names its folder."""
        (self.folder / "moetraced.json").write_text('{"session": "of-the-service"}')
        del self.env["MOETRACE_SESSION"]
        for env, session in (
            ({}, "default"),
            ({"CONFIGURATION_DIRECTORY": str(self.folder)}, "of-the-service"),
            ({"CONFIGURATION_DIRECTORY": str(self.traces)}, "default"),
        ):
            result = self.moetraced("--print-config", env=env)
            self.assertIn(f'  "session": "{session}",', result.stdout, result.stderr)

    def test_mistakes_in_the_file(self):
        for text, said in (
            (b'{"outputdir": "x"}', 'unknown key "outputdir"; did you mean "output_dir"?'),
            (b'{"once": "yes"}', 'invalid value "yes" for "once": expected true or false'),
            (b'{"publish": "none"}', 'invalid value "none" for "publish": expected a list'),
            (b'{"once": true, "once": true}', 'duplicate key "once"'),
            (b'{\n  "once": true,\n}', "line 3, column 1: syntax error"),
            (b'{"output": "a\n\xff"}', "line 1, column 14: syntax error"),
            (b"", "line 1, column 1: "),
            (b"[]", "expected a JSON object"),
            (b'"\x00', "line 1, column 2: "),
            (b" " * (1 << 20) + b"{}", "has more than 1 MiB"),
        ):
            self.refused_config(text, said)

    def test_files_that_are_none(self):
        fifo = self.folder / "fifo"
        os.mkfifo(fifo)
        for path, said in (
            (self.folder, "is a folder; name a regular file"),
            (fifo, "is a device or a pipe; name a regular file"),
            ("/dev/null", "is a device or a pipe; name a regular file"),
            (self.folder / "missing", "can't read the configuration: No such file or directory"),
            (f"{self.folder}/{'x' * 300}", "can't read the configuration: File name too long"),
        ):
            for arguments, env in (
                (("--config", path), {}),
                ((), {"MOETRACE_CONFIG": str(path)}),
            ):
                result = self.moetraced(*arguments, env=env)
                self.assertEqual(result.returncode, 2)
                self.assertRegex(result.stderr, ONE_LINE)
                self.assertIn(f"moetraced: {path}: {said}", result.stderr)

    def test_mistakes_in_variables(self):
        result = self.moetraced(env={"MOETRACE_ONCE": "maybe"})
        self.assertEqual(
            (result.returncode, result.stderr),
            (2, 'moetraced: invalid value "maybe" for MOETRACE_ONCE: expected true or false\n'),
        )
        result = self.moetraced("--print-config", env={"MOETRACE_PLOTDIR": "x"})
        self.assertEqual(
            (result.returncode, result.stderr),
            (
                0,
                "moetraced: MOETRACE_PLOTDIR: unknown environment variable, ignored; did you mean "
                "MOETRACE_PLOT_DIR?\n",
            ),
        )

    def test_documentation_has_each_setting(self):
        """The table in docs/operations.md says of each setting what --help says."""
        help_text = self.moetraced("--help").stdout
        table = re.findall(
            r"^\| `(\w+)` \| `(--[\w-]+)` \| `(\w+)` \| ([^|]+) \| [^|]+ \|$",
            OPERATIONS.read_text(),
            re.M,
        )
        said = re.findall(
            r"^  (--[\w-]+)(?:(?!^  --).)*?\[\$(\w+); default: [^\]]+; ([^;\]]+)\]$",
            help_text,
            re.M | re.S,
        )
        reload = {
            "SIGHUP reloads it": "applied",
            "SIGHUP reloads it for new traces": "for new traces",
            "a change needs a restart": "needs a restart",
        }
        self.assertEqual(
            [(flag, variable, on_sighup) for _, flag, variable, on_sighup in table],
            [
                (flag, variable, reload[on_sighup])
                for flag, variable, on_sighup in said
                if variable != "MOETRACE_CONFIG"
            ],
        )
        printed = self.moetraced("--print-config").stdout
        self.assertEqual([row[0] for row in table], re.findall(r'^  "(\w+)": ', printed, re.M))

    def test_run_takes_the_rest_from_the_file(self):
        self.write(once=True, layers="1", session="of-the-file", output="elsewhere.jsonl")
        source = self.write_log(3, 500)
        result = subprocess.run(
            [MOETRACE, "run", "-o", self.traces / "t.jsonl", "--publish", "none", "--"]
            + ["sh", "-c", f"for n in 1 2; do '{MOETRACE}' replay --rate 1e9 '{source}'; done"],
            env={**self.env, "MOETRACE_CONFIG": str(self.config)},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
        )
        self.assertEqual(result.returncode, 0, result.stderr)
        # `once` of the file would have ended the collector after the first trace.
        self.assertNotIn("moetraced:", result.stderr)
        for name in ("t.jsonl", "t.2.jsonl"):
            self.assertEqual(layers_of(self.traces / name), {1})

    def test_run_does_not_start_with_bad_settings(self):
        self.config.write_text('{"layer": "1"}')
        result = subprocess.run(
            [MOETRACE, "run", "-o", self.traces / "t.jsonl", "--", "touch", self.folder / "ran"],
            env={**self.env, "MOETRACE_CONFIG": str(self.config)},
            capture_output=True,
            text=True,
            timeout=60,
        )
        self.assertEqual(result.returncode, 2, result.stderr)
        self.assertIn(f'{self.config}: unknown key "layer"; did you mean "layers"?', result.stderr)
        self.assertIn("COMMAND was not started", result.stderr)
        self.assertFalse((self.folder / "ran").exists())


if __name__ == "__main__":
    unittest.main(verbosity=2)
