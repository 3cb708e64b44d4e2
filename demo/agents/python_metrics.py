"""Measures Python source: functions, cyclomatic complexity, the longest function, how much is documented."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from demo.agents.runtime import CannotAnalyse, run

_Function = ast.FunctionDef | ast.AsyncFunctionDef
_Definition = _Function | ast.ClassDef
_BRANCHES = (ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.Assert, ast.comprehension)


def analyse(data: bytes, path: Path, root: Path) -> dict[str, Any]:
    """Figures of one module. CannotAnalyse when Python itself would not compile it."""
    try:
        tree = ast.parse(data)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        where = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        reason = error.msg if isinstance(error, SyntaxError) else str(error) or type(error).__name__
        raise CannotAnalyse(f"not Python: {reason}{where}") from None
    functions = [(name, node, complexity(node)) for name, node in _functions(tree)]
    public = [tree, *(node for node in ast.walk(tree) if isinstance(node, _Definition) and not node.name.startswith("_"))]
    documented = sum(1 for node in public if ast.get_docstring(node, clean=False))
    figures: dict[str, Any] = {
        "lines": data.count(b"\n") + (not data.endswith(b"\n") and bool(data)),
        "functions": len(functions),
        "classes": sum(isinstance(node, ast.ClassDef) for node in ast.walk(tree)),
        "documented_percent": round(100 * documented / len(public)),
        "most_complex": None,
        "longest": None,
    }
    summary = f"{_count(figures['lines'], 'line')}, no function"
    if functions:
        name, node, score = max(functions, key=lambda entry: entry[2])
        figures["most_complex"] = {"name": name, "line": node.lineno, "complexity": score}
        long_name, long_node, _ = max(functions, key=lambda entry: _length(entry[1]))
        figures["longest"] = {"name": long_name, "line": long_node.lineno, "lines": _length(long_node)}
        summary = f"{_count(len(functions), 'function')}, most complex {name} ({score}), longest {_length(long_node)} lines"
    summary = f"{summary}, {figures['documented_percent']}% documented" if data.strip() else "empty"
    return {"summary": summary, **figures}


def complexity(function: _Function) -> int:
    """McCabe's number: 1 and one more for each way the flow can fork. Functions inside count for themselves."""
    score = 1
    for node in _own_nodes(function):
        if isinstance(node, ast.BoolOp):
            score += len(node.values) - 1
        elif isinstance(node, ast.Match):
            score += len(node.cases)
        elif isinstance(node, _BRANCHES):
            score += 1 + (len(node.ifs) if isinstance(node, ast.comprehension) else 0)
    return score


def _functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, _Function]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, _Definition):
            name = f"{prefix}{node.name}"
            if isinstance(node, _Function):
                yield name, node
            yield from _functions(node, f"{name}.")
        else:
            yield from _functions(node, prefix)


def _own_nodes(function: _Function) -> Iterator[ast.AST]:
    waiting = list(ast.iter_child_nodes(function))
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, _Definition):
            waiting.extend(ast.iter_child_nodes(node))


def _length(node: _Function) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


if __name__ == "__main__":
    run(analyse)
