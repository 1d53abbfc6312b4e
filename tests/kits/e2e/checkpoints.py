"""Checkpoints of running attempts, seen from outside."""

import json
import threading
from pathlib import Path


class Checkpoints(threading.Thread):
    """Who committed which checkpoint of which partition, watched from outside: commits sweep the records away."""

    def __init__(self, lake: Path) -> None:
        super().__init__(daemon=True)
        self.writers: dict[tuple[str, str], str] = {}
        self._lake, self._over = lake, threading.Event()

    def run(self) -> None:
        while not self._over.wait(0.3):
            for path in self._lake.glob("embedding_shards/*/*/*/*/*/checkpoints/rows-*/*.json"):
                dataset, stride = path.parts[-8], path.parts[-5]
                key = (f"{dataset}-{stride}", path.stem)
                if key in self.writers:
                    continue
                try:
                    self.writers[key] = json.loads(path.read_bytes())["attempt"]
                except (OSError, ValueError, KeyError):
                    continue

    def of(self, partition: str) -> dict[str, str]:
        return {index: attempt for (key, index), attempt in list(self.writers.items()) if key == partition}

    def stop(self) -> None:
        self._over.set()
