# SPDX-License-Identifier: Apache-2.0
"""What was renamed at the source is renamed at the destination: its inodes stay, its data is neither read nor sent."""
import os
import random
import re
import shutil

import pytest

from judge import Snapshot, assert_equal, assert_untouched, litter
from lab import MIB, require, spread
from trees import Hard, Link, age, many_files, noise, plant

LARGE = 6 * MIB


@pytest.fixture
def synced(drover, src, dst):
    """synced(ENTRIES): a source with these entries, and a destination that holds them too."""
    def make(entries):
        plant(src, entries)
        drover.sync(src, dst)
        return src, dst
    return make


def inodes(tree):
    return {str(path.relative_to(tree)): os.lstat(path).st_ino for path in tree.rglob("*")}


def moved_sync(drover, src, dst, *options):
    """A sync that has to leave the trees equal; its counts."""
    counts = drover.sync("--delete", "--json", *options, src, dst).counts
    assert_equal(src, dst)
    assert litter(dst) == []
    return counts


@pytest.mark.parametrize("fs", ["ext4", "xfs", "btrfs", "tmpfs"])
def test_a_renamed_directory_is_one_rename(drover, on, fs):
    src, dst = plant(on(fs) / "src", {"old": None}), on(fs) / "dst"
    many_files(src / "old", 1000, per_directory=100)
    drover.sync(src, dst)
    before = inodes(dst)
    (src / "old").rename(src / "new")
    counts = moved_sync(drover, src, dst)
    assert counts["moved"] == 1 and counts["bytes_written"] == counts["files_copied"] == 0
    assert counts["deleted"] == 0
    assert inodes(dst) == {path.replace("old", "new", 1): number for path, number in before.items()}


def test_no_file_of_a_renamed_directory_is_read(drover, src, dst, work):
    require("strace")
    many_files(src / "old", 300, per_directory=30)
    drover.sync(src, dst)
    (src / "old").rename(src / "new")
    trace = work / "trace"
    drover.sync("--delete", "--io=threads", src, dst, prefix=[
        "strace", "-f", "-y", "-o", trace, "-e", "trace=read,pread64,rename,renameat,renameat2,unlink,unlinkat"])
    calls = trace.read_text(errors="replace").splitlines()
    assert not [line for line in calls if "read" in line.split("(")[0] and f"<{src}/new/" in line]
    assert len([line for line in calls if re.search(r'rename\w*\(.*"old".*"new"', line)]) == 1
    assert_equal(src, dst)


@pytest.mark.parametrize("size", [20_000, LARGE], ids=["small", "large"])
def test_a_renamed_file_keeps_its_inode(drover, synced, size):
    src, dst = synced({"old": noise(size), "other": "other"})
    number = os.stat(dst / "old").st_ino
    (src / "old").rename(src / "new")
    counts = moved_sync(drover, src, dst)
    assert counts["moved"] == 1 and counts["bytes_written"] == 0
    assert os.stat(dst / "new").st_ino == number


def test_into_another_directory_that_was_there(drover, synced):
    src, dst = synced({"a/file": noise(LARGE), "b/other": "x"})
    number = os.stat(dst / "a/file").st_ino
    (src / "a/file").rename(src / "b/renamed")
    assert moved_sync(drover, src, dst)["bytes_written"] == 0
    assert os.stat(dst / "b/renamed").st_ino == number


@pytest.mark.parametrize("names", [("a", "z"), ("z", "a")], ids=["before it", "after it"])
def test_into_a_new_directory(drover, synced, names):
    """Whichever of the two directories comes first."""
    old, new = names
    src, dst = synced({f"{old}/file": noise(LARGE), f"{old}/stays": "x"})
    number = os.stat(dst / old / "file").st_ino
    (src / new / "deep").mkdir(parents=True)
    (src / old / "file").rename(src / new / "deep/file")
    counts = moved_sync(drover, src, dst)
    assert counts["bytes_written"] == 0 and counts["moved"] == 1
    assert os.stat(dst / new / "deep/file").st_ino == number


def test_out_of_a_directory_that_is_gone_now(drover, synced):
    src, dst = synced({"a/file": noise(LARGE), "z/file": noise(LARGE, seed=1)})
    numbers = os.stat(dst / "a/file").st_ino, os.stat(dst / "z/file").st_ino
    (src / "a/file").rename(src / "m")
    (src / "z/file").rename(src / "n")
    (src / "a").rmdir()
    (src / "z").rmdir()
    assert moved_sync(drover, src, dst)["bytes_written"] == 0
    assert (os.stat(dst / "m").st_ino, os.stat(dst / "n").st_ino) == numbers


def test_a_whole_directory_into_another(drover, synced):
    src, dst = synced({"a/sub/one": noise(LARGE), "a/sub/two": "2", "b/x": "x"})
    before = inodes(dst / "a/sub")
    (src / "a/sub").rename(src / "b/inner")
    counts = moved_sync(drover, src, dst)
    assert counts["moved"] == 1 and counts["bytes_written"] == 0
    assert inodes(dst / "b/inner") == before


def test_a_directory_renamed_and_edited_inside(drover, synced):
    src, dst = synced({"old/edited": "1", "old/stays": noise(LARGE), "old/gone": "x", "old/sub/file": "y"})
    number = os.stat(dst / "old/stays").st_ino
    (src / "old").rename(src / "new")
    (src / "new/edited").write_text("edited")
    (src / "new/gone").unlink()
    (src / "new/sub").rename(src / "new/renamed too")
    plant(src / "new", {"came": "came"})
    (src / "new").chmod(0o700)
    counts = moved_sync(drover, src, dst)
    assert os.stat(dst / "new/stays").st_ino == number
    assert counts["bytes_written"] < 100


def test_a_file_renamed_and_then_edited_arrives_as_it_is_now(drover, synced):
    src, dst = synced({"old": noise(LARGE), "dir/old": "old"})
    (src / "old").rename(src / "new")
    with open(src / "new", "r+b") as file:
        file.seek(MIB)
        file.write(b"edited")
    (src / "dir/old").rename(src / "dir/new")
    (src / "dir/new").write_text("new")
    moved_sync(drover, src, dst)


def test_metadata_changed_with_the_name(drover, synced):
    src, dst = synced({"old": noise(LARGE)})
    number = os.stat(dst / "old").st_ino
    (src / "old").rename(src / "new")
    (src / "new").chmod(0o600)
    os.chown(src / "new", 1000, 1000)
    os.setxattr(src / "new", "user.x", b"x")
    assert moved_sync(drover, src, dst)["bytes_written"] == 0
    assert os.stat(dst / "new").st_ino == number


def test_two_names_exchanged(drover, synced):
    """With equal sizes and times: only the inode tells."""
    src, dst = synced({"a": noise(LARGE, seed=1), "b": noise(LARGE, seed=2), "x/one": "one", "y/two": "two"})
    for one, other in (("a", "b"), ("x", "y")):
        (src / one).rename(src / "between")
        (src / other).rename(src / one)
        (src / "between").rename(src / other)
    age(src / "a", mtime_ns=1_600_000_000_000_000_001)
    age(src / "b", mtime_ns=1_600_000_000_000_000_002)
    moved_sync(drover, src, dst)


def test_directories_exchanged(drover, synced):
    src, dst = synced({"a/one": noise(LARGE), "a/both": "from a", "b/two": noise(LARGE, seed=1), "b/both": "from b!"})
    (src / "a").rename(src / "between")
    (src / "b").rename(src / "a")
    (src / "between").rename(src / "b")
    moved_sync(drover, src, dst)


def test_rotated_logs(drover, synced):
    """log.2 goes, log.1 becomes log.2, log becomes log.1, and there is a new log."""
    src, dst = synced({"log": noise(LARGE, seed=0), "log.1": noise(LARGE, seed=1), "log.2": noise(LARGE, seed=2)})
    for number, name in enumerate(("log", "log.1", "log.2")):
        age(src / name, mtime_ns=1_600_000_000_000_000_000 - number * 10**12)
    drover.sync(src, dst)
    numbers = inodes(dst)
    (src / "log.2").unlink()
    (src / "log.1").rename(src / "log.2")
    (src / "log").rename(src / "log.1")
    (src / "log").write_bytes(b"a new line\n")
    counts = moved_sync(drover, src, dst)
    assert os.stat(dst / "log.2").st_ino == numbers["log.1"]
    assert os.stat(dst / "log.1").st_ino == numbers["log"]
    assert counts["bytes_written"] < 100


def test_a_name_that_something_else_has_taken(drover, synced):
    src, dst = synced({"file": noise(LARGE), "dir/inner": noise(LARGE, seed=1)})
    numbers = inodes(dst)
    (src / "file").rename(src / "moved file")
    (src / "dir").rename(src / "moved dir")
    plant(src, {"file/now a directory": "x", "dir": "now a file"})
    counts = moved_sync(drover, src, dst)
    assert counts["bytes_written"] < 100
    assert os.stat(dst / "moved file").st_ino == numbers["file"]
    assert os.stat(dst / "moved dir/inner").st_ino == numbers["dir/inner"]


def test_over_a_name_that_was_there(drover, synced):
    src, dst = synced({"old": noise(LARGE), "taken": "goes", "dir/old/x": "x", "dir/taken/y": "y"})
    number = os.stat(dst / "old").st_ino
    (src / "old").replace(src / "taken")
    shutil.rmtree(src / "dir/taken")
    (src / "dir/old").rename(src / "dir/taken")
    assert moved_sync(drover, src, dst)["bytes_written"] < 100
    assert os.stat(dst / "taken").st_ino == number


def test_a_directory_into_what_was_its_own_child(drover, synced):
    """a/b becomes b, and a goes into it: b/a."""
    src, dst = synced({"a/b/file": noise(LARGE), "a/other": "x"})
    (src / "a/b").rename(src / "b")
    (src / "a").rename(src / "b/a")
    moved_sync(drover, src, dst)


def test_one_of_several_hard_links_renamed(drover, synced):
    src, dst = synced({"one": noise(LARGE), "two": Hard("one"), "dir/three": Hard("one")})
    (src / "two").rename(src / "dir/renamed")
    assert moved_sync(drover, src, dst)["bytes_written"] == 0


def test_links_and_empty_files_renamed(drover, synced):
    src, dst = synced({"link": Link("nowhere"), "empty": "", "dir/empty too": ""})
    (src / "link").rename(src / "dir/link")
    (src / "empty").rename(src / "empty now elsewhere")
    moved_sync(drover, src, dst)


def test_an_inode_used_again_for_another_file_is_no_move(drover, synced):
    """File systems give the number of a deleted file to the next one. Same size and mtime, other content."""
    src, dst = synced({f"old{number}": noise(5000, seed=number) for number in range(20)})
    for number in range(20):
        (src / f"old{number}").unlink()
    plant(src, {f"new{number}": noise(5000, seed=100 + number) for number in range(20)})
    reused = {os.stat(src / f"new{number}").st_ino for number in range(20)}
    moved_sync(drover, src, dst)
    assert reused


def test_what_was_changed_at_the_destination_is_not_moved(drover, synced):
    """With the size and mtime of before, under the name that the index knows."""
    src, dst = synced({"old": noise(LARGE), "dir/old": noise(5000)})
    for name in ("old", "dir/old"):
        keep = os.stat(dst / name)
        with open(dst / name, "r+b") as file:
            file.write(b"spoilt")
        os.utime(dst / name, ns=(keep.st_atime_ns, keep.st_mtime_ns))
    (src / "old").rename(src / "new")
    (src / "dir/old").rename(src / "dir/new")
    moved_sync(drover, src, dst)


def test_what_somebody_moved_at_the_destination_already_is_just_synced(drover, synced):
    src, dst = synced({"dir/file": noise(LARGE), "dir/other": "x"})
    (src / "dir").rename(src / "renamed")
    (dst / "dir").rename(dst / "somewhere else")
    moved_sync(drover, src, dst)


def test_without_delete_nothing_is_moved(drover, synced):
    src, dst = synced({"old": noise(LARGE), "dir/file": "x"})
    before = Snapshot(dst)
    (src / "old").rename(src / "new")
    (src / "dir").rename(src / "renamed")
    counts = drover.sync("--json", src, dst).counts
    assert counts["moved"] == 0
    assert_untouched(before, Snapshot(dst), but={b".", b"new", b"renamed", b"renamed/file"})
    assert (dst / "new").read_bytes() == (dst / "old").read_bytes() == noise(LARGE)


def test_no_moves_copies_and_deletes(drover, synced):
    src, dst = synced({"old": noise(LARGE)})
    number = os.stat(dst / "old").st_ino
    (src / "old").rename(src / "new")
    counts = moved_sync(drover, src, dst, "--no-moves")
    assert counts["moved"] == 0 and counts["bytes_written"] >= LARGE
    assert os.stat(dst / "new").st_ino != number


@pytest.mark.parametrize("option", ["--no-manifest", "--max-delete=0"])
def test_where_moves_are_out_of_the_question_the_result_is_right_all_the_same(drover, synced, option):
    src, dst = synced({"old": noise(LARGE), "dir/a": "a", "dir/b": "b"})
    (src / "old").rename(src / "new")
    (src / "dir").rename(src / "dir2")
    result = drover.sync("--delete", option, src, dst, code=(0, 1))
    if result.code == 0:
        assert_equal(src, dst)
    else:
        assert (dst / "new").read_bytes() == noise(LARGE) and (dst / "dir2/a").exists()


def test_what_is_excluded_now_stays_where_it_is(drover, synced):
    """A directory with protected entries in it can't just be renamed away with them."""
    src, dst = synced({"old/file": "x", "old/other": noise(LARGE)})
    plant(dst, {"old/cache.o": "of the destination alone"})
    (src / "old").rename(src / "new")
    drover.sync("--delete", "--exclude=*.o", src, dst)
    assert (dst / "new/file").exists() and (dst / "new/other").read_bytes() == noise(LARGE)
    assert (dst / "old/cache.o").read_text() == "of the destination alone"
    assert not (dst / "old/file").exists()


def test_what_was_excluded_before_is_not_taken_for_a_move(drover, src, dst):
    plant(src, {"a.o": noise(LARGE), "file": "x"})
    drover.sync("--exclude=*.o", src, dst)
    (src / "a.o").rename(src / "a")
    assert moved_sync(drover, src, dst)["moved"] == 0


def test_a_dry_run_shows_moves_and_changes_nothing(drover, synced):
    src, dst = synced({"old": noise(LARGE), "dir/file": "x"})
    before = Snapshot(dst)
    (src / "old").rename(src / "new")
    (src / "dir").rename(src / "dir2")
    would = drover.sync("--delete", "--dry-run", "--json", src, dst)
    assert_untouched(before, Snapshot(dst))
    assert would.counts["moved"] == 2 and would.counts["bytes_written"] == 0
    did = drover.sync("--delete", "--json", src, dst)
    assert_equal(src, dst)

    def told(result):
        return sorted((one["action"], one["path"], one.get("moved_from", "")) for one in result.events("change"))
    assert told(would) == told(did)
    assert {(one["path"], one["moved_from"]) for one in did.events("change") if "moved_from" in one} == {
        ("new", "old"), ("dir2/", "dir/")}


def test_moves_are_itemised(drover, synced):
    src, dst = synced({"old": noise(LARGE)})
    (src / "old").rename(src / "new")
    assert b"old" in drover.sync("--delete", "-i", src, dst).out
    assert drover.sync("--delete", "-i", src, dst).out == b"", "and then nothing is left to do"


def test_a_run_after_moves_knows_the_new_places(drover, synced):
    src, dst = synced({"a/file": noise(LARGE)})
    number = os.stat(dst / "a/file").st_ino
    for old, new in (("a", "b"), ("b", "c"), ("c", "a")):
        (src / old).rename(src / new)
        assert moved_sync(drover, src, dst)["bytes_written"] == 0
    assert os.stat(dst / "a/file").st_ino == number


def test_moves_killed_at_any_system_call_are_completed(drover, work, chance, src, dst):
    require("strace")
    plant(src, {"keep": "x"})
    many_files(src / "a", 60, per_directory=10)
    many_files(src / "b", 60, per_directory=10, seed=1)
    plant(src / "c", {"large": noise(LARGE), "pair": "p", "pair too": Hard("pair")})
    drover.sync(src, dst)
    killed = 0
    calls = ["renameat2", "unlinkat", "mkdirat", "pwrite64", "fsync", "syncfs", "close", "openat", "write", "utimensat",
             "fdatasync", "renameat"] * 2
    calls = spread(chance, calls, 8 if drover.over else 24)
    for number, call in enumerate(calls):
        names = sorted(path for path in src.rglob("*") if path.name != "keep")
        for path in chance.sample(names, min(12, len(names))):
            into = chance.choice([path.parent, src, src / "c"])
            target = into / f"n{number} {path.name}"[:60]
            if path.exists() and into.exists() and not target.exists() and path not in (into, *into.parents):
                path.rename(target)
        when = chance.randrange(1, 8)
        result = drover.sync("--delete", "--io=threads", "-j2", src, dst, code=None, prefix=[
            "strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace=?{call}", "-e",
            f"inject=?{call}:signal=KILL:when={when}"])
        killed += result.code != 0
        drover.sync("--delete", src, dst)
        assert litter(dst) == []
        assert_equal(src, dst)
    assert killed > len(calls) / 12, "this has shown little"


def test_many_random_renames_and_edits_converge(drover, src, dst):
    """Twenty rounds of moving things about; each sync leaves equal trees."""
    chance = random.Random(11)
    for top in "abcd":
        many_files(src / top, 80, per_directory=8, seed=ord(top))
    plant(src, {"large1": noise(LARGE, seed=1), "large2": noise(LARGE, seed=2)})
    drover.sync(src, dst)
    for number in range(20):
        for _ in range(15):
            entries = list(src.rglob("*"))
            path, into = chance.choice(entries), chance.choice([one for one in entries if one.is_dir()] + [src])
            if into == path or path in into.parents:
                continue
            target = into / chance.choice([path.name, f"r{number}", f"s{chance.randrange(5)}"])
            if target.exists() and (target.is_dir() or path.is_dir()):
                continue
            path.rename(target)
            if target.is_file() and chance.random() < 0.3:
                target.write_bytes(noise(chance.randrange(300), seed=number))
        moved_sync(drover, src, dst)
