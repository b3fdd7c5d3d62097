"""The plugins' entry points, without their engines: what MOETRACE turns on, and what is loaded."""

import os
import subprocess
import sys
import unittest

# An engine with a handler of its own, and a root logger that shows names.
LOGGING = (
    "import logging, sys, moetrace.vllm\n"
    "logging.basicConfig()\n"
    "engine, log = logging.getLogger('vllm'), logging.getLogger('moetrace')\n"
    "{0}\n"
    "moetrace.vllm.register()\n"
    "{1}\n"
    "log.warning('moetrace: a warning')\n"
    "log.info('moetrace: more')\n"
    "log.debug('moetrace: most')\n"
)
HANDLER = (
    "engine.propagate, handler = False, logging.StreamHandler()\n"
    "engine.addHandler(handler); engine.setLevel('INFO')\n"
    "handler.setFormatter(logging.Formatter('%(levelname)s %(message)s'))"
)
PATCHED = (
    "import sys, moetrace.{0}\n"
    "before = list(sys.meta_path)\n"
    "moetrace.{0}.register()\n"
    "assert 'torch' not in sys.modules and 'numpy' not in sys.modules\n"
    "print(sys.meta_path != before)\n"
)


class Plugins(unittest.TestCase):
    def register(self, engine, value, **more):
        """Whether anything is to be patched, and the text on stderr."""
        environment = {key: text for key, text in os.environ.items() if key != "MOETRACE"}
        environment |= {**({} if value is None else {"MOETRACE": value}), **more}
        done = subprocess.run(
            [sys.executable, "-B", "-c", PATCHED.format(engine)],
            env=environment,
            text=True,
            capture_output=True,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout == "True\n", done.stderr

    def said(self, value, before="", after=""):
        environment = {**os.environ, "MOETRACE": value, "MOETRACE_LIBRARY": "/nowhere"}
        done = subprocess.run(
            [sys.executable, "-B", "-c", LOGGING.format(before, after)],
            env=environment,
            text=True,
            capture_output=True,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stderr.splitlines()

    def test_lines_go_where_the_engines_go(self):
        not_traced, *more = self.said("1", before=HANDLER)
        self.assertTrue(
            not_traced.startswith("WARNING moetrace: this process is not traced: "), not_traced
        )
        self.assertEqual(more, ["WARNING moetrace: a warning", "INFO moetrace: more"])
        not_traced, *more = self.said("1", after=HANDLER)
        self.assertEqual(
            more,
            ["WARNING moetrace: a warning", "INFO moetrace: more"],
            "it may be configured later",
        )

    def test_lines_stay_where_they_are(self):
        """MOETRACE unset, an engine without handlers, and a user's own handler."""
        plain = "WARNING:moetrace:moetrace: a warning"
        self.assertEqual(self.said("", before=HANDLER), [plain])
        self.assertEqual(self.said("1")[1:], [plain])
        self.assertEqual(
            self.said("1", before=HANDLER + "; log.addHandler(logging.NullHandler())")[1:], [plain]
        )

    def test_off(self):
        for value in (None, "", "0", "no", "False", "OFF"):
            for engine in ("vllm", "sglang"):
                self.assertEqual(self.register(engine, value), (False, ""), value)

    def test_on(self):
        for value in ("1", "yes", "True", "ON"):
            self.assertEqual(self.register("sglang", value), (True, ""), value)

    def test_neither_is_one_line(self):
        for engine in ("vllm", "sglang"):
            patched, said = self.register(engine, "maybe")
            self.assertFalse(patched)
            self.assertRegex(said, r"^moetrace: invalid value 'maybe' for MOETRACE: [^\n]+\n$")

    def test_without_the_library(self):
        """The library is only looked for where MOETRACE is set. The engine starts."""
        for engine in ("vllm", "sglang"):
            self.assertEqual(self.register(engine, None, MOETRACE_LIBRARY="/nowhere"), (False, ""))
            patched, said = self.register(engine, "1", MOETRACE_LIBRARY="/nowhere")
            self.assertFalse(patched)
            self.assertRegex(
                said, r"^moetrace: this process is not traced: libmoetrace: /nowhere: [^\n]+\n$"
            )


if __name__ == "__main__":
    unittest.main(verbosity=2)
