"""Where the real vLLM and the real model lie."""

import os
from pathlib import Path

from tests.kits import ROOT

PYTHON = Path(os.environ.get("EMBED_WORKER_PYTHON", ".venv-worker/bin/python"))
MINILM = ROOT / ".demo/models/all-MiniLM-L6-v2"
