"""What a module imports, read from its text."""

import ast
from collections.abc import Iterator
from pathlib import Path


def imports(path: Path, *, only_at_the_top: bool) -> Iterator[str]:
    """Top-level packages that a module imports."""
    return (module.split(".")[0] for module in modules(path, only_at_the_top=only_at_the_top))


def modules(path: Path, *, only_at_the_top: bool = False) -> Iterator[str]:
    """What a module imports, dotted; at the top means when the module itself is imported."""

    def visit(node: ast.AST) -> Iterator[str]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from (alias.name for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{path}: relative imports hide what is imported"
                yield from (f"{child.module}.{alias.name}" for alias in child.names)
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            for_types = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
            if not (only_at_the_top and (inside or for_types)):
                yield from visit(child)

    yield from visit(ast.parse(path.read_text()))
