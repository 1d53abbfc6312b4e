"""A real SkyPilot on a real Slurm, on loopback, for the end-to-end tests: see `lab.SlurmLab`."""

from .lab import SlurmLab
from .needs import install, missing

__all__ = ["SlurmLab", "install", "missing"]
