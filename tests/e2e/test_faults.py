# SPDX-License-Identifier: Apache-2.0
"""Storage that fails: each error names path, operation and reason, the others go on, nothing half-done stays."""
import os
import re
import subprocess

import pytest

from judge import Snapshot, assert_equal, litter
from lab import MIB, require, run
from trees import many_files, noise, plant

REASON = {"EIO": "Input/output error", "EACCES": "Permission denied", "ENOSPC": "No space left on device",
          "EDQUOT": "Disk quota exceeded", "EROFS": "Read-only file system", "ESTALE": "Stale file handle"}
TREE = {"broken/victim": noise(300_000), "fine/file": noise(50_000, seed=1), "fine/other": "x", "top": "top"}


@pytest.fixture
def tree(src):
    return plant(src, TREE)


@pytest.mark.parametrize("operation", ["open", "read"])
@pytest.mark.parametrize("error", ["EIO", "EACCES", "ESTALE"])
def test_one_source_file_fails(drover, tree, dst, faulty, operation, error):
    broken = faulty(tree, f"{operation}:*/victim:{error}")
    result = drover.sync(broken, dst, code=1)
    assert result.failed("broken/victim") == ("source", "broken/victim", operation, REASON[error])
    assert len(result.errors) == 1
    assert litter(dst) == [] and not (dst / "broken/victim").exists()
    assert_equal(tree, dst, but=["broken/victim"])
    drover.sync(tree, dst)
    assert_equal(tree, dst)


def test_a_source_file_that_fails_half_way_leaves_the_old_version(drover, tree, dst, faulty):
    drover.sync(tree, dst)
    old = Snapshot(dst).records[b"broken/victim"]
    (tree / "broken/victim").write_bytes(noise(4 * MIB, seed=9))
    result = drover.sync(faulty(tree, "read:*/victim:EIO@3"), dst, code=1)
    assert result.failed("broken/victim")[2:] == ("read", REASON["EIO"])
    assert not old.differs_from(Snapshot(dst).records[b"broken/victim"])
    assert litter(dst) == []


@pytest.mark.parametrize("operation", ["readdir", "getattr"])
def test_a_source_directory_fails(drover, tree, dst, faulty, operation):
    result = drover.sync(faulty(tree, f"{operation}:/broken:EIO"), dst, code=1)
    assert result.failed("broken")[0] == "source"
    assert_equal(tree, dst, but=["broken", "broken/victim", "."])


# In the destination the rules aim at the directory, because a file is written under a temporary name.
@pytest.mark.parametrize("rule", [
    "write:/broken/*:EIO", "write:/broken/*:ENOSPC", "write:/broken/*:EDQUOT", "create:/broken/*:EACCES",
    "create:/broken/*:EROFS", "flush:/broken/*:EIO", "flush:/broken/*:EDQUOT", "rename:/broken/*:EIO",
    "chown:/broken/*:EIO", "utimens:/broken/*:EIO", "setxattr:/broken/*:EIO",
    "readdir:/broken:EIO", "getattr:/broken/victim:EIO",
])
def test_one_destination_entry_fails(drover, tree, work, faulty, rule):
    """The directories exist already; the victim gets new content, another owner, mode and attribute."""
    os.setxattr(tree / "broken/victim", "user.a", b"old")
    os.mkdir(work / "backing")
    drover.sync(tree, work / "backing")
    old = Snapshot(work / "backing").records[b"broken/victim"]
    for name in ("broken/victim", "fine/file"):
        (tree / name).write_bytes(noise(400_000, seed=7))
        os.chown(tree / name, 1000, 1000)
        (tree / name).chmod(0o600)
        os.setxattr(tree / name, "user.a", b"new")

    result = drover.sync(tree, faulty(work / "backing", rule), code=1)

    reason = REASON[rule.rpartition(":")[2]]
    assert [error for error in result.errors if error[1].startswith("broken") and error[3] == reason], str(result)
    assert all(error[1].startswith("broken") for error in result.errors), str(result)
    left = Snapshot(work / "backing")
    assert not old.differs_from(left.records[b"broken/victim"]), "the old version is not whole"
    assert_equal(tree, work / "backing", but=["broken/victim", "broken"])
    assert litter(work / "backing") == []


def test_an_fsync_that_fails_is_no_success(drover, tree, work, faulty):
    os.mkdir(work / "backing")
    result = drover.sync("--fsync=each", tree, faulty(work / "backing", "fsync:*:EIO"), code=(1, 5))
    assert REASON["EIO"] in result.err


@pytest.mark.local
def test_a_disk_that_fails_while_the_copy_goes_on_is_no_success(drover, src, dst, work):
    """The kernel tells of it once, and not to the sync at the end: to the one that keeps the disk busy meanwhile."""
    require("strace")
    plant(src, {"large": noise(MIB) * 120})
    with drover.start("--bwlimit=24M", src, dst) as running:
        process = running.process.pid
        running.until(lambda: running.bytes_so_far("wchar") > MIB, "something is written")
        others = [thread for thread in os.listdir(f"/proc/{process}/task") if int(thread) != process]
        with subprocess.Popen(["strace", "-qq", "-o", work / "trace", "-e", "trace=syncfs", "-e",
                               "inject=syncfs:error=EIO:when=1", *(word for thread in others for word in ("-p", thread))]):
            result = running.end(code=5)
    assert "(INJECTED)" in (work / "trace").read_text(), "the disk never failed"
    assert "what was written may not be on disk" in result.err
    assert (dst / ".drover.run").exists(), "the next run has to know"
    drover.sync(src, dst)
    assert_equal(src, dst)


def test_an_entry_that_cannot_be_deleted_is_named(drover, tree, work, faulty):
    plant(work / "backing", {**TREE, "extra/stuck": "x", "extra/goes": "x", "extra too": "x"})
    result = drover.sync("--delete", tree, faulty(work / "backing", "unlink:*/stuck:EACCES"), code=1)
    assert result.failed("extra/stuck")[3] == REASON["EACCES"]
    assert not (work / "backing/extra too").exists() and not (work / "backing/extra/goes").exists()


def test_a_directory_that_cannot_be_made_is_named_once_not_once_per_file(drover, src, work, faulty):
    plant(src, {"fine/file": "x", **{f"broken/d{n}/file": "x" for n in range(50)}})
    os.mkdir(work / "backing")
    result = drover.sync(src, faulty(work / "backing", "rename:/broken:EACCES", "mkdir:/broken:EACCES"), code=1)
    assert result.failed("broken")[3] == REASON["EACCES"]
    assert len(result.errors) <= 3
    assert (work / "backing/fine/file").read_text() == "x"


def test_a_file_that_vanished_is_counted_and_no_failure(drover, tree, dst, faulty):
    result = drover.sync("--json", faulty(tree, "open:*/victim:ENOENT"), dst)
    assert result.events("error") == []
    assert result.events("summary")[0]["counts"]["vanished"] == 1
    assert_equal(tree, dst, but=["broken/victim"])


def test_owners_that_may_not_be_given_are_a_loss_told_once(drover, src, work, faulty):
    """A server that squashes root."""
    many_files(src, 200)
    for path in src.rglob("f*"):
        os.chown(path, 1000, 1000)
    os.mkdir(work / "backing")
    squashed = faulty(work / "backing", "chown:*:EPERM")
    result = drover.sync(src, squashed, code=4)
    assert len(result.err.splitlines()) < 5 and re.search("owner", result.err), str(result)
    assert re.search(r"\b200\b", result.err), f"how many is not told\n{result}"
    assert_equal(src, work / "backing", ignore=["uid", "gid"])
    drover.sync("--best-effort", src, squashed)


# --- Full file systems ---

@pytest.fixture
def small(lab):
    volume = lab.make("ext4", 24 * MIB)
    yield volume
    lab.unmount(volume.path)


def _assert_what_arrived_is_whole(src, dst):
    source, arrived = Snapshot(src).records, Snapshot(dst).records
    for path, record in arrived.items():
        if record.type != "directory":
            assert record == source[path], f"{path!r} is not whole"
    return len(arrived)


@pytest.mark.parametrize("large", [True, False], ids=["large files", "small files"])
def test_a_full_destination_stops_early_and_keeps_what_arrived_whole(drover, src, small, large):
    if large:
        plant(src, {f"large {n}": noise(3 * MIB, seed=n) for n in range(14)})
    else:
        many_files(src, 4000, size_bytes=10_000)
    dst = small.fresh()
    result = drover.sync("--json", src, dst, code=1)
    assert {error["reason"] for error in result.events("error")} == {REASON["ENOSPC"]}
    assert all(error["path"] for error in result.events("error"))
    assert len(result.events("error")) < 200, "one word for each of the files that do not fit"
    counts = result.events("summary")[0]["counts"]
    assert counts["failed"] >= 1 and counts["not_attempted"] + counts["failed"] > 3
    assert litter(dst) == []
    assert 3 < _assert_what_arrived_is_whole(src, dst)


def test_a_full_destination_can_still_be_updated_in_small_ways(drover, src, small):
    """Deletions and metadata go on when there is no space for data."""
    dst = small.fresh()
    plant(src, {"mode": "x", "huge": noise(30 * MIB)})
    plant(dst, {"mode": "x", "extra": noise(MIB)})
    (src / "mode").chmod(0o600)
    drover.sync("--delete", src, dst, code=1)
    assert (dst / "mode").stat().st_mode & 0o777 == 0o600
    assert not (dst / "huge").exists() and litter(dst) == []


def test_a_destination_without_inodes_names_what_failed(drover, src, lab):
    volume = lab.make("ext4", 24 * MIB, "-N", "256")
    many_files(src, 600)
    dst = volume.fresh()
    result = drover.sync(src, dst, code=1)
    assert result.errors and {error[3] for error in result.errors} == {REASON["ENOSPC"]}
    assert litter(dst) == []
    _assert_what_arrived_is_whole(src, dst)
    lab.unmount(volume.path)


def test_after_space_is_made_the_same_command_completes(drover, src, small):
    plant(src, {f"large {n}": noise(3 * MIB, seed=n) for n in range(5)})
    ballast = small.path / "ballast"
    run("fallocate", "-l", str(12 * MIB), ballast)
    dst = small.fresh()
    drover.sync(src, dst, code=1)
    ballast.unlink()
    drover.sync(src, dst)
    assert_equal(src, dst)
