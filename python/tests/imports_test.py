"""moetrace.recording._imports: callbacks after another module's import."""

import pathlib
import sys
import tempfile
import unittest

from moetrace.recording._imports import when_imported


class WhenImported(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="moetrace-test.")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        sys.path.insert(0, folder.name)
        self.addCleanup(sys.path.remove, folder.name)
        self.calls = []

    def module(self, name, text):
        (self.folder / f"{name}.py").write_text(text)
        self.addCleanup(sys.modules.pop, name, None)

    def test_later_once_and_whole(self):
        self.module("late_module", "value = 1\n")
        when_imported("late_module", lambda module: self.calls.append(module.value))
        when_imported("late_module", lambda module: setattr(module, "value", 2))
        self.assertEqual(self.calls, [])
        import late_module
        import late_module as again

        self.assertEqual((self.calls, late_module.value, again.value), ([1], 2, 2))

    def test_now_if_it_is_imported(self):
        when_imported("tempfile", self.calls.append)
        self.assertEqual(self.calls, [tempfile])

    def test_a_module_that_fails_is_patched_when_it_succeeds(self):
        self.module("bad_module", "1 / 0\n")
        when_imported("bad_module", lambda module: self.calls.append(module.value))
        with self.assertRaises(ZeroDivisionError):
            __import__("bad_module")
        (self.folder / "bad_module.py").write_text("value = 'mended'\n")
        __import__("bad_module")
        self.assertEqual(self.calls, ["mended"])

    def test_a_callback_that_fails_is_one_line(self):
        self.module("plain_module", "")
        when_imported("plain_module", lambda module: module.nothing)
        when_imported("plain_module", self.calls.append)
        with self.assertLogs("moetrace") as logs:
            import plain_module
        self.assertEqual(len(logs.output), 1)
        self.assertIn("plain_module is not traced: AttributeError", logs.output[0])
        self.assertEqual(self.calls, [plain_module])


if __name__ == "__main__":
    unittest.main(verbosity=2)
