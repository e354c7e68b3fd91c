"""The size of functions and modules against the house's budget; prints, and never judges."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
BUDGET = "budget: body median 6, p90 22, p99 60, none over 80; module p90 400, none over 500"


def bodies(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Yield each function's name and the lines of its body, its docstring left out."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[1:] if ast.get_docstring(node) is not None else node.body
            yield node.name, (node.end_lineno or 0) - first[0].lineno + 1 if first else 0


def at(ordered: list[int], share: float) -> int:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def figures(folder: str) -> str:
    modules = sorted((ROOT / folder).rglob("*.py"))
    texts = {path: path.read_text(encoding="utf-8") for path in modules}
    functions = [(lines, name, path) for path, text in texts.items() for name, lines in bodies(ast.parse(text))]
    lengths = sorted(lines for lines, _name, _path in functions)
    sizes = sorted(text.count("\n") for text in texts.values())
    longest, name, path = max(functions, key=lambda function: function[0])
    annotated = (
        f"{len(functions)} functions: body median {at(lengths, 0.5)}, p90 {at(lengths, 0.9)}, p99 {at(lengths, 0.99)}"
    )
    most = f"longest {longest} ({path.relative_to(ROOT)}:{name})"
    return f"{folder:<11} {sum(sizes)} lines, {annotated}, {most}; modules p90 {at(sizes, 0.9)}, longest {sizes[-1]}"


def main() -> None:
    for folder in sys.argv[1:] or ["llmbench", "tests", "benchmarks"]:
        print(figures(folder))
    print(BUDGET)


if __name__ == "__main__":
    main()
