# SPDX-License-Identifier: Apache-2.0
"""--verify: what was written is read again from the disk and compared with what was read from the source."""
import mmap
import os
import re
import signal

import pytest

from drover import Stopped
from judge import assert_equal, litter
from lab import MIB, require
from trees import Hard, Link, deep_path, many_files, noise, plant

UNEQUAL = "content differs from what was read from the source"
TOUCHED = "changed by somebody else since it was written"
TREE = {"small": "a few bytes", "empty": "", "dir/medium": noise(300_000, seed=1), "dir/large": noise(3 * MIB + 17, seed=2),
        "dir/deeper/other": noise(5000, seed=3), "link": Link("small"), "again": Hard("dir/medium"), "nothing/": None}
FILES = 5  # inodes with content of their own


@pytest.fixture
def tree(src):
    return plant(src, TREE)


def words(result):
    """What verification said, as (side, path, operation, reason)."""
    return [error for error in result.errors if error[2] == "verify"]


# --- What is as it should be ---

def test_every_file_that_was_written_is_verified_and_no_other(drover, tree, dst):
    result = drover.sync("--verify", "--json", tree, dst)
    assert result.counts["files_copied"] == result.counts["verified"] == FILES
    assert drover.sync("--verify", "--json", tree, dst).counts["verified"] == 0
    (tree / "small").write_text("other bytes")
    (tree / "dir/large").write_bytes(noise(4 * MIB, seed=9))
    assert drover.sync("--verify", "--json", tree, dst).counts["verified"] == 2
    assert_equal(tree, dst)
    assert litter(dst) == []


def test_without_the_option_nothing_is_verified(drover, tree, dst):
    assert drover.sync("--json", tree, dst).counts["verified"] == 0


def test_a_dry_run_verifies_nothing(drover, tree, dst):
    assert drover.sync("--verify", "-n", "--json", tree, dst).counts["verified"] == 0
    assert not dst.exists()


@pytest.mark.parametrize("fs", ["ext4", "xfs", "btrfs", "tmpfs"])
@pytest.mark.parametrize("option", ["--io=auto", "--io=threads", "--fsync=none", "--fsync=each", "--inplace"])
def test_it_works_on_every_file_system_and_however_it_was_written(drover, on, fs, option):
    place = on(fs)
    tree = plant(place / "src", TREE)
    for version in (1, 2):
        counts = drover.sync("--verify", option, "--json", tree, place / "dst").counts
        assert counts["verified"] == counts["files_copied"] > 0
        (tree / "dir/large").write_bytes(noise(3 * MIB + 17, seed=20 + version))


@pytest.mark.local
def test_clones_have_no_digest_and_are_compared_with_the_source(drover, on):
    place = on("btrfs")
    tree = plant(place / "src", TREE)
    counts = drover.sync("--verify", "--json", tree, place / "dst").counts
    assert counts["bytes_cloned"] > 3 * MIB, "nothing was cloned: the test shows nothing"
    assert counts["verified"] == FILES


def test_holes_are_verified_without_being_read(drover, tree, dst):
    with open(tree / "holes", "wb") as file:
        file.seek(40 << 30)
        file.write(noise(5000))
    assert drover.sync("--verify", "--json", tree, dst).counts["verified"] == FILES + 1


def test_many_files_and_long_paths(drover, src, dst):
    many_files(src, 3000)
    deep_path(src)
    counts = drover.sync("--verify", "--json", src, dst).counts
    assert counts["verified"] == counts["files_copied"] > 3000


@pytest.mark.parametrize("fs", ["ext4", "btrfs"])  # staged beside the file; patched in a clone
def test_a_patched_file_is_verified_as_a_whole(drover, on, fs):
    content = bytearray(noise(32 * MIB, seed=5))
    src, dst = plant(on("tmpfs") / "src", {"image": bytes(content)}), on(fs) / "dst"
    drover.sync(src, dst)
    content[7 * MIB] ^= 1
    (src / "image").write_bytes(content)
    counts = drover.sync("--verify", "--json", src, dst).counts
    assert counts["files_patched"] == counts["verified"] == 1
    assert_equal(src, dst)


# --- A destination that does not keep what it is given ---

@pytest.mark.parametrize("victim, offset", [("small", 0), ("dir/medium", 299_999), ("dir/large", 2 * MIB + 5)])
@pytest.mark.parametrize("io", ["auto", "threads"])
def test_a_byte_that_is_read_back_as_another_is_found(drover, tree, work, faulty, victim, offset, io):
    os.mkdir(work / "backing")
    spoiled = faulty(work / "backing", f"read:/{victim}:flip={offset}")
    result = drover.sync("--verify", f"--io={io}", tree, spoiled, code=1)
    assert words(result) == [("destination", victim, "verify", UNEQUAL)], str(result)
    assert re.search("1 file has.*the next run copies it again", result.err), str(result)


def test_in_json_the_others_are_counted(drover, tree, work, faulty):
    os.mkdir(work / "backing")
    spoiled = faulty(work / "backing", "read:/dir/*:flip=100")
    result = drover.sync("--verify", "--json", tree, spoiled, code=1)
    errors = result.events("error")
    assert sorted(error["path"] for error in errors) == ["dir/deeper/other", "dir/large", "dir/medium"]
    assert {(error["operation"], error["reason"]) for error in errors} == {("verify", UNEQUAL)}
    assert result.counts["verified"] == FILES - 3 and result.counts["failed"] == 3


def test_without_verify_nobody_notices(drover, tree, work, faulty):
    """Which is why there is the option."""
    os.mkdir(work / "backing")
    drover.sync(tree, faulty(work / "backing", "read:/dir/*:flip=100"))


def test_the_words_are_right_the_next_run_repairs_it(drover, tree, work, faulty):
    os.mkdir(work / "backing")
    drover.sync("--verify", tree, faulty(work / "backing", "read:/dir/large:flip=100"), code=1)
    with open(work / "backing/dir/large", "r+b") as file:  # what such a disk would leave
        keep = os.fstat(file.fileno())
        file.seek(100)
        file.write(b"\0\0\0\0")
        file.flush()
        os.utime(file.fileno(), ns=(keep.st_atime_ns, keep.st_mtime_ns))
    drover.sync("--verify", tree, work / "backing")
    assert_equal(tree, work / "backing")


def test_what_cannot_be_read_back_is_named_with_its_reason(drover, tree, work, faulty):
    os.mkdir(work / "backing")
    result = drover.sync("--verify", tree, faulty(work / "backing", "read:/dir/large:EIO=1048576-1052671"), code=1)
    assert words(result) == [("destination", "dir/large", "verify", "Input/output error")]


def flip_on_disk(volume, content, offset):
    """Changes a byte in the image, where this content lies, under the mounted file system and its cache."""
    block = content[offset & -512:][:512]
    with open(volume.image, "r+b") as image, mmap.mmap(image.fileno(), 0) as disk:
        found = disk.find(block)
        assert found >= 0 and disk.find(block, found + 1) < 0, "the content is not on the disk yet, or twice"
        disk[found + offset % 512] ^= 1


@pytest.mark.parametrize("name, offset", [("small", 3000), ("large", 2 * MIB + 100)])
@pytest.mark.local
def test_a_byte_that_changed_on_the_disk_is_found_although_the_cache_has_it_right(drover, src, lab, name, offset):
    content = {"small": noise(9000, seed=30), "large": noise(5 * MIB, seed=31)}
    plant(src, content)
    volume = lab.make("ext4", 64 * MIB)
    with stopped_at_the_sync(drover, src, volume.path / "dst") as running:
        flip_on_disk(volume, content[name], offset)
        assert (volume.path / "dst" / name).read_bytes() == content[name], "the cache was to be right"
        result = running.go_on(code=1)
    assert words(result) == [("destination", name, "verify", UNEQUAL)], str(result)
    lab.unmount(volume.path)


@pytest.mark.local
def test_no_delta_counts_on_what_did_not_verify(drover, on, lab, work):
    """The next run finds the wrong byte, because it does not believe what it remembers of the file."""
    content = bytearray(noise(32 * MIB, seed=40))
    src = plant(on("tmpfs") / "src", {"image": bytes(content)})
    volume = lab.make("ext4", 128 * MIB)
    with stopped_at_the_sync(drover, src, volume.path / "dst", work / "log") as running:
        flip_on_disk(volume, content, 5 * MIB)
        running.go_on(code=1)
    content[20 * MIB] ^= 1
    (src / "image").write_bytes(content)
    counts = drover.sync("--json", src, volume.path / "dst").counts
    assert counts["files_patched"] == 1, "there was no delta: the test shows nothing"
    lab.remount(volume)
    assert_equal(src, volume.path / "dst")
    lab.unmount(volume.path)


# --- A destination that others write to ---

def stopped_at_the_sync(drover, src, dst, log=None):
    """Where everything is on disk and nothing verified yet."""
    require("strace")
    return Stopped(lambda prefix: drover.start("--verify", src, dst, prefix=prefix), "syncfs", log or src.parent / "strace.log")


@pytest.mark.parametrize("size", [5000, 2 * MIB])
@pytest.mark.parametrize("keep_size", [True, False], ids=["same size", "other size"])
@pytest.mark.local
def test_what_somebody_else_changed_meanwhile_is_said_to_be_so(drover, src, dst, size, keep_size):
    plant(src, {"file": noise(size), "other": "x"})
    with stopped_at_the_sync(drover, src, dst) as running:
        (dst / "file").write_bytes(noise(size + (0 if keep_size else 10), seed=1))
        result = running.go_on(code=1)
    assert words(result) == [("destination", "file", "verify", TOUCHED)], str(result)


@pytest.mark.local
def test_what_somebody_else_removed_meanwhile_is_named(drover, src, dst):
    plant(src, {"file": "x", "dir/one": "x", "dir/two": "x"})
    with stopped_at_the_sync(drover, src, dst) as running:
        (dst / "file").unlink()
        os.rename(dst / "dir", dst / "other")
        result = running.go_on(code=1)
    assert sorted(words(result)) == [("destination", "dir", "verify", "No such file or directory"),
                                     ("destination", "file", "verify", "No such file or directory")], str(result)


@pytest.mark.local
def test_a_link_put_in_the_place_of_a_file_is_not_followed(drover, src, dst, work):
    plant(src, {"file": "secret", "dir/file": "secret"})
    plant(work / "outside", {"file": "secret"})
    with stopped_at_the_sync(drover, src, dst) as running:
        (dst / "file").unlink()
        (dst / "file").symlink_to(work / "outside/file")
        os.rename(dst / "dir", work / "dir was here")
        (dst / "dir").symlink_to(work / "outside")
        result = running.go_on(code=1)
    assert sorted(error[1] for error in words(result)) == ["dir", "file"], str(result)


@pytest.mark.local
@pytest.mark.local
def test_a_clone_whose_source_changed_since_is_not_verified_and_no_failure(drover, on):
    place = on("btrfs")
    src = plant(place / "src", {"file": noise(MIB), "other": noise(MIB, seed=1)})
    with stopped_at_the_sync(drover, src, place / "dst") as running:
        (src / "file").write_bytes(noise(MIB, seed=2))
        result = running.go_on(code=0)
    assert re.search("1 file.*not verified", result.err), str(result)


@pytest.mark.local
def test_a_signal_ends_it(drover, src, dst):
    many_files(src, 2000)
    with stopped_at_the_sync(drover, src, dst) as running:
        os.kill(running.running.process.pid, signal.SIGINT)
        result = running.go_on(code=130)
    assert words(result) == [] and "verified" not in result.err, str(result)
    assert_equal(src, dst)


# --- How it reads ---

@pytest.mark.local
def test_all_reads_of_the_destination_bypass_the_cache(drover, tree, dst, work):
    require("strace")
    log = work / "log"
    drover.sync("--verify", "--io=threads", tree, dst, prefix=(
        "strace", "-f", "-y", "-qq", "-o", log, "-e", "trace=fcntl,fadvise64,read,pread64,readv,preadv,preadv2,mmap,syncfs"))
    lines = log.read_text().splitlines()
    synced = max(number for number, line in enumerate(lines) if "syncfs" in line)
    call = re.compile(rf"\d+ +(?P<name>\w+)\(\d+<{re.escape(str(dst))}/(?P<path>[^>]*)>,? ?(?P<rest>.*)")
    bypassed, read = set(), set()
    for line in lines[synced:]:
        found = call.match(line)
        if not found:
            continue
        name, path, rest = found["name"], found["path"], found["rest"]
        if (name == "fcntl" and "F_SETFL" in rest and "O_DIRECT" in rest) or "POSIX_FADV_DONTNEED" in rest:
            bypassed.add(path)
        elif name in ("read", "pread64", "readv", "preadv", "preadv2", "mmap"):
            assert path in bypassed, line
            read.add(path)
    # One of the two names of "dir/medium" was the first.
    assert read - {"again", "dir/medium"} == {"small", "dir/large", "dir/deeper/other"}
    assert len(read & {"again", "dir/medium"}) == 1


@pytest.mark.local
def test_a_list_that_cannot_be_kept_is_no_success(drover, src, dst, lab):
    """$TMPDIR is full."""
    many_files(src, 3000)
    small = lab.make("tmpfs", 8192)
    drover.environment["TMPDIR"] = str(small.path)
    try:
        result = drover.sync("--verify", src, dst, code=1)
    finally:
        del drover.environment["TMPDIR"]
    assert result.failed(".")[:3] == ("destination", ".", "verify"), str(result)
    assert_equal(src, dst)
