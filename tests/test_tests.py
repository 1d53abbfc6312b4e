"""The rules of the tests: one topic a file, kits for what several need, and a map that is true."""

import ast
import re
from collections import defaultdict
from pathlib import Path

from tests.kits import ROOT
from tests.kits.imports import modules

TESTS = sorted((ROOT / "tests").rglob("*.py"))
KITS = [path for path in TESTS if path.is_relative_to(ROOT / "tests/kits")]
MAX_LINES = 330
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "tests/README.md"]


def name_of(path: Path) -> str:
    """As one imports it."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def test_no_test_imports_a_test() -> None:
    assert len(TESTS) > 50
    for path in TESTS:
        found = [m for m in modules(path) if m.startswith("tests.") and not m.startswith("tests.kits")]
        assert not found, f"{path} imports {found}; what several tests need is in tests/kits"


def test_no_file_is_too_long() -> None:
    for path in TESTS:
        lines = len(path.read_text().splitlines())
        assert lines <= MAX_LINES, f"{path} has {lines} lines: a second topic is in it"


def test_every_file_says_what_it_is() -> None:
    for path in TESTS:
        assert ast.get_docstring(ast.parse(path.read_text())) or (path.name == "__init__.py" and path not in KITS), path


def test_every_kit_is_used() -> None:
    """By a test, by another kit, or started by its name."""
    texts = {path: path.read_text() for path in (*TESTS, ROOT / "Makefile", *(ROOT / "scripts").iterdir())}
    imported = {path: set(modules(path)) for path in TESTS}
    assert len(KITS) > 30
    for kit in KITS:
        if kit.name in ("__init__.py", "__main__.py"):
            continue
        name, file = name_of(kit), f"{kit.parent.name}/{kit.name}"
        by_import = any(one == name or one.startswith(f"{name}.") for p in TESTS if p != kit for one in imported[p])
        by_name = any(name in text or file in text or f'"{kit.name}"' in text for p, text in texts.items() if p != kit)
        assert by_import or by_name, f"nobody uses {name}"


def test_a_class_of_the_kits_has_its_name_for_itself() -> None:
    where: defaultdict[str, list[str]] = defaultdict(list)
    for path in TESTS:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                where[node.name].append(name_of(path))
    for name, found in where.items():
        assert len(found) == 1 or not any(one.startswith("tests.kits") for one in found), f"{name} is in {found}"


def test_every_kit_is_on_the_map() -> None:
    text = (ROOT / "tests/README.md").read_text()
    for kit in KITS:
        folder = kit.parent.name if kit.parent.name != "kits" else kit.stem
        word = folder if kit.name in ("__init__.py", "__main__.py") or folder == "slurm_lab" else kit.stem
        assert word == "__init__" or re.search(rf"\b{word}\b", text), f"tests/README.md does not name {kit}"


def test_pages_name_tests_that_exist() -> None:
    for page in PAGES:
        for path in re.findall(r"\btests/[\w./-]*\w", page.read_text()):
            assert (ROOT / path).exists(), f"{page} names {path}"
