"""A real SkyPilot on a real Slurm, on loopback, for the end-to-end tests: see `lab.SlurmLab`."""

from tests.kits.slurm_lab.lab import SlurmLab
from tests.kits.slurm_lab.needs import install, missing

__all__ = ["SlurmLab", "install", "missing"]
