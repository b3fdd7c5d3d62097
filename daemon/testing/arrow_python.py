"""Import it first in a test that needs pyarrow, polars and DuckDB, which Debian 12 has not: it runs
the test with the python of .venv/arrow, where scripts/test installs them from PyPI. Without that
it exits with 77."""

import importlib
import os
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv/arrow/bin/python"

try:
    for name in ("duckdb", "numpy", "polars", "pyarrow"):
        importlib.import_module(name)
except ImportError:
    if PYTHON.exists() and "arrow" not in pathlib.Path(sys.prefix).name:
        os.execv(PYTHON, [PYTHON, "-B", *sys.argv])
    print("skipped: pyarrow, polars and duckdb are not installed; run scripts/test with PyPI")
    sys.exit(77)
sys.path.insert(0, str(ROOT / "python"))
