"""Fixtures of the worker side."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.run.small_engine import SmallEngine


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[SmallEngine]:
    """A worker core with the small nodes."""
    small = SmallEngine(tmp_path)
    yield small
    small.close()
