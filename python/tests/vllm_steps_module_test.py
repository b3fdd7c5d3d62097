"""The compiled module moetrace_steps: its arguments, its references, and where it is looked for.

MOETRACE_LIBRARY, MOETRACED and MOETRACE_CLI name the library and the programs; the package is on
PYTHONPATH.
"""

import gc
import os
import pathlib
import shutil
import subprocess
import sys
import types
import unittest

import moetrace
import numpy
from vllm_steps_case import Steps, StepsCase, new_request, schedule

PACKAGE = pathlib.Path(moetrace.__file__).resolve().parents[1]


def malformed(**wrong):
    """A new request, of which these fields are wrong."""
    return types.SimpleNamespace(**{**vars(new_request("n", 0, 0, 4)), **wrong})


class StepsModule(StepsCase):
    def test_columns_of_every_kind(self):
        """One array for all passes, larger than the batch; a new one each time; other types,
        strides and alignments."""
        engine = self.engine()
        self.assertTrue(engine.steps.reads_in_place)
        engine.steps.announce([], numpy.zeros(1, "i4"), numpy.zeros(0, "i4"))
        engine.run({"k": 2}, new=[("k", 2, 0, 99)])
        starts, firsts = numpy.zeros(9, "i4"), numpy.zeros(8, "i4")
        columns = [(starts, firsts)] * 4
        columns += [
            (numpy.array([0, 1], "i4"), numpy.zeros(1, kind)) for kind in ("i4", "i8", "u2", ">i4")
        ]
        columns += [
            (numpy.zeros(4, kind)[::2], numpy.zeros(3, kind)[::-1]) for kind in ("i4", "i8")
        ]
        strided = numpy.zeros(4, "i4")[::2], numpy.zeros(4, "i4")[::2]
        bytes = numpy.zeros(13, "u1")
        odd = bytes[1:9].view("i4"), bytes[9:].view("i4")
        columns += [strided] * 3 + [(starts, firsts)] * 2 + [odd] * 2
        for position, (rows, positions) in enumerate(columns, 2):
            rows[1], positions[0] = 1, position
            engine.steps.announce(["k"], rows, positions)
            engine.producer.record(0, numpy.zeros((1, 1), "i4"))
        self.assertEqual(self.positions(self.lines(engine)), {"k": list(range(len(columns) + 2))})

    def test_what_is_wrong_is_said(self):
        engine = self.engine()
        engine.run({"k": 1}, new=[("k", 1, 0, 9)])
        two, one = numpy.array([0, 1], "i4"), numpy.array([1], "i4")
        anonymous = types.SimpleNamespace(
            prompt_token_ids=None, num_computed_tokens=0, sampling_params=None
        )
        for error, call, arguments in (
            (KeyError, "announce", (["unknown"], two, one)),
            (TypeError, "announce", ([7], two, one)),
            (TypeError, "announce", (("k",), two, one)),
            (TypeError, "announce", (["k"], two)),
            (ValueError, "announce", (["k"], two[:1], one)),
            (ValueError, "announce", (["k"], two, one[:0])),
            (ValueError, "announce", (["k", "k"], two, one)),
            (AttributeError, "announce", (["k"], two, 7)),
            (AttributeError, "announce", (["k"], b"12345678", one)),
            (AttributeError, "follow", (None,)),
            (
                TypeError,
                "follow",
                (types.SimpleNamespace(scheduled_new_reqs=None, finished_req_ids=()),),
            ),
            (TypeError, "follow", (schedule(gone={7}),)),
            (UnicodeEncodeError, "follow", (schedule(gone={"\udc80"}),)),
            (AttributeError, "follow", (schedule([7]),)),
            (AttributeError, "follow", (schedule([anonymous]),)),
            *(
                (TypeError, "follow", (schedule([malformed(**wrong)]),))
                for wrong in (
                    {"req_id": 7},
                    {"prompt_token_ids": 7},
                    {"num_computed_tokens": "x"},
                    {"sampling_params": types.SimpleNamespace(max_tokens="x")},
                )
            ),
        ):
            with self.subTest(call=call, arguments=arguments), self.assertRaises(error):
                getattr(engine.steps, call)(*arguments)
        engine.run({"k": 1, "l": 1}, new=[("l", 1, 0, 9)])
        with self.assertRaises(KeyError):  # in the middle of a batch; the next one is whole again
            engine.steps.announce(
                ["l", "unknown"], numpy.arange(3, dtype="i4"), numpy.zeros(2, "i4")
            )
        engine.run({"l": 1, "k": 1})
        self.assertEqual(self.positions(self.lines(engine)), {"k": [0, 1, 2], "l": [0, 1]})
        for wrong in ((), (engine.producer,), (engine.producer, True), (None, True, True)):
            with self.assertRaises((TypeError, AttributeError)):
                Steps(*wrong)

    def test_where_the_module_is_looked_for(self):
        """Beside the library, whichever way it is named; else one line says so."""
        beside = pathlib.Path(os.environ["MOETRACE_LIBRARY"])
        alone = shutil.copytree(
            beside.parent,
            self.rings / "alone",
            symlinks=True,
            ignore=shutil.ignore_patterns("moetrace_steps*", "emulated"),
        )
        renamed = shutil.copy(beside, self.rings / "other.so")

        def load(library, **environment):
            code = (
                "from moetrace.recording import _library\nfrom moetrace import errors\n"
                "try: _library.load_compiled('moetrace_steps')\n"
                "except errors.TracingError as error: print(error)"
            )
            environment = {
                **os.environ,
                "PYTHONPATH": str(PACKAGE),
                "MOETRACE_LIBRARY": str(library),
                **environment,
            }
            return subprocess.run(
                [sys.executable, "-B", "-c", code],
                text=True,
                check=True,
                capture_output=True,
                cwd=beside.parent,
                env=environment,
            ).stdout

        for library, environment in (
            (beside, {}),
            (f"./{beside.name}", {}),
            ("libmoetrace.so.0", {"LD_LIBRARY_PATH": str(beside.parent)}),
        ):
            self.assertEqual(load(library, **environment), "")
        for library, why in (
            (alone / beside.name, "cannot open shared object file"),
            (renamed, "is not called libmoetrace.so"),
        ):
            self.assertRegex(
                load(library),
                f"^moetrace_steps.abi3.so: .*{why}.*; install the package from its wheel, .*\n$",
            )

    def test_nothing_is_kept_that_has_gone(self):
        engine = self.engine()
        ids = [f"r{n}-0000000{n}" for n in range(8)]
        columns = numpy.arange(9, dtype="i4"), numpy.zeros(8, "i4")
        counts = [sys.getrefcount(object) for object in (*ids, *columns)]
        for _ in range(3):
            engine.run(dict.fromkeys(ids, 1), new=[(id, 1, 0, 9) for id in ids])
            engine.steps.announce(list(ids), *columns)
            engine.run({}, gone=ids[1:])
            engine.steps.announce(
                ids[:1], *columns
            )  # passes of the others do not keep finished requests
            engine.positions.clear()
            self.assertEqual([sys.getrefcount(id) for id in ids[1:]], counts[1:8])
            engine.run({}, gone=ids[:1])
        engine.steps.close()
        engine.positions.clear()
        del engine.steps
        gc.collect()
        self.assertEqual([sys.getrefcount(object) for object in (*ids, *columns)], counts)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
