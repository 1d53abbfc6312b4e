"""Token ids → vLLM's requests, in a thread of their own: what costs the engine's thread nothing costs no GPU second."""

import re
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from embed_worker.engine.base import Key

BATCH = 64
"""Requests that are prepared and handed over together."""

Prepared = tuple[Key, Any]
"""The request, or the engine's refusal of it as text."""


class Preparation:
    """Requests on their way to an engine, in order. Used by the engine's thread alone."""

    def __init__(self, engine: Any, params: Any, refusals: tuple[type[Exception], ...]) -> None:
        self._engine, self._params, self._refusals = engine, params, refusals
        self._tasks = engine.get_supported_tasks()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="requests")
        self._taken: list[tuple[Key, str, tuple[int, ...]]] = []
        self._batches: deque[Future[list[Prepared]]] = deque()
        self._ready: deque[Prepared] = deque()
        self.size = 0

    def put(self, key: Key, name: str, ids: tuple[int, ...]) -> None:
        self._taken.append((key, name, ids))
        self.size += 1
        if len(self._taken) >= BATCH:
            self.hand_over()

    def hand_over(self) -> None:
        """Nothing more is at hand: what was put is prepared though it makes no full batch."""
        if self._taken:
            self._batches.append(self._thread.submit(self._prepare, self._taken))
            self._taken = []

    def take(self, most: int, block: bool) -> Iterator[Prepared]:
        """Up to `most` that are prepared; with `block` it waits for the first ones."""
        for _ in range(most):
            if not self._ready and self._batches and (block or self._batches[0].done()):
                self._ready.extend(self._batches.popleft().result())
            if not self._ready:
                return
            self.size -= 1
            yield self._ready.popleft()
            block = False

    def close(self) -> None:
        self._thread.shutdown(cancel_futures=True)

    def _prepare(self, taken: Iterable[tuple[Key, str, tuple[int, ...]]]) -> list[Prepared]:
        prepared: list[Prepared] = []
        for key, name, ids in taken:
            # Typed, so that vLLM need not find out what it is.
            prompt = {"type": "token", "prompt_token_ids": list(ids)}
            try:
                request = self._engine.input_processor.process_inputs(name, prompt, self._params, self._tasks)
            except self._refusals as error:
                # The first sentence without its own figures: reasons are counted by their text.
                prepared.append((key, "engine: " + re.sub(r"\s*\([^)]*\)", "", str(error).split(". ")[0])))
            else:
                prepared.append((key, request))
        return prepared
