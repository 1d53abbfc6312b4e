"""Real workers on a lake, whose pace a test sets while they work."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.kits import ROOT
from tests.kits import pipelines as kit
from tests.kits.pipelines import Prepared
from tests.kits.processes import wait_until

STRIDES = 24
WORKER = """
import sys, time
from pathlib import Path
import embed_worker.__main__ as worker
from embed_worker.engine.hash import HashEngine

pace = Path(sys.argv[1])
quick = HashEngine.embed
def slow(self, source):
    for result in quick(self, source):
        yield result
        time.sleep(float(pace.read_text()))
HashEngine.embed = slow
sys.argv = ["embed_worker", *sys.argv[2:]]
code = worker.main()
sys.stderr.flush()
import os
os._exit(code)
"""
"""The real worker with the hash engine; a row takes as long as a file says, so that a test can hold and let go."""


class PacedFleet:
    """A dataset in a lake and worker processes on it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.pace = folder, folder / "pace"
        self.set_pace(0.2)
        source = kit.write_jsonl(folder / "source.jsonl", kit.texts(STRIDES * 40))
        self.prepared = Prepared(folder / "lake", str(source), name="reviews", strides=STRIDES)
        self.lake = folder / "lake"
        self.processes: list[subprocess.Popen[bytes]] = []

    def set_pace(self, seconds: float) -> None:
        temporary = self.folder / "pace.tmp"
        temporary.write_text(str(seconds))
        temporary.replace(self.pace)

    def start(self, *strides: int, **env: str) -> subprocess.Popen[bytes]:
        urls = [
            self.prepared.resource.write_job(self.prepared.job(s, heartbeat_seconds=0.3, checkpoint_rows=4))
            for s in strides
        ]
        log = (self.folder / "workers.log").open("ab")
        process = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(self.pace), *urls], stdout=log, stderr=log, cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT / "sky")} | env,
        )  # fmt: skip
        log.close()
        self.processes.append(process)
        return process

    def in_hand(self, *strides: int) -> int:
        """The one of these partitions that is being embedded; holds a worker's pace long enough to act on it."""
        found: list[int] = []

        def one() -> bool:
            beats = [
                (stride, json.loads(path.read_bytes()))
                for stride in strides
                for path in (self.lake / f"progress/reviews-{stride:05d}").glob("*.json")
            ]
            found[:] = [n for n, beat in beats if beat["phase"] == "embedding" and 0 < beat["rows_done"] < 32]
            return len(found) == 1

        wait_until(one, f"one of {strides} in its middle")
        return found[0]

    def stop(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()
