"""The measures that keep the code readable, checked on the code itself.

The import rules are contracts of import-linter in pyproject.toml; here are sizes and module heads.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("orchestrator", "actors", "cluster", "serve_app")
MODULE_LINES_MAX = 600
MODULE_LINES_P90_MAX = 400
FUNCTION_LINES_MAX = 70
FUNCTION_LINES_P90_MAX = 35

Function = ast.FunctionDef | ast.AsyncFunctionDef


def modules() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def lines(path: Path) -> int:
    return path.read_text(encoding="utf-8").count("\n")


def functions() -> Iterator[tuple[str, int]]:
    """Yield where each function stands, and its length in lines."""
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, Function):
                where = f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
                yield where, (node.end_lineno or node.lineno) - node.lineno + 1


def ninth_decile(values: list[int]) -> int:
    return sorted(values)[len(values) * 9 // 10]


def test_modules_are_short() -> None:
    sizes = {str(path.relative_to(ROOT)): lines(path) for path in modules()}
    assert {name: size for name, size in sizes.items() if size > MODULE_LINES_MAX} == {}
    assert ninth_decile(list(sizes.values())) <= MODULE_LINES_P90_MAX


def test_functions_are_short() -> None:
    sizes = dict(functions())
    assert {where: size for where, size in sizes.items() if size > FUNCTION_LINES_MAX} == {}
    assert ninth_decile(list(sizes.values())) <= FUNCTION_LINES_P90_MAX


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_says_its_job(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), f"{path} has no docstring"


def test_no_package_is_empty() -> None:
    """A folder comes with its first real content."""
    packages = [path.parent for path in modules() if path.name == "__init__.py"]
    sizes = {str(package.relative_to(ROOT)): sum(map(lines, package.rglob("*.py"))) for package in packages}
    assert {name: size for name, size in sizes.items() if size < 10} == {}
