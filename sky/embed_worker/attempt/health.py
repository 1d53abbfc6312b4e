"""A GPU may go bad in mid-job. The canary texts, embedded again, tell it from texts that have no vector."""

import numpy as np

from embed_worker.attempt.open_checkpoint import OpenCheckpoint
from embed_worker.engine.base import Key, Request, embed_list
from embed_worker.engine.loading import CANARY_TEXTS, LoadedModel, canary_sequences
from embed_worker.errors import SickEngine
from embed_worker.lake.manifests import MIN_COSINE, Canaries


class Health:
    """Holds back checkpoints with sequences that got no vector until the canaries have come out right beside them."""

    def __init__(self, model: LoadedModel) -> None:
        self._model = model
        self._sequences = canary_sequences(model.tokenizer, model.spec)
        self._held: dict[int, tuple[OpenCheckpoint, dict[int, np.ndarray]]] = {}

    def question(self, checkpoint: OpenCheckpoint) -> list[Request]:
        """Holds a checkpoint; the canaries that decide on it. Their keys are negative, as no checkpoint's is."""
        self._held[~checkpoint.index] = checkpoint, {}
        return [((~checkpoint.index, number), ids) for number, ids in enumerate(self._sequences)]

    def answer(self, key: Key, vector: np.ndarray | str) -> OpenCheckpoint | None:
        """Takes a canary's vector; with the last one it lets the checkpoint go. Raises SickEngine."""
        held, number = key
        if isinstance(vector, str):
            raise SickEngine(f"the engine now refuses a plain text: {vector}")
        checkpoint, vectors = self._held[held]
        vectors[number] = vector
        if len(vectors) < len(CANARY_TEXTS):
            return None
        del self._held[held]
        self._compare(np.stack([vectors[i] for i in range(len(CANARY_TEXTS))]))
        return checkpoint

    def check(self) -> None:
        """Embeds the canaries while the engine does nothing else. Raises SickEngine."""
        try:
            vectors = embed_list(self._model.engine, self._sequences)
        except ValueError as error:
            raise SickEngine(f"the engine now refuses a plain text: {error}") from error
        self._compare(vectors)

    def _compare(self, vectors: np.ndarray) -> None:
        cosine = self._model.canaries.worst_cosine(Canaries.of(CANARY_TEXTS, vectors))
        if not np.isfinite(vectors).all() or cosine < MIN_COSINE:
            raise SickEngine(
                f"plain texts no longer get the vectors that they got at the start (cosine {cosine:.4f}, {MIN_COSINE} "
                "is wanted): this GPU, or this machine's memory, has gone bad. What may be wrong is made anew elsewhere"
            )
