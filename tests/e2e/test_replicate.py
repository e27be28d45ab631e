# SPDX-License-Identifier: Apache-2.0
"""Whatever a Linux tree holds arrives, on every kind of file system, and a second run has nothing to do."""
import os
import re

import pytest

from judge import (Snapshot, assert_equal, assert_tools_agree, assert_untouched, digest_of, litter, map_of, rsync_itemize)
from lab import MIB, require, run
from trees import Link, age, deep_path, many_files, nasty, noise, plant

PAIRS = [("ext4", "ext4"), ("ext4", "xfs"), ("xfs", "ext4"), ("xfs", "xfs"), ("btrfs", "btrfs"), ("ext4", "btrfs"),
         ("btrfs", "xfs"), ("ext4", "tmpfs"), ("tmpfs", "ext4")]
# Where the source may hold what the destination lacks, losing it has to be declared (exit code 4).
FIELDS_OF_TRAIT = {"flags": "flags", "user": "xattrs", "trusted": "xattrs", "security": "xattrs", "acl": "xattrs"}


@pytest.fixture(params=PAIRS, ids=lambda pair: "-".join(pair))
def pair(request, on, lab):
    """Two directories on two file systems, and the fields that the second cannot hold."""
    source, destination = (lab.volume(fs) for fs in request.param)
    lost = {FIELDS_OF_TRAIT[trait] for trait in source.traits - destination.traits}
    return on(request.param[0]) / "src", on(request.param[1]) / "dst", lost, source.traits


def test_everything_arrives_and_the_second_run_changes_nothing(drover, pair):
    src, dst, lost, traits = pair
    nasty(src, traits)
    source_before = Snapshot(src)
    code = 4 if lost else 0

    drover.sync(src, dst, code=code)
    assert_equal(src, dst, ignore=lost)
    if not lost:
        assert_tools_agree(src, dst)

    before = Snapshot(dst)
    again = drover.sync("-i", "--delete", src, dst, code=code)
    assert again.out == b""
    assert_untouched(before, Snapshot(dst), but=[b"."])
    assert_untouched(source_before, Snapshot(src))


@pytest.mark.parametrize("io", ["uring", "threads"])
@pytest.mark.parametrize("jobs", [1, 32])
def test_either_backend_and_any_number_of_jobs_give_the_same_tree(drover, lab, src, dst, io, jobs):
    nasty(src, lab.volume("ext4").traits)
    drover.sync(f"--io={io}", f"--jobs={jobs}", src, dst)
    assert_equal(src, dst)


def test_everything_replaces_a_destination_where_every_name_is_something_else(drover, lab, src, dst):
    nasty(src, lab.volume("ext4").traits)
    dst.mkdir()
    for entry in src.iterdir():
        if entry.is_dir():
            (dst / entry.name).write_text("a file in a directory's place")
        else:
            (dst / entry.name / "sub").mkdir(parents=True)
    drover.sync("--delete", src, dst)
    assert_equal(src, dst)


def test_a_path_longer_than_path_max_arrives(drover, src, dst):
    deep_path(src, levels=40)
    drover.sync(src, dst)
    assert_equal(src, dst)
    assert drover.sync("-i", src, dst).out == b""


def test_five_hundred_levels_arrive_and_go(drover, src, dst, work):
    deep_path(src, levels=500, name=b"d")
    drover.sync(src, dst)
    assert_equal(src, dst)
    (work / "empty").mkdir()
    drover.sync("--delete", "--force", work / "empty", dst)
    assert os.listdir(dst) == []


def test_a_directory_of_twenty_thousand_entries_arrives_and_goes(drover, src, dst):
    (src / "crowd").mkdir()
    for number in range(20_000):
        os.close(os.open(src / "crowd" / f"{number:x}", os.O_CREAT | os.O_WRONLY, 0o600))
    drover.sync(src, dst)
    assert_equal(src, dst)
    assert drover.sync("-i", src, dst).out == b""
    for number in range(0, 20_000, 2):
        os.unlink(src / "crowd" / f"{number:x}")
    drover.sync("--delete", src, dst)
    assert_equal(src, dst)


def test_an_xattr_of_sixty_kilobytes_arrives_where_both_sides_hold_it(drover, on):
    src, dst = plant(on("xfs") / "src", {"file": "x", "dir": None}), on("xfs") / "dst"
    os.setxattr(src / "file", "user.big", noise(60_000))
    os.setxattr(src / "dir", "user.big", noise(60_000, seed=1))
    drover.sync(src, dst)
    assert_equal(src, dst)


def test_an_xattr_too_large_for_the_destination_is_a_declared_loss(drover, on):
    src, dst = plant(on("xfs") / "src", {"file": "x", "other": "y"}), on("ext4") / "dst"
    os.setxattr(src / "file", "user.big", noise(60_000))
    drover.sync(src, dst, code=(1, 4))
    assert (dst / "file").read_text() == "x"
    assert_equal(src, dst, ignore=["xattrs"], but=["file"])


def test_a_symlink_target_too_long_for_the_destination_is_named(drover, on):
    src, dst = plant(on("ext4") / "src", {"long": Link("t" * 4000), "other": "y"}), on("xfs") / "dst"
    result = drover.sync(src, dst, code=(1, 4))
    assert "long" in result.err
    assert_equal(src, dst, but=["long", "."])


def test_a_time_that_the_destination_cannot_store_is_a_declared_loss_and_not_copied_again(drover, on):
    src, dst = plant(on("btrfs") / "src", {"file": "x", "other": "y"}), on("ext4") / "dst"
    age(src / "file", mtime_ns=20_000_000_000 * 10**9)  # the year 2603
    drover.sync(src, dst, code=4)
    assert_equal(src, dst, ignore=["mtime_ns"])
    assert drover.sync("-i", src, dst, code=4).out == b""


@pytest.mark.local
@pytest.mark.parametrize("fs", ["btrfs", "xfs"])
def test_within_one_file_system_content_is_shared_by_reflink(drover, on, fs):
    require("filefrag")
    work = on(fs)
    src, dst = work / "src", work / "dst"
    plant(src, {"big": noise(8 * MIB)})
    run("sync", "-f", src)
    drover.sync(src, dst)
    assert_equal(src, dst)
    assert _extents(src / "big") == _extents(dst / "big")


def test_a_reflinked_copy_does_not_follow_later_writes(drover, on):
    work = on("btrfs")
    src, dst = plant(work / "src", {"big": noise(MIB)}), work / "dst"
    drover.sync(src, dst)
    digest = digest_of(dst / "big")
    with open(src / "big", "r+b") as file:
        file.write(b"later")
    assert digest_of(dst / "big") == digest


@pytest.mark.parametrize("fs", ["ext4", "xfs", "btrfs", "tmpfs"])
def test_holes_stay_holes(drover, on, fs):
    src, dst = on("ext4") / "src", on(fs) / "dst"
    src.mkdir()
    with open(src / "sparse", "wb") as file:
        for position in range(0, 64 * MIB, 8 * MIB):
            file.seek(position + MIB)
            file.write(noise(MIB))
        file.truncate(70 * MIB)
    drover.sync(src, dst)
    assert_equal(src, dst)
    assert map_of(dst / "sparse") == map_of(src / "sparse")


def test_the_second_run_reads_no_content(drover, src, dst, faulty):
    many_files(src, 60)
    drover.sync(src, dst)
    unreadable = faulty(src, "read:*:EIO")
    before = Snapshot(dst)
    drover.sync(unreadable, dst)
    assert_untouched(before, Snapshot(dst), but=[b"."])


@pytest.mark.parametrize("jobs", [1, 32])
def test_hundreds_of_hard_link_groups_across_directories_arrive_as_groups(drover, src, dst, jobs):
    for number in range(30):
        (src / f"d{number}").mkdir()
    for group in range(300):
        first = src / f"d{group % 30}/g{group}"
        if group % 3:
            first.write_bytes(noise(group * 10, seed=group))
        else:
            first.symlink_to(f"target {group}")
        for member in range(1, 5):
            os.link(first, src / f"d{(group + member * 7) % 30}/g{group} {member}", follow_symlinks=False)
    drover.sync(f"--jobs={jobs}", src, dst)
    assert_equal(src, dst)
    for group in range(0, 300, 2):
        (src / f"d{group % 30}/g{group}").unlink()
    for group in range(1, 300, 6):
        (src / f"d{group % 30}/g{group}").write_bytes(b"changed")
    drover.sync("--delete", f"--jobs={jobs}", src, dst)
    assert_equal(src, dst)


@pytest.mark.parametrize("umask", ["000", "077", "777"])
def test_the_umask_does_not_matter(drover, lab, src, dst, umask):
    nasty(src, lab.volume("ext4").traits)
    drover.sync(src, dst, prefix=["sh", "-c", f'umask {umask}; exec "$@"', "sh"])
    assert_equal(src, dst)


def test_what_the_destination_would_inherit_is_not_inherited(drover, src, dst):
    """A default ACL and a setgid bit on the destination's root, which the source has not."""
    plant(src, {"dir/sub/file": "x", "file": "x", "link": Link("file")})
    (src / "dir").chmod(0o700)
    (src / "file").chmod(0o600)
    dst.mkdir()
    os.chown(dst, 0, 1000)
    dst.chmod(0o2777)
    run("setfacl", "-d", "-m", "u:1234:rwx", dst)
    drover.sync(src, dst)
    assert_equal(src, dst)


def test_a_read_only_source_suffices(drover, lab, on):
    volume = lab.make("tmpfs", 8 * MIB)
    nasty(volume.path / "src", volume.traits)
    lab.mount("-o", "remount,ro", at=volume.path)
    dst = on("ext4") / "dst"
    drover.sync(volume.path / "src", dst)
    assert_equal(volume.path / "src", dst)


def test_left_overs_in_the_source_are_not_taken_for_files(drover, src, dst):
    """The source was itself a destination, of a run that never ended."""
    plant(src, {".drover.run": "x", ".drover.0123456789abcdef.0": "half a file", "file": "x",
                "dir/.drover.0123456789abcdef.1/staged": "x"})
    drover.sync(src, dst, code=(0, 1, 4))
    drover.sync(src, dst, code=(0, 1, 4))
    assert litter(dst) == []
    assert_equal(src, dst, but=[".drover.run", ".drover.0123456789abcdef.0", "dir/.drover.0123456789abcdef.1",
                                "dir/.drover.0123456789abcdef.1/staged"])


def test_an_existing_empty_destination_takes_the_roots_metadata(drover, src, dst):
    plant(src, {"a": "a"})
    src.chmod(0o2750)
    os.chown(src, 5, 6)
    dst.mkdir()
    drover.sync(src, dst)
    assert_equal(src, dst)


@pytest.mark.parametrize("slashes", [("", ""), ("/", ""), ("", "/"), ("/", "/")])
def test_a_trailing_slash_changes_nothing(drover, src, dst, slashes):
    plant(src, {"a/b": "b"})
    drover.sync(f"{src}{slashes[0]}", f"{dst}{slashes[1]}")
    assert_equal(src, dst)


@pytest.mark.local
def test_the_roots_may_be_given_through_symlinks_and_relative_paths(drover, work, src, dst):
    plant(src, {"a/b": "b"})
    dst.mkdir()
    plant(work, {"to src": Link("src"), "to dst": Link("dst")})
    drover.sync("to src", "./to dst", folder=work)
    assert_equal(src, dst)


# --- A destination that holds little: vfat, or a FUSE file system that behaves like it ---

@pytest.fixture(params=["fat over fuse", "vfat"])
def poor(request, work, faulty, lab):
    """A destination that keeps no owners, modes, links, attributes or odd seconds."""
    if request.param == "vfat":
        return lab.make("vfat", 64 * MIB).path / "dst"
    (work / "backing").mkdir()
    return faulty(work / "backing", "fat") / "dst"


@pytest.fixture
def rich(src):
    plant(src, {"dir/file": "content", "dir/other": noise(100_000), "symlink": Link("dir/file"), "plain": "plain"})
    os.link(src / "plain", src / "plain too")
    os.mkfifo(src / "fifo")
    os.chown(src / "plain", 1000, 1000)
    (src / "dir/file").chmod(0o640)
    os.setxattr(src / "plain", "user.x", b"1")
    age(src / "dir", mtime_ns=1_500_000_001_500_000_000)
    age(src)
    return src


def _files(root):
    return {path.relative_to(root): path.read_bytes() for path in sorted(root.rglob("*"))
            if path.is_file() and not path.is_symlink()}


def test_a_poor_destination_takes_all_files_and_the_losses_are_declared(drover, rich, poor):
    result = drover.sync(rich, poor, code=4)
    assert _files(rich) == _files(poor)
    assert result.errors == [], "losses are counted, not told entry by entry"
    for word in ("owner", "mode", "symlink|link", "fifo|special"):
        assert re.search(word, result.err, re.IGNORECASE), f"{word} is lost without a word\n{result}"
    assert len(result.err.splitlines()) < 20


def test_best_effort_makes_losses_a_success(drover, rich, poor):
    drover.sync("--best-effort", rich, poor)
    assert _files(rich) == _files(poor)


def test_a_second_run_to_a_poor_destination_copies_nothing_again(drover, rich, poor):
    drover.sync("--best-effort", rich, poor)
    again = drover.sync("--best-effort", "-i", "--delete", rich, poor)
    copied = [line for line in again.lines if line[:1] in (b">", b"c")]
    assert copied == []


def test_names_that_differ_in_case_only_collide_with_an_error_and_never_mix(drover, src, poor):
    plant(src, {"same": "lower case", "SAME": "upper case, longer", "other": "other"})
    result = drover.sync("--best-effort", src, poor, code=(1, 4))
    assert re.search("same", result.err, re.IGNORECASE), f"the collision is not named\n{result}"
    assert (poor / "other").read_text() == "other"
    assert (poor / "same").read_text() in ("lower case", "upper case, longer")


def _extents(path):
    """The physical extents of a file, each of which has to be shared."""
    extents = []
    for line in run("filefrag", "-v", path).decode().splitlines():
        fields = line.split(":")
        if len(fields) >= 5 and fields[0].strip().isdigit():
            assert "shared" in line, f"{path} has an extent of its own: {line}"
            extents.append((fields[1].strip(), fields[2].strip()))
    assert extents, f"{path} has no extents"
    return extents


def test_the_judges_see_a_difference(drover, lab, src, dst):
    """The tests are worth what their judges are: one flipped attribute at a time is found."""
    nasty(src, lab.volume("ext4").traits)
    drover.sync(src, dst)
    (dst / "plain").chmod(0o600)
    with pytest.raises(AssertionError):
        assert_equal(src, dst)
    with pytest.raises(AssertionError):
        assert_tools_agree(src, dst)
    assert rsync_itemize(src, dst) == [b".f...p..... plain"]
