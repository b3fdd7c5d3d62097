"""Every import inside of the package, also one in a function, names a module or a name that exists.

Adapters import much of it only inside of an engine, so that no other test here runs the import.
"""

import ast
import pathlib
import unittest

import moetrace

ROOT = pathlib.Path(moetrace.__file__).parent


def relative_imports(path):
    """(module's path relative to ROOT, name) of each `from . import name` in a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            folder = path.parents[node.level - 1]
            for alias in node.names:
                yield folder.joinpath(*(node.module or "").split(".")), alias.name


def is_module(path):
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def names_in(path):
    file = path.with_suffix(".py")
    file = file if file.is_file() else path / "__init__.py"
    tree = ast.parse(file.read_text())
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, (ast.ImportFrom, ast.Import)):
            names |= {alias.asname or alias.name for alias in node.names}
    return names


class Modules(unittest.TestCase):
    def test_imports_of_each_module(self):
        checked = 0
        for path in sorted(ROOT.rglob("*.py")):
            for module, name in relative_imports(path):
                with self.subTest(path.relative_to(ROOT), module=module.relative_to(ROOT)):
                    checked += 1
                    self.assertTrue(is_module(module), "no such module")
                    if not is_module(module / name):
                        self.assertIn(name, names_in(module))
        self.assertGreater(checked, 40)


if __name__ == "__main__":
    unittest.main(verbosity=2)
