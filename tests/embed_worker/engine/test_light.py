"""The encoder that answers a query without vLLM: it gives vLLM's vectors, or leaves the query to it."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from embed_worker.engine.light import LightEngine, Unsupported
from embed_worker.engine.loading import CANARY_TEXTS
from embed_worker.lake.manifests import Canaries
from resources.local.resource import LocalComputeResource
from tests.kits import ROOT
from tests.kits import pipelines as kit
from tests.kits.vllm import MINILM, PYTHON

CONFIG = {"model_type": "bert", "hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1}
CHANGES = [
    ({"model_type": "mpnet"}, {}), ({"hidden_act": "silu"}, {}), ({"position_embedding_type": "relative_key"}, {}),
    ({}, {"attention": "causal"}), ({}, {"hf_overrides": {"num_hidden_layers": 0}}),
]  # fmt: skip
SCRIPT = """
import json, sys
from embed_worker.engine.light import load_light
from embed_worker.lake.manifests import Canaries
from embed_worker.lake.spec import EmbeddingSpec
asked = json.load(sys.stdin)
model = load_light(EmbeddingSpec.model_validate(asked["spec"]), Canaries.model_validate(asked["space"]))
vectors = None if model is None else model.embed_texts(asked["texts"], "").tolist()
print(json.dumps({"vectors": vectors, "vllm": "vllm" in sys.modules or "torch" in sys.modules}))
"""


@pytest.mark.parametrize(("config", "spec"), CHANGES)
def test_another_model_is_for_vllm(tmp_path: Path, config: dict[str, object], spec: dict[str, object]) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**CONFIG, **config}))
    with pytest.raises(Unsupported):
        LightEngine(kit.spec(**spec), tmp_path)


@pytest.mark.vllm
@pytest.mark.xdist_group("vllm")
def test_it_gives_the_workers_vectors_and_leaves_another_space_to_it() -> None:
    texts = ["a heist that goes wrong", "short", "Größe, 東京 — " + "many more words " * 60]
    spec = kit.spec(model="m/MiniLM", location=str(MINILM), dtype="float32", max_tokens=256)
    worker = LocalComputeResource(worker_python=str(ROOT / PYTHON))
    found = np.asarray(worker.embed_queries(spec, [*CANARY_TEXTS, *texts]))
    space = Canaries.of(CANARY_TEXTS, found[: len(CANARY_TEXTS)])
    light = ask(spec.model_dump(mode="json"), space, texts)
    cosines = np.sum(np.asarray(light["vectors"]) * found[len(CANARY_TEXTS) :], axis=1)
    assert cosines.min() >= 0.9999 and not light["vllm"]
    other = Canaries.of(CANARY_TEXTS, found[: len(CANARY_TEXTS)][::-1])
    assert ask(spec.model_dump(mode="json"), other, texts)["vectors"] is None


def ask(spec: dict[str, object], space: Canaries, texts: list[str]) -> dict[str, object]:
    asked = json.dumps({"spec": spec, "space": space.model_dump(mode="json"), "texts": texts})
    done = subprocess.run([str(ROOT / PYTHON), "-c", SCRIPT], input=asked, capture_output=True, text=True, check=True)
    answer: dict[str, object] = json.loads(done.stdout)
    return answer
