"""Every word that the error tables of docs/operations.md quote comes out of the real parts, and its cure helps."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from resources.skypilot.states import ADVICE
from tests.kits.error_table import budget, damage, index, inputs, killed_runs, model, sky, stores, worker
from tests.kits.error_table.registry import ENDINGS, PROVOCATIONS, Provocation, quoted, rows, says
from tests.kits.error_table.scene import Scene

ENDED = re.compile(r"`([A-Z_]+)`(?:, exit code (\d+))?")
REGISTERED = (inputs, stores, damage, index, model, worker, sky, budget, killed_runs)
NOT_HERE = {
    "the file system does not answer": "needs a network file system whose server is gone",
    "vLLM refuses": "needs the real vLLM; tests/embed_worker/engine/test_vllm.py",
}
"""Words that nothing on one machine brings up → why."""


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Scene]:
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


@pytest.mark.slow
@pytest.mark.parametrize("row", [row for row in rows("skypilot.md", ENDINGS) if ENDED.fullmatch(row)])
def test_each_end_of_a_managed_job_is_told_with_what_to_do(row: str, scene: Scene) -> None:
    found = ENDED.fullmatch(row)
    assert found is not None
    status, exit_code = found.groups()
    said = sky.end_of(scene, status, exit_code)
    assert says(said, f"ended as {status}") and says(said, "Full log: `sky jobs logs")
    if exit_code:
        assert says(said, f"exit code {exit_code}")
    if exit_code == "65":
        assert says(said, "another attempt would fail alike") and "attempt 1 of" not in said
    if exit_code == "69":
        assert (
            says(said, "Give the nodes' role read and write access to EMBED_LAKE") and "attempt 1 of 2 failed" in said
        )


def test_the_page_has_each_status_that_ends_a_partition() -> None:
    told = {found[1] for row in rows("skypilot.md", ENDINGS) if (found := ENDED.fullmatch(row))}
    assert told == ADVICE.keys()
