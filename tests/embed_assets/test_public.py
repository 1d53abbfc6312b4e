"""What the package offers: the names in its `__all__`, each with a docstring, and nothing else."""

import subprocess
import sys

import embed_assets


def test_each_public_name_is_there_and_says_what_it_is() -> None:
    for name in embed_assets.__all__:
        found = getattr(embed_assets, name)
        assert found.__name__ == name and (found.__doc__ or "").strip(), name
    assert not hasattr(embed_assets, "something_else")


def test_a_name_brings_no_more_than_it_needs() -> None:
    script = "import sys, embed_assets; embed_assets.Lake; print('dagster' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
