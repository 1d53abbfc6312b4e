"""python -m tests.kits.slurm_lab up|down|status|env|logs|install|purge [--folder X] [--sky-python Y]"""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
from pathlib import Path

from tests.kits.slurm_lab import SlurmLab, install
from tests.kits.slurm_lab.templates import Fakes

ACTIONS = ("up", "down", "status", "env", "logs", "install", "purge")


def main() -> int:
    parser = argparse.ArgumentParser(prog="slurm_lab", description=__doc__)
    parser.add_argument("action", choices=ACTIONS)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "embed-assets-slurm-lab")
    parser.add_argument("--sky-python", type=Path, help="Python of the environment that has SkyPilot")
    parser.add_argument("--cpus", type=int, default=16, help="CPUs that the node pretends to have")
    parser.add_argument("--gpus", type=int, default=0, help="GPUs that the node pretends to have")
    args = parser.parse_args()
    if args.action == "install":
        print("installed:", " ".join(install()) or "nothing was missing")
        return 0
    lab = SlurmLab(args.folder, args.sky_python, Fakes(cpus=args.cpus, gpus=args.gpus))
    if args.action == "up":
        lab.up()
        print(f"up: {lab.url}, infra {lab.infra()}, {lab.seconds} seconds")
    elif args.action == "down":
        lab.down()
    elif args.action == "purge":
        lab.purge()
    elif args.action == "env":
        for name, value in lab.sky.client_env().items():
            print(f"export {name}={shlex.quote(value)}")
    elif args.action == "logs":
        print(lab.logs())
    else:
        for name, pid in lab.status().items():
            print(f"{name:10} {'up, pid ' + str(pid) if pid else 'down'}")
        print("\n".join([*lab.missing(), *lab.outside_connections()]))
        return 0 if all(lab.status().values()) else 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
