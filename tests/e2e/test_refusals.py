# SPDX-License-Identifier: Apache-2.0
"""What drover refuses, with which exit code and in which words; refused means that nothing was done."""
import os
import shutil

import pytest

from judge import Snapshot, assert_equal, assert_untouched
from lab import MIB
from trees import Link, noise, plant


@pytest.fixture
def tree(src):
    return plant(src, {"dir/sub/file": "content", "file": "x"})


def _assert_refused(result, *words):
    lines = result.err.splitlines()
    assert lines and lines[0].startswith("drover: sync: "), str(result)
    for word in words:
        assert str(word) in result.err, f"{word!r} is not said\n{result}"


def test_a_missing_source(drover, work, dst):
    _assert_refused(drover.sync(work / "nowhere", dst, code=5), work / "nowhere", "No such file or directory")
    assert not dst.exists()


@pytest.mark.parametrize("options", [[], ["--delete"], ["-n"]], ids=str)
def test_a_source_that_is_a_file(drover, tree, dst, options):
    _assert_refused(drover.sync(*options, tree / "file", dst, code=5), tree / "file", "irectory")
    assert not dst.exists()


def test_a_destination_that_is_a_file(drover, tree, dst):
    dst.write_text("precious")
    _assert_refused(drover.sync("--delete", tree, dst, code=5), dst, "irectory")
    assert dst.read_text() == "precious"


def test_a_destination_whose_parent_is_missing(drover, tree, work):
    _assert_refused(drover.sync(tree, work / "no/such/dst", code=5), work / "no/such", "No such file or directory")
    assert not (work / "no").exists()


def test_a_destination_that_is_a_dangling_symlink(drover, tree, work):
    plant(work, {"link": Link("nowhere")})
    _assert_refused(drover.sync(tree, work / "link", code=5), work / "link")
    assert not (work / "nowhere").exists()


@pytest.mark.parametrize("inner", ["dst", "dir/sub", "dir/sub/new"])
def test_a_destination_inside_the_source(drover, tree, inner):
    before = Snapshot(tree)
    _assert_refused(drover.sync("--delete", tree, tree / inner, code=5), "inside")
    assert_untouched(before, Snapshot(tree))


@pytest.mark.parametrize("inner", ["dir", "dir/sub"])
def test_a_source_inside_the_destination(drover, tree, inner):
    before = Snapshot(tree)
    _assert_refused(drover.sync("--delete", tree / inner, tree, code=5), "inside")
    assert_untouched(before, Snapshot(tree))


def test_a_destination_inside_the_source_by_a_symlink(drover, tree, work):
    plant(work, {"link": Link("src/dir")})
    _assert_refused(drover.sync(tree, work / "link/new", code=5), "inside")
    _assert_refused(drover.sync(work / "link", tree, code=5), "inside")


def test_the_same_directory_twice(drover, tree):
    before = Snapshot(tree)
    _assert_refused(drover.sync("--delete", tree, tree, code=5), "same")
    _assert_refused(drover.sync("--delete", tree, f"{tree}/dir/..", code=5), "same")
    assert_untouched(before, Snapshot(tree))


def test_the_same_directory_by_a_symlink(drover, tree, work):
    plant(work, {"link": Link("src")})
    _assert_refused(drover.sync("--delete", tree, work / "link", code=5), "same")


@pytest.fixture
def bound(lab, work):
    """bound(DIR): another path to the same directory, by a bind mount."""
    point = work / "bound"
    point.mkdir()

    def bind(path):
        lab.mount("--bind", path, at=point)
        return point

    yield bind
    lab.unmount(point)


def test_the_same_directory_by_a_bind_mount(drover, tree, bound):
    point, before = bound(tree), Snapshot(tree)
    _assert_refused(drover.sync("--delete", tree, point, code=5), "same")
    _assert_refused(drover.sync("--delete", point, tree, code=5), "same")
    assert_untouched(before, Snapshot(tree))


def test_a_destination_inside_the_source_by_a_bind_mount_is_not_copied_into_itself(drover, tree, bound):
    point = bound(tree / "dir")
    result = drover.sync(tree, point, code=(1, 5))
    assert "destination" in result.err
    assert not (tree / "dir/dir").exists()


def test_a_source_inside_the_destination_by_a_bind_mount_is_not_deleted(drover, tree, bound):
    point = bound(tree / "dir")
    before = Snapshot(point)
    result = drover.sync("--delete", point, tree, code=(1, 5))
    assert "source" in result.err
    assert_untouched(before, Snapshot(point))


def test_siblings_whose_names_begin_alike_are_not_inside_each_other(drover, tree, work):
    drover.sync(tree, work / "src2")
    assert_equal(tree, work / "src2")


def test_an_unreadable_source_root(drover, tree, dst, faulty):
    result = drover.sync("--delete", faulty(tree, "readdir:/:EIO"), dst, code=(1, 5))
    assert "Input/output error" in result.err


def test_a_read_only_destination(drover, lab, tree):
    point = lab.make("tmpfs", MIB).path
    (point / "dst").mkdir()
    lab.mount("-o", "remount,ro", at=point)
    result = drover.sync(tree, point / "dst", code=(1, 5))
    assert "Read-only file system" in result.err
    assert len(result.err.splitlines()) < 10


@pytest.mark.parametrize("arguments", [
    [], ["SRC"], ["SRC", "DST", "more"], ["", "DST"], ["SRC", ""], ["--exclude", "SRC"],
    *([option, "SRC", "DST"] for option in (
        "--frobnicate", "-Z", "--delete=x", "--jobs=0", "--jobs=-1", "--jobs=many", "--jobs=99999999999999999999",
        "--io=magic", "--fsync=maybe", "--bwlimit=fast", "--bwlimit=-1", "--max-delete=some", "--max-delete=101%",
        "--chown=no such user:", "--usermap=broken", "--groupmap=1")),
], ids=repr)
def test_a_wrong_command_line_is_told_and_does_nothing(drover, tree, dst, arguments):
    places = {"SRC": tree, "DST": dst}
    result = drover.sync(*(places.get(argument, argument) for argument in arguments), code=2)
    assert result.err.startswith("drover: "), str(result)
    assert result.out == b""
    assert not dst.exists()


@pytest.mark.parametrize("arguments", [[], ["frobnicate"], ["--frobnicate"]], ids=repr)
def test_a_wrong_command_is_told(drover, arguments):
    result = drover.run(*arguments, code=2)
    assert "drover" in result.err and result.out == b""


def test_a_second_drover_on_the_same_destination_refuses(drover, work, dst):
    slow = plant(work / "slow", {"file": noise(4 * MIB), "small": "x"})
    other = plant(work / "other", {"file": "other"})
    with drover.start("--bwlimit=1M", slow, dst) as first:
        marker = dst / ".drover.run"
        first.until(lambda: marker.exists() and marker.stat().st_size, "the first run has begun")
        result = drover.sync("--delete", other, dst, code=5)
        _assert_refused(result, "another drover")
        first.end()
    assert_equal(slow, dst)


def test_two_drovers_on_different_destinations_do_not_mind_each_other(drover, work, tree):
    slow = plant(work / "slow", {"file": noise(2 * MIB)})
    with drover.start("--bwlimit=1M", slow, work / "one") as first:
        first.until(lambda: (work / "one").exists() and any((work / "one").iterdir()), "the first run has begun")
        drover.sync(tree, work / "two")
        first.end()
    assert_equal(slow, work / "one")
    assert_equal(tree, work / "two")


def test_a_source_that_goes_away_as_a_whole_deletes_nothing(drover, work, src, dst):
    """The source is emptied between two runs, by an unmount for example."""
    plant(src, {f"d{number}/file": "x" for number in range(20)})
    drover.sync(src, dst)
    before = Snapshot(dst)
    shutil.rmtree(src)
    os.mkdir(src)
    drover.sync("--delete", src, dst, code=5)
    assert_untouched(before, Snapshot(dst))
