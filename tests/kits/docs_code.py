"""The Python code of docs/dagster.md."""

import re

from tests.kits import ROOT

PAGE = (ROOT / "docs/dagster.md").read_text()


def blocks(heading: str) -> list[str]:
    """Python code under a heading of the second or third level."""
    text = re.split(r"^##+ ", PAGE, flags=re.MULTILINE)
    (section,) = [part for part in text if part.startswith(f"{heading}\n")]
    return re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
