#!/usr/bin/env python3
"""Prints the translation units that clang-tidy reads: those of the project, without CUDA.

usage: tidy_units.py BUILD_DIR"""

import json
import pathlib
import sys

build = pathlib.Path(sys.argv[1])
for unit in json.loads((build / "compile_commands.json").read_text()):
    file = pathlib.Path(unit["file"])
    if file.suffix in {".c", ".cpp", ".cxx"} and "cmake_pch" not in file.name:
        print(file)
