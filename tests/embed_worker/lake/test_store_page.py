"""What docs/lake.md says of stores: the question to another S3 server, and credentials that renew themselves."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kits import ROOT

pytestmark = pytest.mark.slow

PAGE = (ROOT / "docs" / "lake.md").read_text()


def ask(root: str, **environment: str) -> list[str]:
    """The lines that the page's program prints, in a process that knows S3 by its environment alone."""
    found = re.search(r'python - "\$EMBED_LAKE" <<\'END\'\n(.*?)\nEND\n', PAGE, re.DOTALL)
    assert found is not None
    done = subprocess.run(
        [sys.executable, "-", root], input=found[1], env={**os.environ, **environment}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines()


def test_a_store_with_create_only_puts_answers_as_the_page_says(s3_root: str) -> None:
    assert "Both lines must read `True False`." in PAGE
    assert ask(s3_root) == ["True False"] * 2


def test_so_does_another(seaweed_server: str, seaweed_root: str) -> None:
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
    assert ask(seaweed_root, AWS_ENDPOINT_URL=seaweed_server, **keys) == ["True False"] * 2


def test_credentials_of_a_process_renew_themselves(
    s3_root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are asked for again before they expire, here at each put."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    program, config, asked = tmp_path / "credentials", tmp_path / "config", tmp_path / "asked"
    words = r'{"Version":1,"AccessKeyId":"test","SecretAccessKey":"test","SessionToken":"t","Expiration":"%s"}'
    soon = "$(date -u -d '+1 minute' +%Y-%m-%dT%H:%M:%SZ)"
    program.write_text(f"#!/bin/sh\necho x >> {asked}\nprintf '{words}' \"{soon}\"\n")
    program.chmod(0o755)
    config.write_text(f"[profile lake]\nregion = us-east-1\ncredential_process = {program}\n")
    assert ask(s3_root, AWS_PROFILE="lake", AWS_CONFIG_FILE=str(config)) == ["True False"] * 2
    assert asked.read_text().count("x") > 4


@pytest.mark.parametrize("by", ["aws_access_key_id = test\naws_secret_access_key = test", "credential_process = {}"])
def test_credentials_of_a_profile_are_found(
    s3_root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    program, config = tmp_path / "credentials", tmp_path / "config"
    program.write_text('#!/bin/sh\necho \'{"Version": 1, "AccessKeyId": "test", "SecretAccessKey": "test"}\'\n')
    program.chmod(0o755)
    config.write_text(f"[profile lake]\nregion = us-east-1\n{by.format(program)}\n")
    assert ask(s3_root, AWS_PROFILE="lake", AWS_CONFIG_FILE=str(config)) == ["True False"] * 2
    program.unlink()
    config.write_text("[profile lake]\nregion = us-east-1\n")
    with pytest.raises(AssertionError, match="Unable to locate credentials"):
        ask(s3_root, AWS_PROFILE="lake", AWS_CONFIG_FILE=str(config))
