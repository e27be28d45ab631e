# SPDX-License-Identifier: Apache-2.0
"""Each option does what rsync's option of that name does, judged by running rsync on the same trees."""
import os
import re
import time
from collections import Counter

import pytest

from judge import Snapshot, assert_equal, assert_untouched, rsync_itemize
from lab import MIB, run
from trees import OLD_NS, Hard, age, many_files, noise, plant


@pytest.fixture
def three(work):
    """A source and two equal older destinations, one for drover and one for rsync."""
    src = plant(work / "src", {
        "same": "same", "newer here": "newer here", "older here": "older here", "other size": "other size",
        "same size and time": "abc", "same size": "abc", "new": "new", "dir/file": "file", "dir/new": "new"})
    old = {"same": "same", "newer here": "an old version", "older here": "a later version", "other size": "old",
           "same size and time": "xyz", "same size": "xyz", "dir/file": "file", "extra": "extra"}
    for name in ("drover", "rsync"):
        plant(work / name, old)
        age(work / name / "newer here", mtime_ns=OLD_NS - 10**12)
        age(work / name / "older here", work / name / "same size", mtime_ns=OLD_NS + 10**12)
        (work / name / "same").chmod(0o600)
        os.chown(work / name / "dir/file", 5, 6)
        os.setxattr(work / name / "dir/file", "user.old", b"1")
    return src, work / "drover", work / "rsync"


@pytest.mark.parametrize("options", [
    ["--checksum"], ["--size-only"], ["--ignore-existing"], ["--update"], ["-u"], ["--delete"], ["--inplace"],
    ["--size-only", "--delete"], ["--ignore-existing", "--delete"], ["--checksum", "--update"],
    ["--chown=1000:2000"], ["--chown=:2000"], ["--chown=1000"], ["--chown=1000:"], ["--chown=nobody:nogroup"],
    ["--usermap=0:1000", "--groupmap=0:2000"], ["--usermap=0-5:77"], ["--usermap=1-5:77,*:88"], ["--groupmap=*:55"],
], ids=" ".join)
def test_option_leads_to_rsyncs_tree(drover, three, options):
    src, mine, theirs = three
    lines = rsync_itemize(src, theirs, *options, dry_run=False)
    result = drover.sync("-i", *options, src, mine)
    assert_equal(theirs, mine)
    assert sorted(result.lines) == sorted(lines)


# What rsync is told to leave alone, drover leaves alone too. -A would imply -p, hence no ACLs on either side.
@pytest.mark.parametrize("mine_options, rsync_options", [
    (["--no-owner"], ["--no-owner", "--no-group"]),
    (["--no-perms", "--no-acl"], ["--no-perms", "--no-acls"]),
    (["--no-xattr"], ["--no-xattrs"]),
    (["--no-owner", "--no-perms", "--no-acl", "--no-xattr"],
     ["--no-owner", "--no-group", "--no-perms", "--no-acls", "--no-xattrs"]),
], ids=" ".join)
def test_no_option_leaves_the_attribute_as_rsync_leaves_it(drover, three, mine_options, rsync_options):
    src, mine, theirs = three
    for name in ("new", "dir/new"):
        os.chown(src / name, 1000, 1000)
        (src / name).chmod(0o666)
        os.setxattr(src / name, "user.new", b"1")
    rsync_itemize(src, theirs, *rsync_options, dry_run=False)
    drover.sync(*mine_options, src, mine)
    assert_equal(theirs, mine)
    assert drover.sync("-i", *mine_options, src, mine).out == b""


def test_no_times_leaves_times_alone_and_copies_what_differs_in_size(drover, three):
    src, mine, _ = three
    before = (mine / "same").stat().st_mtime_ns
    drover.sync("--no-times", src, mine)
    assert (mine / "same").stat().st_mtime_ns == before
    assert (mine / "other size").read_text() == "other size"
    assert (mine / "new").stat().st_mtime_ns != OLD_NS


def test_no_hard_links_makes_files_of_their_own(drover, src, dst):
    plant(src, {"a": "one", "b": Hard("a"), "dir/c": Hard("a")})
    drover.sync("--no-hard-links", src, dst)
    assert_equal(src, dst, ignore=["links"])
    assert (dst / "a").stat().st_nlink == 1
    assert drover.sync("-i", "--no-hard-links", src, dst).out == b""


def test_hard_links_to_outside_the_tree_are_plain_files(drover, work, src, dst):
    plant(work, {"outside": "x"})
    os.link(work / "outside", src / "inside")
    drover.sync(src, dst)
    assert_equal(src, dst)
    assert (dst / "inside").stat().st_nlink == 1


def test_checksum_finds_other_content_at_equal_size_and_time(drover, src, dst):
    plant(src, {"file": noise(300_000), "same": noise(300_000, seed=1)})
    drover.sync(src, dst)
    with open(dst / "file", "r+b") as file:
        file.seek(150_000)
        file.write(b"rot")
    age(dst / "file")
    before = Snapshot(dst)
    assert drover.sync("-i", src, dst).out == b"", "size and mtime say that it is equal"
    result = drover.sync("-i", "--checksum", src, dst)
    assert result.lines == [b">fc........ file"]
    assert_equal(src, dst)
    assert_untouched(before, Snapshot(dst), but=[b".", b"file"])


@pytest.mark.parametrize("size", [300_000, 1000, 0, 400_000])
def test_inplace_keeps_the_inode(drover, src, dst, size):
    plant(src, {"file": noise(300_000), "new": "new"})
    drover.sync(src, dst)
    inode = (dst / "file").stat().st_ino
    (src / "file").write_bytes(noise(size, seed=5))
    drover.sync("--inplace", src, dst)
    assert_equal(src, dst)
    assert (dst / "file").stat().st_ino == inode


def test_without_inplace_the_inode_is_a_new_one(drover, src, dst):
    plant(src, {"file": "one"})
    drover.sync(src, dst)
    inode = (dst / "file").stat().st_ino
    (src / "file").write_text("two, longer")
    with open(dst / "file"):  # held, so that its number cannot be used again
        drover.sync(src, dst)
        assert (dst / "file").stat().st_ino != inode


def test_inplace_follows_no_link_and_opens_no_fifo(drover, work, src, dst):
    plant(work, {"outside": "outside"})
    plant(src, {"file": "content", "pipe": "content"})
    dst.mkdir()
    (dst / "file").symlink_to(work / "outside")
    os.mkfifo(dst / "pipe")
    drover.sync("--inplace", src, dst)
    assert_equal(src, dst)
    assert (work / "outside").read_text() == "outside"


def test_one_file_system_stops_at_a_mount_point(drover, lab, work, src):
    plant(src, {"a": "a", "mnt/hidden below": "x", "dir/b": "b"})
    lab.mount("-t", "tmpfs", "tmpfs", at=src / "mnt")
    plant(src / "mnt", {"inside": "inside"})
    try:
        rsync_itemize(src, work / "rsync", "-x", dry_run=False)
        drover.sync("-x", src, work / "drover")
        drover.sync(src, work / "all")
        assert_equal(work / "rsync", work / "drover")
        assert_equal(src, work / "all")
    finally:
        lab.unmount(src / "mnt")
    assert not list((work / "drover/mnt").iterdir())


def test_one_file_system_does_not_delete_what_lies_below_the_mount_point(drover, lab, work, src, dst):
    plant(src, {"a": "a", "mnt": None})
    lab.mount("-t", "tmpfs", "tmpfs", at=src / "mnt")
    try:
        plant(dst, {"a": "a", "mnt/kept": "kept"})
        plant(work / "rsync", {"a": "a", "mnt/kept": "kept"})
        rsync_itemize(src, work / "rsync", "-x", "--delete", dry_run=False)
        drover.sync("-x", "--delete", src, dst)
        assert set(Snapshot(dst).records) == set(Snapshot(work / "rsync").records)
    finally:
        lab.unmount(src / "mnt")


@pytest.mark.parametrize("option, options", [
    ("-n", ["-n"]), ("--dry-run", ["--dry-run"]), ("with delete", ["-n", "--delete", "--force"]),
    ("with checksum", ["-n", "--checksum"]), ("inplace", ["-n", "--inplace"])])
def test_a_dry_run_touches_nothing(drover, three, option, options):
    src, mine, _ = three
    before, source = Snapshot(mine), Snapshot(src)
    drover.sync("-i", *options, src, mine)
    assert_untouched(before, Snapshot(mine))
    assert_untouched(source, Snapshot(src))


def test_a_dry_run_to_a_missing_destination_makes_none(drover, src, dst):
    plant(src, {"a/b": "b"})
    result = drover.sync("-n", "-i", src, dst)
    assert sorted(result.lines) == sorted(rsync_itemize(src, dst))
    assert not dst.exists()


@pytest.mark.parametrize("extra", [[], ["--delete"]], ids=["plain", "delete"])
def test_an_initial_sync_itemizes_as_rsync_does(drover, work, extra):
    src = plant(work / "src", {"a/b/c": "c", "file": "x", "empty": None})
    os.mkfifo(src / "fifo")
    (src / "link").symlink_to("file")
    (src / os.fsdecode(b"odd\n\xff\x01\\name")).write_text("x")
    lines = rsync_itemize(src, work / "rsync", *extra, dry_run=False)
    result = drover.sync("-i", *extra, src, work / "drover")
    assert sorted(result.lines) == sorted(lines)


def test_bwlimit_is_not_exceeded(drover, src, dst):
    plant(src, {"file": noise(2 * MIB), **{f"small {number}": noise(20_000, number) for number in range(50)}})
    start = time.monotonic()
    drover.sync("--bwlimit=2M", src, dst)
    assert time.monotonic() - start > 0.8, "3 MB at 2 MiB/s"
    assert_equal(src, dst)


@pytest.mark.parametrize("rate", ["0", "100000", "1G", "500M", "900000K"])
def test_bwlimit_takes_rsyncs_units(drover, src, dst, rate):
    plant(src, {"file": noise(2 * MIB)})
    drover.sync(f"--bwlimit={rate}", src, dst)
    assert_equal(src, dst)


@pytest.mark.parametrize("policy", ["end", "each", "none"])
def test_every_fsync_policy_gives_the_same_tree(drover, src, dst, policy):
    many_files(src, 30)
    drover.sync(f"--fsync={policy}", src, dst)
    assert_equal(src, dst)


@pytest.mark.parametrize("policy", ["end", "each", "none"])
def test_success_means_on_disk_unless_told_otherwise(drover, work, src, dst, policy):
    many_files(src, 10)
    trace = work / "trace"
    drover.sync(f"--fsync={policy}", "--io=threads", src, dst,
                prefix=["strace", "-f", "-qq", "-e", "trace=fsync,fdatasync,syncfs,sync", "-o", trace])
    calls = Counter(re.findall(r"\b(fsync|fdatasync|syncfs|sync)\(", trace.read_text()))
    if policy == "end":
        assert calls["syncfs"] + calls["sync"] >= 1
    elif policy == "each":
        assert calls["fsync"] + calls["fdatasync"] >= 10
    else:
        assert calls["syncfs"] + calls["sync"] == 0 and calls.total() < 10, "drover's own records at most"


@pytest.mark.local
def test_options_may_stand_behind_the_paths_and_double_dash_ends_them(drover, work):
    plant(work / "-src", {"a": "a"})
    drover.sync("--delete", "--", "-src", "-dst", folder=work)
    assert_equal(work / "-src", work / "-dst")


def test_usermap_takes_names(drover, src, dst):
    plant(src, {"file": "x"})
    drover.sync("--usermap=root:nobody", "--groupmap=root:nogroup", src, dst)
    assert (dst / "file").owner() == "nobody" and (dst / "file").group() == "nogroup"


def test_numeric_ids_is_the_default(drover, src, dst):
    plant(src, {"file": "x"})
    os.chown(src / "file", 3_999_999_999, 65_534)
    drover.sync("--numeric-ids", src, dst)
    assert_equal(src, dst)


def test_chown_makes_setuid_files_safe(drover, src, dst):
    """As rsync and chown do it: the bits are those of the source, with the new owner."""
    plant(src, {"file": "x"})
    (src / "file").chmod(0o4755)
    drover.sync("--chown=1000:1000", src, dst)
    status = (dst / "file").stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (1000, 1000, 0o4755)
    assert run("find", dst, "-uid", "0") == b""
