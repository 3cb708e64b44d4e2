"""TaskProcessors of examples/code_checks.yaml: measure the packages of a source tree and write a report.

They read Python files below CODE_CHECKS_ROOT (default: the working directory of the worker) and nothing else.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from apps.workflows.engine.processors import TaskProcessor, WorkItem, register

_Function = (ast.FunctionDef, ast.AsyncFunctionDef)
_FORKS = (ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.Assert, ast.comprehension)
_TODO = re.compile(r"#.*\b(TODO|FIXME|XXX)\b")
PASSED_OVER = {"node_modules", "site-packages", "var", "migrations"}


class Outside(Exception):
    """The folder is not below the one that may be read."""


def root() -> Path:
    return Path(os.environ.get("CODE_CHECKS_ROOT") or Path.cwd()).resolve()


def below(folder: str, package: str = "") -> Path:
    path = (root() / folder / package).resolve()
    if not path.is_relative_to(root()) or not path.is_dir():
        raise Outside(f"{folder}/{package} is no folder that may be read")
    return path


def sources(package: Path) -> Iterator[Path]:
    """The modules of a package, those of the packages inside it left out: they are packages of their own."""
    return (path for path in sorted(package.glob("*.py")) if path.is_file() and not path.is_symlink())


@register
class FindPackages(TaskProcessor):
    """The folders that hold Python modules, as paths below `folder`."""

    def execute_task(self, item: WorkItem) -> list[str]:
        top = below(item.input.get("folder", "."))
        found = []
        for folder, names, files in os.walk(top):
            names[:] = sorted(name for name in names if not name.startswith(".") and name not in PASSED_OVER)
            if "pyvenv.cfg" in files:  # a virtual environment: other people's code
                names.clear()
                continue
            if any(name.endswith(".py") for name in files):
                found.append(Path(folder).relative_to(top).as_posix())
        return found


@register
class CheckPackage(TaskProcessor):
    """One check on one package: `{"package", "check", "value", "unit", "worst"}`. One instance does the items of a message."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        _trees.cache_clear()  # files change between sessions

    def execute_task(self, item: WorkItem) -> dict[str, Any]:
        package, check = item.input["package"], item.input["check"]
        measure = CHECKS.get(check)
        if measure is None:
            raise ValueError(f"there is no check {check!r}; there are {', '.join(CHECKS)}")
        value, unit, worst = measure(below(item.input.get("folder", "."), package))
        return {"package": package, "check": check, "value": value, "unit": unit, "worst": worst}

    def validate_result(self, item: WorkItem, result: Any) -> Any:
        if not isinstance(result.get("value"), (int, float)):
            raise ValueError("a check gives a number")
        return result


@register
class WriteReport(TaskProcessor):
    """A table in Markdown, a row for each package, a column for each check."""

    def execute_task(self, item: WorkItem) -> str:
        found = item.input["findings"]["results"]
        checks = list(dict.fromkeys(one["check"] for one in found))
        cells: dict[str, dict[str, Any]] = {}
        for one in found:
            cells.setdefault(one["package"], {})[one["check"]] = one
        units = {one["check"]: one["unit"] for one in found}
        titles = ["package", *(f"{check} ({units[check]})" for check in checks)]
        rows = [[package, *(_text(of.get(check)) for check in checks)] for package, of in sorted(cells.items())]
        widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
        lines = [f"| {' | '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))} |" for row in (titles, *rows)]
        lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
        said = ", ".join((_count(len(cells), "package"), _count(len(checks), "check"), _count(len(found), "finding")))
        return "\n".join([said, "", *lines, "", *_worst(found, checks)])


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _text(one: dict[str, Any] | None) -> str:
    return "-" if one is None else f"{one['value']:g}"


def _worst(found: list[dict[str, Any]], checks: list[str]) -> Iterator[str]:
    for check in checks:
        of = [one for one in found if one["check"] == check and one["worst"]]
        if of:
            top = min(of, key=lambda one: one["value"]) if check == "docstrings" else max(of, key=lambda one: one["value"])
            yield f"{check}: {top['package']} {top['value']:g} {top['unit']}, {top['worst']}"


# ---- the checks: a folder -> (value, its unit, where it is worst) ------------------------------------------


def _complexity(package: Path) -> tuple[float, str, str]:
    """McCabe's number of the most complex function."""
    scored = [(_forks(node) + 1, f"{path.name}:{node.lineno} {node.name}") for path, tree in _trees(package) for node in _definitions(tree)
              if isinstance(node, _Function)]  # fmt: skip
    score, where = max(scored, default=(0, ""))
    return score, "most", where


def _forks(function: ast.AST) -> int:
    found = 0
    for node in ast.walk(function):
        if isinstance(node, ast.BoolOp):
            found += len(node.values) - 1
        elif isinstance(node, ast.Match):
            found += len(node.cases)
        elif isinstance(node, _FORKS):
            found += 1
    return found


def _docstrings(package: Path) -> tuple[float, str, str]:
    """Percent of modules, public classes and public functions that say what they are."""
    nodes = [
        (path, node)
        for path, tree in _trees(package)
        if tree.body  # an empty module has nothing to say
        for node in (tree, *_definitions(tree))
        if isinstance(node, ast.Module) or not node.name.startswith("_")
    ]
    bare = [(path, node) for path, node in nodes if ast.get_docstring(node, clean=False) is None]
    if not nodes:
        return 100, "%", ""
    where = f"first without: {bare[0][0].name} {getattr(bare[0][1], 'name', '')}".strip() if bare else ""
    return round(100 * (len(nodes) - len(bare)) / len(nodes)), "%", where


def _definitions(inside: ast.AST) -> Iterator[Any]:
    """Functions and classes, those in others too; statements only, which is far less than every node."""
    for node in (node for name in ("body", "orelse", "handlers", "finalbody") for node in getattr(inside, name, ())):
        if isinstance(node, (*_Function, ast.ClassDef)):
            yield node
        yield from _definitions(node)


def _todos(package: Path) -> tuple[float, str, str]:
    marked = [f"{path.name}:{number}" for path in sources(package) for number, line in enumerate(_lines(path), 1) if _TODO.search(line)]
    return len(marked), "count", marked[0] if marked else ""


def _size(package: Path) -> tuple[float, str, str]:
    lengths = [(len(_lines(path)), path.name) for path in sources(package)]
    longest, name = max(lengths, default=(0, ""))
    return sum(lines for lines, _ in lengths), "lines", f"longest {name} ({longest})" if name else ""


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="replace").splitlines()


@lru_cache(maxsize=4)
def _trees(package: Path) -> tuple[tuple[Path, ast.Module], ...]:
    """Read once for all checks of a package that come in the same message; the next one reads again."""
    return tuple(_parsed(package))


def _parsed(package: Path) -> Iterator[tuple[Path, ast.Module]]:
    for path in sources(package):
        try:
            yield path, ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):
            continue  # not Python of this version; `size` still counts it


CHECKS = {"complexity": _complexity, "docstrings": _docstrings, "todos": _todos, "size": _size}
