# SPDX-License-Identifier: Apache-2.0
"""What the checks of the command line share. They need no root and no file systems."""
import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.dont_write_bytecode = True

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def root():
    """The source tree."""
    return ROOT


@pytest.fixture(scope="session")
def binary():
    """The binary under test: $DROVER, or the one in the default build folder."""
    path = Path(os.environ.get("DROVER", ROOT / "build/cli/drover")).resolve()
    if not path.is_file():
        pytest.exit(f"no drover at {path}: build it, or name it in $DROVER", returncode=3)
    return path


@pytest.fixture
def drover(binary, tmp_path, tmp_path_factory):
    """Runs drover; returns the finished process, whose output is text."""
    environment = os.environ | {"XDG_STATE_HOME": str(tmp_path / "state"), "XDG_CONFIG_HOME": str(tmp_path / "config"),
                                "XDG_RUNTIME_DIR": str(tmp_path_factory.mktemp("runtime")), "LC_ALL": "C.UTF-8"}

    def run(*arguments, **options):
        return subprocess.run([binary, *arguments], text=True, errors="surrogateescape", capture_output=True,
                              stdin=subprocess.DEVNULL, timeout=60, env=environment, **options)

    run.environment = environment
    return run
