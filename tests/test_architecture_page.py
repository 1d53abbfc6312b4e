"""docs/architecture.md names what there is."""

import re

from tests.kits import ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text()
PACKAGES = [ROOT, ROOT / "embed_assets", ROOT / "resources", ROOT / "sky", ROOT / "sky" / "embed_worker"]
CODE = "\n".join(path.read_text() for package in PACKAGES[1:] for path in package.rglob("*.py"))
OF_THE_LAKE = ("raw_reviews/", "stride_partitions/", "progress/", "checkpoints/", "vector_index/")


def test_its_modules_and_folders_are_there() -> None:
    paths = {
        word.strip("/")
        for word in re.findall(r"`([a-z_]+/[a-z_./]*)`", PAGE)
        if not word.startswith(OF_THE_LAKE) and "…" not in word
    }
    assert len(paths) > 40
    gone = {p for p in paths if not any((root / p).exists() or (root / f"{p}.py").exists() for root in PACKAGES)}
    assert not gone


def test_its_names_are_in_the_code() -> None:
    names = {
        name
        for word in re.findall(r"`([A-Za-z_.]+)[`(]", PAGE)
        for name in word.split(".")
        if re.search(r"[A-Z]|^_", name)
    }
    names -= {"EMBED_JOB"}
    assert len(names) > 25
    assert not {name for name in names if not re.search(rf"\b{name}\b", CODE)}


def test_its_threads_have_these_names() -> None:
    threads = {name for name in re.findall(r"^\| `([a-z-]+)(?:-…)?`", PAGE, re.MULTILINE) if "/" not in name}
    named = set(re.findall(r'(?:name|thread_name_prefix)="([a-z-]+)"', CODE)) | {"sky-launch"}
    assert {"feeder", "requests", "writer", "heartbeat", "stdin", "prover", "worker-answers"} <= threads & named
