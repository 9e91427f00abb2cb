"""The JSDoc types of the page's modules, checked by TypeScript."""

import subprocess
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.tsc
def test_the_types_of_the_page_hold() -> None:
    project = Path(__file__).parent / "tsconfig.json"
    command = ["tsc", "--project", str(project), "--pretty", "false"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout
