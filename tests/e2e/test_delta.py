# SPDX-License-Identifier: Apache-2.0
"""Of a large file that changed, what changed is written, and the destination need not be read to know it.

What is read and written is counted by strace, the result is compared by cmp-like means; drover's own counts are
asked only for what no other judge can see.
"""
import filecmp
import os
import random
import re
import shutil
import struct
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

from drover import Moments
from judge import FLAG_IMMUTABLE, assert_equal, litter, map_of, set_flags
from lab import MIB, THOROUGH, require, run, spread
from trees import OLD_NS, Hard, age, noise, plant

PAGE = 8192
BLOCK = 16 << 10  # what "changed" is counted in
LARGE = 24 * MIB  # large enough to be staged where blocks can't be shared
RESULTS = ("ext4", "xfs", "btrfs")
READS = ("read", "pread64", "readv", "preadv", "preadv2", "mmap", "copy_file_range", "sendfile", "splice")
WRITES = ("write", "pwrite64", "writev", "pwritev", "pwritev2", "copy_file_range", "sendfile", "splice")


@pytest.fixture
def pair(on):
    """pair(FS): a source on a file system that shares nothing with the destination's, and a destination on FS."""
    def make(fs):
        src = on("tmpfs") / "src"
        src.mkdir()
        return src, on(fs) / "dst"
    return make


@pytest.fixture(params=RESULTS)
def trees(request, pair):
    """Source and destination, with the destination on each of the file systems."""
    return pair(request.param)


def rewrite_pages(path, share, seed=0):
    """New content for that share of a file's pages of 8 KiB, in place; how many bytes in changed blocks."""
    chance = random.Random(seed)
    pages = chance.sample(range(path.stat().st_size // PAGE), max(1, int(share * path.stat().st_size / PAGE)))
    with open(path, "r+b") as file:
        for page in pages:
            file.seek(page * PAGE)
            file.write(noise(PAGE, seed=seed * 1_000_000 + page))
    return BLOCK * len({page * PAGE // BLOCK for page in pages})


def insert(path, offset, data):
    old = path.read_bytes()
    path.write_bytes(old[:offset] + data + old[offset:])


def same(src, dst, name="large"):
    return filecmp.cmp(src / name, dst / name, shallow=False)


class Traffic:
    """Bytes that a run read from and wrote to files, by path."""

    def __init__(self, folder):
        self.read, self.written = Counter(), Counter()
        for trace in folder.iterdir():
            for line in trace.read_text(errors="replace").splitlines():
                self._note(line)

    def _note(self, line):
        call = re.match(r"(\w+)\((.*)\) += (-?\d+|0x[0-9a-f]+)", line)
        if not call:
            return
        name, arguments, result = call.groups()
        paths = re.findall(r"\b\d+<(/[^>]*)>", arguments)
        if not paths or result.startswith("-"):
            return
        amount = int(arguments.split(", ")[1]) if name == "mmap" else int(result, 0)
        if name in READS:
            self.read[paths[0]] += amount
        if name in WRITES:
            self.written[paths[-1]] += amount

    @staticmethod
    def below(counter, tree, but=(".drover.run",)):
        return sum(amount for path, amount in counter.items() if path.startswith(f"{tree}/") and not path.endswith(but))

    def read_of(self, tree):
        """But for staged changes: those are read where they have just been written."""
        return self.below(self.read, tree, but=(".drover.run", ".redo"))


def traced_sync(drover, folder, *arguments, **options):
    """A sync that strace looks at."""
    require("strace")
    folder = folder / "traces"
    folder.mkdir()
    calls = ",".join(f"?{call}" for call in sorted({*READS, *WRITES}))
    result = drover.sync("--json", *arguments, **options, prefix=[
        "strace", "-ff", "-y", "-s", "0", "-o", folder / "t", "-e", f"trace={calls}"])
    return result, Traffic(folder)


# ---- the final sync of a database ----------------------------------------------------------------------------------


@pytest.mark.local
def test_the_final_sync_reads_the_source_once_the_destination_not_at_all_and_writes_what_changed(drover, trees, work):
    src, dst = trees
    plant(src, {"large": noise(64 * MIB + 12_345), "other": "x"})
    os.chown(src / "large", 1000, 2000)
    os.setxattr(src / "large", "user.x", b"x")
    drover.sync(src, dst)
    changed = rewrite_pages(src / "large", 0.005)
    (src / "large").chmod(0o600)

    result, traffic = traced_sync(drover, work, "--io=threads", src, dst)

    assert_equal(src, dst)
    assert litter(dst) == []
    size = (src / "large").stat().st_size
    read = traffic.read_of(src)
    assert size <= read < 1.03 * size
    assert traffic.read_of(dst) == 0
    assert Traffic.below(traffic.written, dst) <= 1.5 * changed
    assert result.counts["files_patched"] == 1
    assert size <= result.counts["bytes_read"] < 1.03 * size
    assert result.counts["bytes_written"] <= 1.5 * changed
    assert result.counts["bytes_matched"] >= size - changed


@pytest.mark.parametrize("fs", RESULTS)
def test_the_disk_under_the_destination_sees_no_reads_either(drover, lab, on, fs):
    """Asked of the block device, with nothing cached; this holds for io_uring too."""
    src, volume = on("tmpfs") / "src", lab.make(fs, 320 * MIB)
    dst = volume.path / "dst"
    plant(src, {"large": noise(48 * MIB)})
    drover.sync(src, dst)
    rewrite_pages(src / "large", 0.005)
    lab.remount(volume)
    device = run("findmnt", "-no", "SOURCE", volume.path).decode().strip().rpartition("/")[2]

    def read_bytes():
        return 512 * int(open(f"/sys/class/block/{device}/stat").read().split()[2])

    before = read_bytes()
    drover.sync(src, dst)
    assert read_bytes() - before < 4 * MIB, "more than the file system's own structures"
    assert same(src, dst)
    lab.unmount(volume.path)


def test_an_untouched_large_file_is_not_read_at_all(drover, trees, work):
    src, dst = trees
    plant(src, {"large": noise(LARGE), "other": "x"})
    drover.sync(src, dst)
    (src / "other").write_text("changed")
    _, traffic = traced_sync(drover, work, "--io=threads", src, dst)
    assert f"{src}/large" not in traffic.read and f"{dst}/large" not in traffic.read


@pytest.mark.parametrize("fs", RESULTS)
def test_on_one_file_system_it_is_a_delta_or_a_clone(drover, on, fs):
    place = on(fs)
    src, dst = plant(place / "src", {"large": noise(LARGE)}), place / "dst"
    drover.sync(src, dst)
    changed = rewrite_pages(src / "large", 0.01)
    assert drover.sync("--json", src, dst).counts["bytes_written"] <= 1.5 * changed
    assert_equal(src, dst)


def test_again_and_again_it_stays_a_delta(drover, trees):
    """What one patch leaves, the next one builds on."""
    src, dst = trees
    plant(src, {"large": noise(LARGE)})
    drover.sync(src, dst)
    for number in range(5):
        changed = rewrite_pages(src / "large", 0.01, seed=number + 1)
        counts = drover.sync("--json", src, dst).counts
        assert counts["bytes_written"] <= 1.5 * changed and counts["bytes_read"] < 1.03 * LARGE
        assert_equal(src, dst)


def _touch(src):
    age(src / "large", mtime_ns=OLD_NS + 77)


def _change_metadata(src):
    os.chown(src / "large", 1000, 1000)
    (src / "large").chmod(0o600)
    os.setxattr(src / "large", "user.x", b"x")


def _rename(src):
    (src / "large").rename(src / "renamed")
    (src / "renamed").rename(src / "large")
    (src / "dir").rename(src / "another dir")


@pytest.mark.parametrize("meanwhile", [_touch, _change_metadata, _rename])
def test_what_is_known_of_a_file_outlives_other_changes_of_it(drover, pair, work, meanwhile):
    src, dst = pair("xfs")
    plant(src, {"large": noise(LARGE), "dir/file": "x"})
    drover.sync(src, dst)
    meanwhile(src)
    drover.sync("--delete", src, dst)
    rewrite_pages(src / "large", 0.005)
    _, traffic = traced_sync(drover, work, "--io=threads", "--delete", src, dst)
    assert traffic.read_of(dst) == 0
    assert_equal(src, dst)


def test_a_moved_file_is_patched_where_it_is_now(drover, pair, work):
    src, dst = pair("ext4")
    plant(src, {"dir/large": noise(LARGE)})
    drover.sync(src, dst)
    (src / "dir").rename(src / "new")
    (src / "new/large").rename(src / "large")
    drover.sync("--delete", src, dst)
    changed = rewrite_pages(src / "large", 0.005)
    _, traffic = traced_sync(drover, work, "--io=threads", "--delete", src, dst)
    assert traffic.read_of(dst) == 0 and Traffic.below(traffic.written, dst) <= 1.5 * changed
    assert_equal(src, dst)


# ---- an index that is lost, damaged or of another tree -------------------------------------------------------------


def _damage(kind, index, chance):
    data = bytearray(index.read_bytes())
    if kind == "deleted":
        index.unlink()
    elif kind == "empty":
        index.write_bytes(b"")
    elif kind == "noise":
        index.write_bytes(noise(len(data)))
    elif kind == "cut":
        os.truncate(index, chance.randrange(1, len(data)))
    elif kind == "bits flipped":
        for _ in range(30):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        index.write_bytes(data)
    elif kind == "a page of zeros":
        start = chance.randrange(len(data)) & -4096
        data[start:start + 4096] = bytes(4096)
        index.write_bytes(data)
    elif kind == "another's":
        index.write_text("SQLite format 3\0 but that is all")
    elif kind == "unreadable":
        index.unlink()
        index.mkdir()


@pytest.mark.local
@pytest.mark.parametrize("kind", ["deleted", "empty", "noise", "cut", "bits flipped", "a page of zeros", "another's",
                                  "unreadable"])
def test_a_lost_or_damaged_index_costs_time_and_never_content(drover, work, pair, kind):
    (src, dst), index = pair("ext4"), work / "index"
    plant(src, {"large": noise(LARGE), "renamed": noise(LARGE, seed=1), "dir/file": "x"})
    drover.sync(f"--manifest={index}", src, dst)
    chance = random.Random(7)
    for number in range(6 if kind in ("cut", "bits flipped", "a page of zeros") else 1):
        _damage(kind, index, chance)
        rewrite_pages(src / "large", 0.01, seed=2 * number + 1)
        (src / "dir/file").rename(src / f"dir/file {number}")
        (src / f"dir/file {number}").rename(src / "dir/file")
        result = drover.sync(f"--manifest={index}", "--delete", "--json", src, dst)
        assert_equal(src, dst)
        assert result.counts["bytes_written"] < 4 * MIB, "the destination is read instead"
        rewrite_pages(src / "large", 0.01, seed=2 * number + 2)
        drover.sync(f"--manifest={index}", src, dst)
        assert_equal(src, dst)
        assert index.is_file() or kind in ("another's", "noise", "unreadable"), "it is made anew, by then"


def test_without_an_index_the_destination_is_read_and_still_only_changes_are_written(drover, trees):
    src, dst = trees
    plant(src, {"large": noise(LARGE)})
    drover.sync("--no-manifest", src, dst)
    changed = rewrite_pages(src / "large", 0.005)
    counts = drover.sync("--no-manifest", "--json", src, dst).counts
    assert counts["bytes_written"] <= 1.5 * changed
    assert_equal(src, dst)


def test_a_destination_that_other_tools_made_is_patched_too(drover, trees):
    src, dst = trees
    plant(src, {"large": noise(LARGE)})
    run("rsync", "-a", f"{src}/", dst)
    changed = rewrite_pages(src / "large", 0.005)
    counts = drover.sync("--json", src, dst).counts
    assert counts["bytes_written"] <= 1.5 * changed
    assert_equal(src, dst)


@pytest.mark.local
def test_an_index_of_another_destination_is_not_believed(drover, lab, on, work):
    """Two file systems made alike: the same inode numbers, sizes and mtimes, other content."""
    volumes = [lab.make("ext4", 96 * MIB, "-U", "6ba7b810-9dad-11d1-80b4-00c04fd430c8") for _ in range(2)]
    src = on("tmpfs") / "src"
    plant(src, {"large": noise(LARGE)})
    for volume in volumes:
        drover.sync(f"--manifest={work / 'index'}", src, volume.path / "dst")
    for volume in volumes:
        with open(volume.path / "dst/large", "r+b") as file:
            file.write(noise(MIB, seed=9))
        age(volume.path / "dst/large")
    numbers = {os.stat(volume.path / "dst/large").st_ino for volume in volumes}
    rewrite_pages(src / "large", 0.005, seed=1)
    for volume in volumes:
        drover.sync(f"--manifest={work / 'index'}", src, volume.path / "dst")
        assert same(src, volume.path / "dst")
    assert len(numbers) == 1, "this test would show nothing"
    for volume in volumes:
        lab.unmount(volume.path)


@pytest.mark.parametrize("how", ["in place", "by a rename", "appended and cut again", "by mmap"])
def test_a_file_changed_behind_drovers_back_is_right_in_the_end(drover, trees, how):
    """At the destination, with the size and mtime of before: only the ctime or the inode tells."""
    src, dst = trees
    plant(src, {"large": noise(LARGE)})
    drover.sync(src, dst)
    if how == "in place":
        with open(dst / "large", "r+b") as file:
            file.seek(10 * MIB)
            file.write(noise(100_000, seed=1))
    elif how == "by a rename":
        (dst / "new").write_bytes(noise(LARGE, seed=2))
        run("chown", "--reference", dst / "large", dst / "new")
        (dst / "new").rename(dst / "large")
    elif how == "appended and cut again":
        os.truncate(dst / "large", 5 * MIB)
        os.truncate(dst / "large", LARGE)
    elif how == "by mmap":
        run("/usr/bin/python3", "-c", "import mmap, sys; f = open(sys.argv[1], 'r+b'); m = mmap.mmap(f.fileno(), 0); "
            "m[7_000_000:7_000_005] = b'wrong'; m.flush()", dst / "large")
    age(dst / "large")
    rewrite_pages(src / "large", 0.005)
    drover.sync(src, dst)
    assert_equal(src, dst)


@pytest.mark.local
def test_an_index_inside_the_tree_is_refused(drover, src, dst):
    plant(src, {"file": "x"})
    dst.mkdir()
    for place in (src / "index", dst / "index"):
        result = drover.sync(f"--manifest={place}", src, dst, code=(2, 5))
        assert str(place) in result.err and not place.exists()


def test_a_file_that_is_no_index_is_left_alone(drover, work, src, dst):
    """Somebody's own file, named by mistake."""
    plant(src, {"large": noise(LARGE)})
    drover.manifest("create", "-o", work / "tree.manifest", src)
    (work / "notes").write_text("important\n")
    (work / "letter").write_bytes(noise(30_000))
    (work / "made").mkdir()
    for name in ("notes", "letter", "tree.manifest"):
        old = (work / name).read_bytes()
        drover.sync(f"--manifest={work / name}", src, work / "made" / name, code=(0, 2, 5))
        assert (work / name).read_bytes() == old
    assert not dst.exists()


@pytest.mark.local
@pytest.mark.parametrize("side", ["src", "dst"])
def test_a_home_that_is_copied_itself_gets_no_index(drover, src, dst, side):
    """An index in the tree that it is of would change with each run."""
    plant(src, {"large": noise(LARGE), "home/file": "x"})
    drover.sync(src, dst)
    at_home = type(drover)(drover.binary, {"src": src, "dst": dst}[side] / "home")
    for number in range(2):
        rewrite_pages(src / "large", 0.01, seed=number + 1)
        at_home.sync(src, dst)
        assert filecmp.cmp(src / "large", dst / "large", shallow=False)
        assert [*src.rglob("*.index*"), *dst.rglob("*.index*")] == []


@pytest.mark.local
def test_an_index_that_cannot_be_written_does_not_stop_the_sync(drover, lab, src, dst):
    full = lab.make("tmpfs", 64 << 10)
    plant(src, {"large": noise(LARGE), **{f"file{number}": "x" for number in range(2000)}})
    drover.sync(f"--manifest={full.path / 'index'}", src, dst)
    assert_equal(src, dst)
    rewrite_pages(src / "large", 0.01)
    drover.sync(f"--manifest={full.path / 'index'}", src, dst)
    assert_equal(src, dst)
    lab.unmount(full.path)


def test_no_manifest_keeps_none(drover, lab, src, dst):
    home = lab.folder("state")
    drover_here = type(drover)(drover.binary, home)
    plant(src, {"large": noise(LARGE)})
    drover_here.sync("--no-manifest", src, dst)
    assert list(home.rglob("*.index")) == []
    rewrite_pages(src / "large", 0.01)
    drover_here.sync(src, dst)
    assert list((home / "drover").glob("*.index")), "the default is to keep one"


# ---- what may happen to a file -------------------------------------------------------------------------------------


def test_a_log_that_grew_sends_its_tail(drover, trees, work):
    src, dst = trees
    plant(src, {"large": noise(LARGE + 1234)})
    drover.sync(src, dst)
    with open(src / "large", "ab") as file:
        file.write(noise(300_000, seed=1))
    result, traffic = traced_sync(drover, work, "--io=threads", src, dst)
    assert result.counts["bytes_written"] <= 2 * 300_000 + 3 * BLOCK
    assert traffic.read_of(dst) == 0
    assert Traffic.below(traffic.written, dst) <= 2 * 300_000 + 3 * BLOCK
    assert_equal(src, dst)


def _shrink(path):
    os.truncate(path, 17 * MIB + 5)


def _shrink_a_lot(path):
    os.truncate(path, 3)


def _grow_by_a_hole(path):
    os.truncate(path, LARGE + 9 * MIB + 77)


def _punch(path):
    run("fallocate", "--punch-hole", "-o", str(3 * MIB + 4096), "-l", str(9 * MIB), path)


def _zero(path):
    with open(path, "r+b") as file:
        file.seek(2 * MIB + 1)
        file.write(bytes(5 * MIB))


def _fill_the_hole(path):
    with open(path, "r+b") as file:
        file.seek(LARGE)
        file.write(noise(3 * MIB, seed=5))


def _first_and_last_byte(path):
    with open(path, "r+b") as file:
        file.write(b"\xff")
        file.seek(-1, os.SEEK_END)
        file.write(b"\xff")


def _replace_all(path):
    path.write_bytes(noise(path.stat().st_size, seed=77))


def _insert_bytes(path):
    insert(path, 1000, b"a hundred bytes or so")


def _insert_pages(path):
    insert(path, 64 << 10, noise(3 * PAGE, seed=78))


def _remove_bytes(path):
    old = path.read_bytes()
    path.write_bytes(old[:MIB] + old[MIB + 4321:])


def _exchange_halves(path):
    old = path.read_bytes()
    path.write_bytes(old[len(old) // 2:] + old[:len(old) // 2])


def _as_another_inode(path):
    """As editors and databases' backups do it."""
    new = bytearray(path.read_bytes())
    new[5 * MIB:5 * MIB + 10] = b"new bytes!"
    path.with_name("tmp").write_bytes(new)
    path.with_name("tmp").rename(path)


CHANGES = [_shrink, _shrink_a_lot, _grow_by_a_hole, _punch, _zero, _fill_the_hole, _first_and_last_byte, _replace_all,
           _insert_bytes, _insert_pages, _remove_bytes, _exchange_halves, _as_another_inode]


WAYS = [[], ["--inplace"], ["--whole-file"], ["--no-manifest"], ["--io=uring"]]
# Over a session the destination's file systems differ as they do without: one of them sees all ways.
ALL_WAYS = RESULTS if THOROUGH or not os.environ.get("DROVER_OVER") else ("ext4",)


@pytest.mark.parametrize("fs, options", [(fs, way) for fs in RESULTS for way in WAYS if not way or fs in ALL_WAYS],
                         ids=lambda value: value if isinstance(value, str) else " ".join(value) or "by default")
def test_whatever_changed_the_result_is_equal(drover, pair, fs, options):
    """One change after the other, each on what the one before left."""
    src, dst = pair(fs)
    plant(src, {"large": noise(LARGE) + bytes(3 * MIB), "medium": noise(3 * MIB, seed=3)})
    drover.sync(*options, src, dst)
    for act in CHANGES:
        for name in ("large", "medium") if act not in (_punch, _zero) else ("large",):
            act(src / name)
        drover.sync(*options, src, dst)
        assert_equal(src, dst)
        assert litter(dst) == []
        if act in (_shrink_a_lot, _exchange_halves, _fill_the_hole):
            plant(src, {"large": noise(LARGE, seed=4) + bytes(3 * MIB), "medium": noise(3 * MIB, seed=5)})
            drover.sync(*options, src, dst)


def test_holes_stay_holes_in_a_patched_file(drover, trees):
    src, dst = trees
    with open(src / "large", "wb") as file:
        file.truncate(40 * MIB)
        for place in range(0, 40, 8):
            file.seek(place * MIB)
            file.write(noise(2 * MIB, seed=place))
    drover.sync(src, dst)
    _punch(src / "large")
    rewrite_pages(src / "large", 0.001)
    drover.sync(src, dst)
    assert_equal(src, dst)
    allocated = [sum(end - start for start, end in map_of(tree / "large")) for tree in (src, dst)]
    assert allocated[1] <= allocated[0] + MIB


@pytest.mark.local
@pytest.mark.parametrize("fs", ["xfs", "btrfs"])
def test_an_insertion_near_the_start_is_not_sent_again(drover, pair, work, fs):
    src, dst = pair(fs)
    plant(src, {"large": noise(64 * MIB)})
    drover.sync(src, dst)
    _insert_pages(src / "large")
    counts = drover.sync("--json", src, dst).counts
    assert counts["bytes_written"] < 4 * MIB
    assert counts["bytes_matched"] + counts["bytes_cloned"] > 60 * MIB
    assert_equal(src, dst)


def test_a_patched_file_keeps_its_links_apart_from_what_is_not_its_own(drover, src, dst, work):
    """A hard link that only the destination has must not be written through, unless --inplace asks for it."""
    plant(src, {"large": noise(LARGE)})
    drover.sync(src, dst)
    os.link(dst / "large", work / "kept by somebody")
    old = (dst / "large").read_bytes()
    rewrite_pages(src / "large", 0.01)
    drover.sync(src, dst)
    assert_equal(src, dst)
    assert (work / "kept by somebody").read_bytes() == old


def test_a_patched_file_with_several_names_keeps_them(drover, trees):
    src, dst = trees
    plant(src, {"a/large": noise(LARGE), "b": Hard("a/large")})
    drover.sync(src, dst)
    rewrite_pages(src / "b", 0.01)
    drover.sync(src, dst)
    assert_equal(src, dst)


@pytest.mark.parametrize("fs", RESULTS)
def test_inplace_patches_the_inode_that_is_there(drover, pair, work, fs):
    src, dst = pair(fs)
    plant(src, {"large": noise(LARGE)})
    drover.sync(src, dst)
    number = (dst / "large").stat().st_ino
    changed = rewrite_pages(src / "large", 0.01)
    _, traffic = traced_sync(drover, work, "--io=threads", "--inplace", src, dst)
    assert (dst / "large").stat().st_ino == number
    assert Traffic.below(traffic.written, dst) <= changed and traffic.read_of(dst) == 0
    assert_equal(src, dst)


def test_whole_file_writes_all_of_it(drover, trees):
    src, dst = trees
    plant(src, {"large": noise(LARGE)})
    drover.sync(src, dst)
    number = (dst / "large").stat().st_ino
    rewrite_pages(src / "large", 0.01)
    counts = drover.sync("--whole-file", "--json", src, dst).counts
    assert counts["bytes_written"] == LARGE and counts["files_patched"] == 0
    assert (dst / "large").stat().st_ino != number
    assert_equal(src, dst)


def test_a_dry_run_writes_nothing_and_says_what_would_change(drover, trees):
    src, dst = trees
    plant(src, {"large": noise(LARGE)})
    drover.sync(src, dst)
    rewrite_pages(src / "large", 0.01)
    old = (dst / "large").read_bytes()
    assert b"large" in drover.sync("-n", "-i", src, dst).out
    assert (dst / "large").read_bytes() == old


def test_metadata_of_a_patched_file_is_complete(drover, trees):
    src, dst = trees
    plant(src, {"large": noise(LARGE)})
    drover.sync(src, dst)
    rewrite_pages(src / "large", 0.01)
    os.chown(src / "large", 1000, 2000)
    (src / "large").chmod(0o6751)
    os.setxattr(src / "large", "user.x", noise(500))
    run("setfacl", "-m", "u:7:r", src / "large")
    age(src / "large", mtime_ns=OLD_NS + 123)
    drover.sync(src, dst)
    assert_equal(src, dst)


@pytest.mark.parametrize("fs", RESULTS)
def test_what_a_write_takes_away_is_there_again(drover, pair, fs):
    """The kernel drops capabilities and setuid bits of a file that is written into, and refuses locked ones."""
    src, dst = pair(fs)
    plant(src, {"large": noise(LARGE), "locked": noise(LARGE, seed=1)})
    os.setxattr(src / "large", "security.capability", struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0))
    drover.sync(src, dst)
    for name in ("large", "locked"):
        os.setxattr(dst / name, "user.extra", b"of the destination")
        run("setfacl", "-m", "u:7:r", dst / name)
    set_flags(dst / "locked", FLAG_IMMUTABLE)
    for name in ("large", "locked"):
        rewrite_pages(src / name, 0.01)
    os.setxattr(src / "large", "security.capability", struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0))
    (src / "locked").chmod(0o6711)
    drover.sync(src, dst)
    assert_equal(src, dst)


@pytest.mark.parametrize("fs", RESULTS)
def test_a_program_that_is_running_is_replaced(drover, pair, fs):
    """It can't be written into, and does not notice."""
    src, dst = pair(fs)
    program = Path(shutil.which("sleep")).read_bytes()
    plant(src, {"program": program + noise(LARGE)})
    (src / "program").chmod(0o755)
    drover.sync(src, dst)
    with subprocess.Popen([dst / "program", "60"]) as running:
        try:
            with open(src / "program", "r+b") as file:
                file.seek(20 * MIB)
                file.write(b"changed")
            drover.sync(src, dst)
            assert running.poll() is None
        finally:
            running.kill()
    assert_equal(src, dst)


@pytest.mark.parametrize("fs", RESULTS)
def test_a_user_patches_own_files_that_are_read_only(drover, pair, fs):
    require("setpriv")
    src, dst = pair(fs)
    plant(src, {"large": noise(LARGE)})
    dst.mkdir()
    for path in (src, src / "large", dst):
        os.chown(path, 1234, 1234)
    (src / "large").chmod(0o400)
    user = ["setpriv", "--reuid=1234", "--regid=1234", "--clear-groups"]
    drover.sync(src, dst, prefix=user)
    rewrite_pages(src / "large", 0.01)
    drover.sync(src, dst, prefix=user)
    assert_equal(src, dst)
    assert litter(dst) == []


# ---- storage that fails --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.01, 0.9], ids=["patched", "replaced"])
def test_a_full_disk_leaves_the_old_version(drover, lab, on, share):
    volume = lab.make("ext4", 64 * MIB)
    src, dst = on("tmpfs") / "src", volume.path / "dst"
    plant(src, {"large": noise(LARGE)})
    drover.sync(src, dst)
    run("fallocate", "-l", str(os.statvfs(dst).f_bavail * 4096 - (64 << 10)), volume.path / "ballast")
    old = (dst / "large").read_bytes()
    rewrite_pages(src / "large", share)
    result = drover.sync(src, dst, code=1)
    assert result.failed("large")[3] == "No space left on device"
    assert (dst / "large").read_bytes() == old
    assert litter(dst) == []
    (volume.path / "ballast").unlink()
    drover.sync(src, dst)
    assert_equal(src, dst)
    lab.unmount(volume.path)


@pytest.mark.parametrize("rule", ["write:/*:EIO@5", "fsync:/*:EIO", "create:/*:EACCES"])
def test_a_patch_that_cannot_be_written_leaves_one_whole_version(drover, src, work, faulty, rule):
    plant(src, {"large": noise(LARGE)})
    (work / "backing").mkdir()
    drover.sync(src, work / "backing")
    old = (work / "backing/large").read_bytes()
    rewrite_pages(src / "large", 0.01)
    drover.sync("--fsync=each", src, faulty(work / "backing", rule), code=(1, 5))
    left = (work / "backing/large").read_bytes()
    assert left in (old, (src / "large").read_bytes()) or litter(work / "backing")
    drover.sync(src, work / "backing")
    assert_equal(src, work / "backing")
    assert litter(work / "backing") == []


def test_a_source_that_cannot_be_read_half_way_leaves_the_old_version(drover, src, dst, faulty):
    plant(src, {"large": noise(LARGE)})
    drover.sync(src, dst)
    old = (dst / "large").read_bytes()
    rewrite_pages(src / "large", 0.01)
    result = drover.sync(faulty(src, f"read:/large:EIO={20 * MIB}-{20 * MIB}"), dst, code=1)
    assert result.failed("large")[0] == "source"
    assert (dst / "large").read_bytes() == old
    assert litter(dst) == []


@pytest.mark.local
@pytest.mark.parametrize("fs", ["ext4", "xfs"])
def test_a_source_that_keeps_changing_leaves_the_old_version(drover, pair, fs):
    src, dst = pair(fs)
    plant(src, {"large": noise(LARGE)})
    drover.sync(src, dst)
    old = (dst / "large").read_bytes()
    rewrite_pages(src / "large", 0.01)
    writer = subprocess.Popen(["/usr/bin/python3", "-c", "import os, sys\nfd = os.open(sys.argv[1], os.O_WRONLY)\n"
                               "number = 0\nwhile True:\n  number += 1\n  os.pwrite(fd, b'%d' % number, 12345678)\n"
                               "  if number == 1: os.write(1, b'begun')\n", src / "large"], stdout=subprocess.PIPE)
    try:
        assert writer.stdout.read(5) == b"begun"
        result = drover.sync("--bwlimit=50M", src, dst, code=3)
    finally:
        writer.kill()
        writer.wait()
    assert "large" in result.err
    assert (dst / "large").read_bytes() == old
    assert litter(dst) == []
    drover.sync(src, dst)
    assert_equal(src, dst)


# ---- kill -9 -------------------------------------------------------------------------------------------------------


class Killed:
    """A destination file that is patched, killed and brought to its end, over and over."""

    def __init__(self, drover, src, dst):
        self.drover, self.src, self.dst = drover, src, dst
        self.rounds = self.mixed = self.killed = 0
        plant(src, {"large": noise(LARGE), "other": "x"})
        drover.sync(src, dst)

    def round(self, number, kill):
        self.rounds += 1
        old = (self.dst / "large").read_bytes()
        rewrite_pages(self.src / "large", 0.05, seed=number + 1)
        self.killed += kill()
        now = (self.dst / "large").read_bytes()
        whole = now in (old, (self.src / "large").read_bytes())
        assert whole or litter(self.dst), "a mix, and nothing left by which it could be put right"
        self.mixed += not whole
        if number % 3 == 1:
            self._next_run_has_no_source(old)
        elif number % 3 == 2:
            rewrite_pages(self.src / "large", 0.02, seed=1000 + number)  # the source has gone on
        self.drover.sync(self.src, self.dst)
        assert litter(self.dst) == []
        assert_equal(self.src, self.dst)

    def _next_run_has_no_source(self, old):
        """The file is gone from the source by then: whatever is left is one version or the other."""
        (self.src / "large").rename(self.src.with_name("aside"))
        self.drover.sync(self.src, self.dst)
        (self.src.with_name("aside")).rename(self.src / "large")
        assert litter(self.dst) == []
        assert (self.dst / "large").read_bytes() in (old, (self.src / "large").read_bytes())


@pytest.mark.parametrize("fs", RESULTS)
def test_a_patch_killed_at_random_moments_is_never_left_mixed(drover, pair, fs):
    killed = Killed(drover, *pair(fs))
    rewrite_pages(killed.src / "large", 0.05)
    start = time.monotonic()
    drover.sync(killed.src, killed.dst)
    moments = Moments(time.monotonic() - start, random.Random(31))
    for number in range(20 if fs == "ext4" else 8):
        def kill():
            with drover.start(killed.src, killed.dst) as running:
                return moments.kill(running)
        killed.round(number, kill)
    assert killed.killed > killed.rounds / 4


@pytest.mark.parametrize("io", ["--io=threads", "--io=uring"])
def test_a_patch_killed_while_it_is_applied_is_completed_or_dropped(drover, pair, work, chance, io):
    """On ext4, at chosen system calls: among them those that write into the file itself. Fewer over a session, where each
    time one side takes two seconds to be sure that the other is gone."""
    killed = Killed(drover, *pair("ext4"))
    rewrite_pages(killed.src / "large", 0.05)
    traced_sync(drover, work, io, "--jobs=1", killed.src, killed.dst)
    writes = max(trace.read_text().count("pwrite64(") for trace in (work / "traces").iterdir())
    others = "fsync fdatasync unlinkat renameat2 utimensat close fchown openat".split()
    moments = [("pwrite64", when) for when in spread(chance, range(1, writes), 5 if drover.over else 16)]
    moments += [(call, chance.randrange(1, 4)) for call in spread(chance, others, 2 if drover.over else 8)]
    for number, (call, when) in enumerate(moments):
        def kill():
            prefix = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace=?{call}", "-e",
                      f"inject=?{call}:signal=KILL:when={when}"]
            return drover.sync(io, "--jobs=1", killed.src, killed.dst, prefix=prefix, code=None).code != 0
        killed.round(number, kill)
    assert killed.killed > killed.rounds / 3
    assert killed.mixed > 0, "never was it killed while the file itself was written"


@pytest.mark.parametrize("fs", RESULTS)
def test_a_patch_that_is_stopped_by_a_signal_is_whole_at_once(drover, pair, fs):
    """Not only after the next run: an orderly stop leaves nothing to be put right."""
    src, dst = pair(fs)
    plant(src, {"large": noise(LARGE)})
    drover.sync(src, dst)
    chance = random.Random(35)
    for number in range(10):
        old = (dst / "large").read_bytes()
        rewrite_pages(src / "large", 0.05, seed=number + 1)
        with drover.start(src, dst) as running:
            time.sleep(chance.uniform(0, 0.15))  # the moment is the test, not a wait
            running.process.terminate()
            running.end(code=(0, -15, 128 + 15))
        assert (dst / "large").read_bytes() in (old, (src / "large").read_bytes())
        assert running.process.returncode == -15 or litter(dst) == []
    drover.sync(src, dst)
    assert_equal(src, dst)


def test_inplace_writes_to_no_file_through_the_name_of_another(drover, pair):
    """A name leaves a group of hard links: what the others still share at the destination is not written to for it."""
    src, dst = pair("ext4")
    plant(src, {"a/one": noise(40_000), "a/z": noise(17_000, seed=1)})
    (src / "b").mkdir()
    os.link(src / "a/one", src / "b/two")
    drover.sync(src, dst)
    (src / "b/two").rename(src / "out")
    (src / "a/z").rename(src / "b/two")
    (src / "out").rename(src / "a/z")
    drover.sync("--delete", "--inplace", src, dst)
    assert_equal(src, dst)


def test_a_source_with_a_half_applied_patch_is_not_called_copied(drover, pair):
    src, dst = pair("ext4")
    plant(src, {"file": "whole", "dir/.drover.0123456789abcdef.1.redo": "what an interrupted sync to it left"})
    result = drover.sync(src, dst, code=1)
    assert "dir/.drover.0123456789abcdef.1.redo" in result.err and "mix" in result.err
    assert (dst / "file").read_text() == "whole"


def test_an_inplace_patch_killed_half_way_is_completed_by_the_next_run(drover, pair):
    src, dst = pair("ext4")
    plant(src, {"large": noise(LARGE)})
    drover.sync("--inplace", src, dst)
    chance = random.Random(33)
    for number in range(8):
        rewrite_pages(src / "large", 0.1, seed=number + 1)
        with drover.start("--inplace", src, dst) as running:
            time.sleep(chance.uniform(0, 0.1))  # the moment is the test, not a wait
            running.kill()
        drover.sync("--inplace", src, dst)
        assert_equal(src, dst)


def test_the_index_never_knows_what_the_file_does_not_hold(drover, pair):
    """A run that is killed may have written content, or hashes, but not hashes of content that is not there."""
    src, dst = pair("ext4")
    plant(src, {f"large{number}": noise(LARGE, seed=number) for number in range(2)})
    chance = random.Random(34)
    drover.sync(src, dst)
    for number in range(8):
        for name in ("large0", "large1"):
            rewrite_pages(src / name, 0.03, seed=number + 1)
        with drover.start(src, dst) as running:
            time.sleep(chance.uniform(0, 0.3))  # the moment is the test, not a wait
            running.kill()
        rewrite_pages(src / "large0", 0.001, seed=500 + number)
        drover.sync(src, dst)
        assert_equal(src, dst)
