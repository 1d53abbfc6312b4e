"""`dagster asset materialize`, in this process."""

from click.testing import CliRunner
from dagster._cli import cli

from tests.kits.location import Location


def materialize(location: Location, *arguments: str, per_run: int = 100) -> str:
    """What the command refuses, or what failed its run; nothing where all is made."""
    env = {"DAGSTER_HOME": str(location.home)}
    file = str(location.file(per_run))
    done = CliRunner().invoke(cli, ["asset", "materialize", "-f", file, *arguments], env=env)
    if not done.exit_code:
        return ""
    return location.failure() if isinstance(done.exception, SystemExit) else str(done.exception)
