"""The ctypes structs are the headers': a C program prints sizes and offsets, and they are compared.

python3 layout_test.py CC SOURCE_DIR
"""

import ctypes
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

from moetrace.reading import _reader_library
from moetrace.recording import _library

CC, SOURCE = (
    sys.argv[1:3] if len(sys.argv) > 2 else ("cc", str(pathlib.Path(__file__).resolve().parents[2]))
)
STRUCTS = {
    "moetrace_options": _library.Options,
    "moetrace_span": _library.Span,
    "moetrace_totals": _library.Totals,
    "moetrace_layer_mask": _library.LayerMask,
    "moetrace_layer_entry": _library.LayerEntry,
    "moetrace_reader_place": _reader_library.Place,
    "moetrace_reader_rows": _reader_library.Rows,
    "moetrace_reader_info": _reader_library.Info,
    "moetrace_reader_request": _reader_library.Request,
    "moetrace_reader_line": _reader_library.Line,
    "moetrace_reader_lines": _reader_library.Lines,
}


def of_the_header(expressions):
    """The value of each C expression, as the compiler sees it."""
    prints = "\n".join(
        f'  printf("%lld\\n", (long long)({expression}));' for expression in expressions
    )
    includes = "".join(
        f"#include {header}\n"
        for header in ("<stdio.h>", '"trace/reader.h"', '"producer/producer.h"')
    )
    program = f"{includes}int main(void) {{\n{prints}\n  return 0;\n}}\n"
    with tempfile.TemporaryDirectory(prefix="moetrace-test.") as folder:
        source = pathlib.Path(folder, "layout.c")
        source.write_text(program)
        subprocess.run(
            [CC, "-std=c11", f"-I{SOURCE}", "-o", f"{folder}/layout", source], check=True
        )
        out = subprocess.run(
            [f"{folder}/layout"], check=True, capture_output=True, text=True
        ).stdout
    return dict(zip(expressions, map(int, out.split())))


class Layout(unittest.TestCase):
    def test_structs(self):
        expected = {f"sizeof({name})": ctypes.sizeof(struct) for name, struct in STRUCTS.items()}
        for name, struct in STRUCTS.items():
            for field, _ in struct._fields_:
                descriptor = getattr(struct, field)
                expected[f"offsetof({name}, {field})"] = descriptor.offset
                expected[f"sizeof((({name}*)0)->{field})"] = descriptor.size
        self.assertEqual(of_the_header(list(expected)), expected)

    def test_constants(self):
        types = {**_library.ID_TYPES, **_library.WEIGHT_TYPES}
        expected = {f"MOETRACE_{name.upper()}": value for name, value in types.items()}
        expected["MOETRACE_UNKNOWN_TOKENS"] = _library.UNKNOWN_TOKENS
        expected["MOETRACE_UNKNOWN_POSITION"] = _library.UNKNOWN_POSITION - (
            1 << 64
        )  # printed as a signed number
        for name in "RENORMALIZED BIASED TABLE ZERO_EXPERTS SCALING GROUPS".split():
            expected[f"MOETRACE_LAYER_{name}_KNOWN"] = getattr(_library, f"{name}_KNOWN")
        for name in "RENORMALIZED BIASED TABLE".split():
            expected[f"MOETRACE_LAYER_{name}"] = getattr(_library, f"{name}_KNOWN") << 1
        names = (
            "ALL STEP REQUEST REQUEST_END LOSS TORN BASE CONTROL END RING_FULL EVENT_RING_FULL "
            "CLOSED PRODUCER_DIED CONTINUED BAD_SEGMENT"
        )
        for name in names.split():
            expected[f"MOETRACE_READER_{name}"] = getattr(_reader_library, name)
        self.assertEqual(of_the_header(list(expected)), expected)

    def test_the_library_has_every_function(self):
        library = _library.load()
        for name in _library.SIGNATURES:
            self.assertTrue(hasattr(library, f"moetrace_{name}"), name)

    @unittest.skipUnless("MOETRACE_READER_LIBRARY" in os.environ, "the trace reader is not built")
    def test_the_reader_library_has_every_function(self):
        _reader_library.load()


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
