"""SkyPilot's set-up of a Slurm login writes into the home of its user. Remember what was there; clean up after.

HOME of ssh sessions comes from /etc/passwd, so it cannot be moved into the lab's folder.
"""

from __future__ import annotations

import json
import os
import pwd
from pathlib import Path

from tests.kits.slurm_lab.layout import Layout

_FILES = (".sky_ssh_rc", ".ssh/skypilot_host_key", ".ssh/skypilot_host_key.pub")
_SOURCE = "source ~/.sky_ssh_rc"


def _home() -> Path:
    return Path(pwd.getpwuid(os.getuid()).pw_dir)


def remember(layout: Layout) -> None:
    """Write down, at the first start, which of SkyPilot's traces were there before us."""
    note = layout.root / "footprint.json"
    if note.exists():
        return
    home = _home()
    paths = (*_FILES, ".ssh", ".sky", ".bashrc", ".ssh/authorized_keys")
    before = {path: (home / path).exists() for path in paths}
    bashrc = home / ".bashrc"
    before["sourced"] = bashrc.exists() and _SOURCE in bashrc.read_text().splitlines()
    note.write_text(json.dumps(before))


def clean(layout: Layout) -> None:
    """Remove what SkyPilot added since `remember`, and nothing else."""
    note = layout.root / "footprint.json"
    if not note.exists():
        return
    before, home = json.loads(note.read_text()), _home()
    for path in _FILES:
        if not before[path]:
            (home / path).unlink(missing_ok=True)
    if not before["sourced"]:
        _drop_lines(home / ".bashrc", {_SOURCE}, after_blank=True)
    keys = {key.read_text().split()[1] for key in layout.home.glob(".sky/clients/*/ssh/sky-key.pub")}
    authorized = home / ".ssh" / "authorized_keys"
    if authorized.exists():
        _drop_lines(authorized, {line for line in authorized.read_text().splitlines() if keys & set(line.split())})
        if not before[".ssh/authorized_keys"] and not authorized.read_text().strip():
            authorized.unlink()
    if not before[".bashrc"] and (home / ".bashrc").exists() and not (home / ".bashrc").read_text().strip():
        (home / ".bashrc").unlink()
    for folder in (".ssh", ".sky"):
        if not before[folder] and (home / folder).is_dir() and not any((home / folder).iterdir()):
            (home / folder).rmdir()
    note.unlink()


def _drop_lines(file: Path, lines: set[str], after_blank: bool = False) -> None:
    if not file.exists() or not lines:
        return
    kept: list[str] = []
    for line in file.read_text().splitlines(keepends=True):
        if line.rstrip("\n") not in lines:
            kept.append(line)
        elif after_blank and kept and not kept[-1].strip():
            kept.pop()  # SkyPilot puts an empty line before its own
    if "".join(kept) != file.read_text():
        file.write_text("".join(kept))
