#!/usr/bin/env python3
"""Prints the translation units that clang-tidy reads: those of libraries and programs, without CUDA
and without libtorch, whose headers clang 14 can't read. Tests, benchmarks and models would take as
long again.

usage: tidy_units.py BUILD_DIR"""

import json
import pathlib
import re
import sys

# Targets that no user gets, or of libtorch; moetrace_shared has the sources of
# moetrace_producer_core.
INTERNAL = re.compile(r"test|bench|model|stress|emulat|capi_checks|abi_c|moetrace_shared|torch")

build = pathlib.Path(sys.argv[1])
for unit in json.loads((build / "compile_commands.json").read_text()):
    file = pathlib.Path(unit["file"])
    target = re.findall(r"CMakeFiles/([^/]+)\.dir/", unit["command"])[-1]
    skipped = INTERNAL.search(target) or "cmake_pch" in file.name
    if file.suffix in {".c", ".cpp", ".cxx"} and not skipped:
        print(file)
