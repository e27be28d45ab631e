# SPDX-License-Identifier: Apache-2.0
"""Less than a root user's machine: few descriptors, no io_uring, an ordinary user."""
import os
import re

import pytest

from judge import Snapshot, assert_equal, litter
from lab import require, run
from trees import Hard, Link, deep_path, many_files, plant

USER = 1000
AS_USER = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"]


# --- Few descriptors ---

@pytest.mark.parametrize("options", [["--jobs=1"], ["--jobs=64"], ["--jobs=64", "--io=uring"],
                                     ["--jobs=64", "--io=threads"]], ids=" ".join)
def test_sixty_four_descriptors_suffice_for_a_deep_and_wide_tree(drover, src, dst, options):
    deep_path(src, levels=300, name=b"down")
    (src / "wide").mkdir()
    many_files(src / "wide", 800, per_directory=2)
    (src / "pair").write_text("x")
    os.link(src / "pair", src / "wide/pair")
    drover.sync(*options, src, dst, files=64)
    assert_equal(src, dst)
    many_files(src / "later", 200, per_directory=1)
    drover.sync(*options, "--delete", src, dst, files=64)
    assert_equal(src, dst)


# --- No io_uring, as in most containers ---

@pytest.mark.parametrize("error", ["EPERM", "ENOSYS"])
def test_without_io_uring_threads_do_the_work_and_verbose_says_why(drover, helper, lab, src, dst, error):
    many_files(src, 100)
    result = drover.sync("-v", src, dst, prefix=[helper("noring"), error])
    assert_equal(src, dst)
    said = result.out.decode(errors="replace") + result.err
    notes = [line for line in said.splitlines() if "io_uring" in line]
    assert len(notes) == 1 and "threads" in notes[0], f"one word on it\n{result}"
    assert os.strerror({"EPERM": 1, "ENOSYS": 38}[error]) in notes[0]


@pytest.mark.parametrize("error", ["EPERM", "ENOSYS"])
def test_io_uring_asked_for_and_not_there_is_refused(drover, helper, src, dst, error):
    many_files(src, 10)
    result = drover.sync("--io=uring", src, dst, code=5, prefix=[helper("noring"), error])
    assert "io_uring" in result.err
    assert not dst.exists() or not any(dst.iterdir())


# --- An ordinary user ---

@pytest.fixture
def users(work):
    """A source and a parent of the destination that belong to the user."""
    require("setpriv")
    src, parent = work / "src", work / "theirs"
    for path in (src, parent):
        path.mkdir()
    plant(src, {"dir/file": "content", "link": Link("dir/file"), "pair": "pair", "pair too": Hard("pair"),
                "locked/inner": "x"})
    os.mkfifo(src / "fifo")
    os.setxattr(src / "pair", "user.a", b"1")
    run("setfacl", "-m", "u:5:rw", src / "dir/file")
    (src / "locked").chmod(0o555)
    run("chown", "-Rh", f"{USER}:{USER}", src, parent)
    return src, parent / "dst"


def test_a_users_own_tree_arrives_completely(drover, users):
    src, dst = users
    drover.sync(src, dst, prefix=AS_USER)
    assert_equal(src, dst)
    assert drover.sync("-i", "--delete", src, dst, prefix=AS_USER).out == b""


def test_a_read_only_directory_can_be_changed_by_its_owner(drover, users):
    src, dst = users
    drover.sync(src, dst, prefix=AS_USER)
    (src / "locked").chmod(0o755)
    (src / "locked/new").write_text("new")
    (src / "locked/inner").write_text("changed")
    (src / "locked").chmod(0o555)
    run("chown", "-Rh", f"{USER}:{USER}", src)
    drover.sync("--delete", src, dst, prefix=AS_USER)
    assert_equal(src, dst)
    run("rm", "-r", src / "locked")
    drover.sync("--delete", src, dst, prefix=AS_USER)
    assert_equal(src, dst)


def test_what_a_user_may_not_read_is_named_and_the_rest_arrives(drover, users):
    src, dst = users
    plant(src / "private", {"file": "x"})
    plant(src, {"secret": "x"})
    (src / "private").chmod(0o700)
    (src / "secret").chmod(0o600)
    result = drover.sync(src, dst, code=1, prefix=AS_USER)
    assert {error[1] for error in result.errors} == {"private", "secret"}
    assert all((error[0], error[3]) == ("source", "Permission denied") for error in result.errors)
    assert_equal(src, dst, but=["private", "private/file", "secret", "."])
    assert litter(dst) == []


def test_other_peoples_files_arrive_as_the_users_own_and_that_is_told(drover, users):
    src, dst = users
    plant(src, {"roots": "x", "setuid": "x"})
    (src / "setuid").chmod(0o6755)
    run("chown", f"{USER}:{USER}", src)
    result = drover.sync(src, dst, code=4, prefix=AS_USER)
    assert result.errors == [] and re.search("owner", result.err), str(result)
    assert (dst / "roots").stat().st_uid == USER
    assert_equal(src, dst, but=["roots", "setuid"])
    again = drover.sync("-i", src, dst, code=4, prefix=AS_USER)
    assert [line for line in again.lines if line.startswith((b">", b"c"))] == []


def test_a_setuid_file_of_someone_else_does_not_become_the_users_setuid_file(drover, users):
    src, dst = users
    plant(src, {"setuid": "x"})
    (src / "setuid").chmod(0o4755)
    run("chown", f"{USER}:{USER}", src)
    drover.sync(src, dst, code=4, prefix=AS_USER)
    assert (dst / "setuid").stat().st_mode & 0o7777 == 0o755


@pytest.mark.parametrize("option", ["--no-owner", "--best-effort"])
def test_a_user_who_does_not_ask_for_owners_succeeds(drover, users, option):
    src, dst = users
    plant(src, {"roots": "x"})
    run("chown", f"{USER}:{USER}", src)
    drover.sync(option, src, dst, prefix=AS_USER)
    assert_equal(src, dst, ignore=["uid", "gid"])


def test_devices_that_a_user_cannot_make_are_a_loss_told_once(drover, users):
    src, dst = users
    for number in range(20):
        run("mknod", src / f"device{number}", "c", "1", "3")
    run("chown", "-Rh", f"{USER}:{USER}", src)
    result = drover.sync(src, dst, code=4, prefix=AS_USER)
    assert result.errors == [] and re.search(r"\b20\b", result.err), str(result)
    assert_equal(src, dst, but=[f"device{number}" for number in range(20)])


def test_a_destination_that_the_user_may_not_write(drover, users, work):
    src, _ = users
    result = drover.sync(src, work / "forbidden", code=5, prefix=AS_USER)
    assert "Permission denied" in result.err and "forbidden" in result.err


def test_an_entry_owned_by_someone_else_at_the_destination_is_named(drover, users):
    src, dst = users
    drover.sync(src, dst, prefix=AS_USER)
    os.chown(dst / "dir", 0, 0)
    os.chown(dst / "dir/file", 0, 0)
    plant(src, {"dir/file": "changed content"})
    run("chown", "-R", f"{USER}:{USER}", src)
    result = drover.sync(src, dst, code=(1, 4), prefix=AS_USER)
    assert (dst / "dir/file").read_text() == "content"
    assert any(error[1].startswith("dir") for error in result.errors), str(result)


def test_the_source_is_never_written(drover, users):
    src, dst = users
    before = Snapshot(src)
    drover.sync(src, dst)
    drover.sync("--delete", "--checksum", src, dst)
    assert before.touched == Snapshot(src).touched
