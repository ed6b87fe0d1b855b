"""What the tests of scores, runs and reports share."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for run_data


@pytest.fixture(scope="session")
def write_run():
    """Writes a run's folder: ``write_run(folder, "tsa", seed=1, errors=0.1, branches=(-1, 1))``."""
    from run_data import write_run

    return write_run
