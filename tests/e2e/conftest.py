# SPDX-License-Identifier: Apache-2.0
"""What every end-to-end test starts from: the binary, a place to work in, the fault helpers."""
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.dont_write_bytecode = True

from drover import Drover, wait_until  # noqa: E402
from lab import Lab, enter_private_mounts, require, wipe  # noqa: E402

HERE = Path(__file__).resolve().parent
FAULTS = HERE.parent / "faults"
BENCH = HERE.parent.parent / "bench"


def pytest_collection_modifyitems(items):
    """What is asked of a sync on one machine alone is not asked of one through a session."""
    for item in items:
        if os.environ.get("DROVER_OVER") and item.get_closest_marker("local"):
            item.add_marker(pytest.mark.skip(reason="about a sync on one machine"))


@pytest.fixture(scope="session")
def lab():
    if os.geteuid() != 0:
        pytest.skip("needs root, to mount file systems and to make owners and devices")
    require("rsync", "setfacl", "getfattr", "chattr", "mount")
    enter_private_mounts()
    os.umask(0o022)
    made = Lab()
    yield made
    made.close()


@pytest.fixture(scope="session")
def drover(lab):
    """The binary: $DROVER, or the one in the default build folder. Copied to where any user may run it."""
    binary = Path(os.environ.get("DROVER", HERE.parent.parent / "build/cli/drover"))
    if not binary.is_file():
        pytest.exit(f"no drover at {binary}: build it, or name it in $DROVER", returncode=3)
    copy = lab.folder("bin") / "drover"
    shutil.copy(binary, copy)
    return Drover(copy, lab.folder("home"))


@pytest.fixture
def chance(request):
    """What the test leaves to chance. $DROVER_SEED makes it the same again; a failed test shows its own."""
    seed = os.environ.get("DROVER_SEED") or random.randrange(1_000_000)
    print(f"DROVER_SEED={seed}")
    return random.Random(f"{seed} {request.node.name}")


@pytest.fixture
def on(lab):
    """on("xfs"): a new empty directory on a file system of that kind."""
    used = []

    def fresh(fs):
        used.append(lab.volume(fs).fresh())
        return used[-1]

    yield fresh
    for path in used:
        wipe(path)


@pytest.fixture
def work(on):
    """A new empty directory on ext4, where most tests happen."""
    return on("ext4")


@pytest.fixture
def src(work):
    """The source: an empty directory."""
    (work / "src").mkdir()
    return work / "src"


@pytest.fixture
def dst(work):
    """The destination: not there yet."""
    return work / "dst"


@pytest.fixture(scope="session")
def helper(lab):
    """helper("faultfs"): the path of a program built from tests/faults, or bench."""
    built = {}

    def build(name):
        if name not in built:
            require("cc", "pkg-config")
            flags = []
            if name in ("faultfs", "latencyfs"):
                asked = subprocess.run(["pkg-config", "--cflags", "--libs", "fuse3"], capture_output=True, text=True)
                if asked.returncode != 0:
                    pytest.skip("libfuse3-dev is not installed")
                flags = ["-D_GNU_SOURCE", *asked.stdout.split()] if name == "latencyfs" else asked.stdout.split()
            program = lab.folder("faults") / name
            source = (BENCH if name == "latencyfs" else FAULTS) / f"{name}.c"
            subprocess.run(["cc", "-O2", "-Wall", "-Wextra", "-o", program, source, *flags], check=True)
            built[name] = program
        return built[name]

    return build


@pytest.fixture
def faulty(lab, helper):
    """faulty(DIR, RULE...): a mount that shows DIR, with faults (see tests/faults/faultfs.c)."""
    if not os.path.exists("/dev/fuse"):
        pytest.skip("no /dev/fuse")
    mounted = []

    def mount(source, *rules):
        point = lab.folder("faulty")
        process = subprocess.Popen([helper("faultfs"), source, point, *rules])
        mounted.append((point, process))
        wait_until(lambda: os.path.ismount(point) or process.poll() is not None, "the FUSE mount is there")
        assert process.poll() is None, "faultfs ended"
        return point

    yield mount
    for point, process in reversed(mounted):
        subprocess.run(["umount", "-l", point], check=True)
        process.wait(30)
