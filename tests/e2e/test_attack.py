# SPDX-License-Identifier: Apache-2.0
"""Links planted in the destination, before or during the run, never lead drover outside of it."""
import os
import subprocess
import time

import pytest

from judge import Snapshot, assert_equal, assert_untouched, litter
from trees import Link, age, plant

RACE_S = 6.0


def _source(root, version):
    """A tree whose every entry differs between versions, in content or in metadata alone."""
    entries = {"keep/same": "same", "keep/file": f"version {version}", "keep/sub/inner": f"version {version}"}
    for folder in ("one", "two", "keep/sub"):
        for number in range(15):
            entries[f"{folder}/f{number}"] = "same" if number % 2 else f"{version} {number}"
        entries[f"{folder}/deeper/only {version}"] = "x"
    plant(root, entries)
    for number, path in enumerate(sorted(root.rglob("*"))):
        mode = 0o700 if (number + version) % 2 else 0o755
        path.chmod(mode)
        os.chown(path, 1000 + version, 1000)
        age(path, mtime_ns=10**18 + version)
    return root


@pytest.fixture
def outside(work):
    """What an attacker wants changed: the same names as in the tree, and then some."""
    entries = {"prey": "precious", "same": "precious", "file": "precious"}
    for folder in ("one", "two", "sub"):
        entries |= {f"{folder}/f{number}": "precious" for number in range(15)}
        entries |= {f"{folder}/deeper/extra": "precious", f"{folder}/extra": "precious"}
    return plant(work / "outside", entries)


def test_planted_links_at_every_level_are_replaced_and_not_followed(drover, work, dst, outside):
    src = _source(work / "src", 1)
    plant(dst, {
        "one": Link(str(outside / "one")), "two/deeper": Link("../../outside/two/deeper"),
        "two/f0": Link(str(outside / "prey")), "two/f1": Link("../../outside/prey"),
        "keep/same": Link(str(outside / "same")), "keep/sub": Link(str(outside)), "extra": Link(str(outside)),
        "dangling": Link(str(outside / "made"))})
    before = Snapshot(outside)
    drover.sync("--delete", src, dst)
    assert_untouched(before, Snapshot(outside))
    assert_equal(src, dst)


@pytest.mark.parametrize("option", ["--inplace", "--checksum", "--size-only", "--ignore-existing", "-u", "--no-perms"])
def test_planted_links_are_not_followed_whatever_the_options(drover, work, dst, outside, option):
    src = _source(work / "src", 1)
    plant(dst, {"one": Link(str(outside / "one")), "two/f0": Link(str(outside / "prey")),
                "keep/same": Link(str(outside / "same"))})
    before = Snapshot(outside)
    drover.sync("--delete", option, src, dst)
    assert_untouched(before, Snapshot(outside))


def test_planted_links_at_temporary_names_are_not_followed(drover, work, dst, outside):
    src = _source(work / "src", 1)
    plant(dst, {name: Link(str(outside / "prey")) for name in (
        ".drover.run", ".drover.0123456789abcdef.0", ".drover.0123456789abcdef.1", "one/.drover.0123456789abcdef.2")})
    before = Snapshot(outside)
    drover.sync("--delete", src, dst, code=(0, 5))
    assert_untouched(before, Snapshot(outside))


def test_a_planted_directory_link_at_a_temporary_name_is_swept_as_a_link(drover, work, dst, outside):
    src = _source(work / "src", 1)
    plant(dst, {"one/.drover.0123456789abcdef.2": Link(str(outside)),
                "two/.drover.0123456789abcdef.3/inner": Link(str(outside))})
    before = Snapshot(outside)
    for _ in range(2):
        drover.sync("--delete", src, dst)
    assert_untouched(before, Snapshot(outside))
    assert litter(dst) == []


def test_links_inside_the_source_are_copied_and_not_followed(drover, work, dst, outside):
    src = plant(work / "src", {"out": Link(str(outside)), "dir/out": Link("../../outside/one")})
    drover.sync("--delete", src, dst)
    assert_equal(src, dst)


@pytest.mark.parametrize("io", ["threads", "uring"])
def test_a_racing_attacker_gets_nothing_outside_changed(drover, helper, work, dst, outside, io):
    versions = [_source(work / f"src{version}", version) for version in (0, 1)]
    drover.sync(versions[0], dst)
    (work / "trash").mkdir()
    victims = [dst / name for name in ("one", "two", "keep/sub", "keep/file", "keep/same")]
    before = Snapshot(outside)
    attacker = subprocess.Popen([helper("linkracer"), outside, work / "trash", *victims, f"{dst}/keep/"])
    deadline, runs = time.monotonic() + RACE_S, 0
    try:
        while time.monotonic() < deadline:
            runs += 1
            drover.sync(f"--io={io}", "--delete", versions[runs % 2], dst, code=(0, 1, 3, 4, 5))
    finally:
        attacker.kill()
        attacker.wait()
    assert runs > 5
    assert_untouched(before, Snapshot(outside))
    drover.sync("--delete", versions[0], dst)
    assert_untouched(before, Snapshot(outside))
    assert_equal(versions[0], dst)


def test_a_racing_attacker_in_the_source_gets_nothing_outside_copied(drover, helper, work, outside):
    """A user of the source swaps a directory for a link to what only root may read."""
    src = _source(work / "src", 0)
    (work / "trash").mkdir()
    victims = [src / name for name in ("one", "two", "keep/sub")]
    attacker = subprocess.Popen([helper("linkracer"), outside, work / "trash", *victims])
    deadline, runs = time.monotonic() + RACE_S / 2, 0
    try:
        while time.monotonic() < deadline:
            runs += 1
            drover.sync("--delete", src, work / f"dst{runs % 2}", code=(0, 1, 3))
            for path in (work / f"dst{runs % 2}").rglob("*"):
                assert path.is_symlink() or path.is_dir() or path.read_text() != "precious", path
    finally:
        attacker.kill()
        attacker.wait()
