"""Every word that the error tables of docs/operations.md quote comes out of the real parts, and its cure helps."""

import importlib
import pkgutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

import tests.kits.error_table as kit
from tests.kits.error_table.registry import PROVOCATIONS, Provocation, quoted, rows, says
from tests.kits.error_table.scene import Scene

for module in pkgutil.iter_modules(kit.__path__):
    importlib.import_module(f"{kit.__name__}.{module.name}")

NOT_HERE = {
    "the file system does not answer": "needs a network file system whose server is gone",
    "vLLM refuses": "needs the real vLLM; tests/embed_worker/engine/test_vllm.py",
}
"""Words that nothing on one machine brings up → why."""


@pytest.fixture
def scene(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Scene]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Scene(tmp_path, instance, monkeypatch, request.getfixturevalue)


def test_every_row_has_words_that_are_provoked_or_marked() -> None:
    table = rows()
    assert len(table) > 40
    assert all(quoted(row) for row in table), "a row without words"
    words = Counter(word for row in table for word in quoted(row))
    assert not [word for word, times in words.items() if times > 1], "the same words in two rows"
    marked = {word for row in table for word, mark in quoted(row).items() if mark}
    assert marked == set(NOT_HERE)
    provoked = {word for one in PROVOCATIONS for word in one.words}
    assert not words.keys() - marked - provoked, "words that nothing provokes"
    assert not provoked - words.keys(), "provoked, and in no row"


@pytest.mark.slow
@pytest.mark.parametrize("provocation", PROVOCATIONS, ids=lambda one: one.name)
def test_the_words_come_out_and_the_cure_helps(provocation: Provocation, scene: Scene) -> None:
    said = list(provocation.provoke(scene))
    assert said
    for text in said:
        for words in provocation.words:
            assert says(text, words), f"{words!r} is not in what is said:\n{text}"
