# SPDX-License-Identifier: Apache-2.0
"""`drover verify` reads two trees, or a tree and a manifest, and says in what they differ."""
import os
import shutil
import subprocess

import pytest

from judge import FLAG_NODUMP, Snapshot, assert_untouched, set_flags
from lab import MIB, run
from trees import FIFO, OLD_NS, Hard, Link, age, many_files, nasty, noise, plant, replace_by, replicate

INCOMPLETE, USAGE, IN_MOTION, FATAL, DIFFERS, CORRUPT = 1, 2, 3, 5, 6, 7

TREE = {
    "dir/file": "content", "dir/sub/deep": "deep", "gone/one": "one", "big": noise(3 * MIB, seed=1),
    "small": noise(5000, seed=2), "empty": "", "link": Link("dir/file"), "fifo": FIFO, "pair": "pair",
    "pair too": Hard("pair"),
}


@pytest.fixture
def copy(src, dst):
    """The destination: equal to the source, a planted tree."""
    return replicate(plant(src, TREE), dst)


def spoil(path, offset):
    """Changes one byte, and nothing that stat() tells but the ctime."""
    keep = os.stat(path)
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ 1]))
    os.utime(path, ns=(keep.st_atime_ns, keep.st_mtime_ns))


@pytest.mark.parametrize("fs", ["ext4", "xfs", "btrfs", "tmpfs"])
def test_equal_trees_are_equal_and_stay_untouched(drover, lab, on, src, fs):
    dst = on(fs) / "dst"
    nasty(src, (lab.volume("ext4").traits & lab.volume(fs).traits) - {"flags"})
    replicate(src, dst)
    before = Snapshot(src), Snapshot(dst)
    result = drover.verify(src, dst)
    assert result.out == b"" and "equal" in result.err
    assert_untouched(before[0], Snapshot(src))
    assert_untouched(before[1], Snapshot(dst))


def test_what_drover_copied_it_finds_equal(drover, lab, src, dst):
    nasty(src, lab.volume("ext4").traits)
    drover.sync(src, dst)
    assert drover.verify(src, dst).out == b""


FINDINGS = {}


def finds(*lines, code=DIFFERS):
    """Registers a change of the destination, and what verify has to print of it."""
    def register(act):
        FINDINGS[act.__name__.replace("_", " ")] = act, sorted(lines), code
        return act
    return register


@finds(("edited", "dir/file", "size, content, mtime"))
def a_file_written_anew(dst):
    (dst / "dir/file").write_text("longer than it was")


@finds(("edited", "big", "content, mtime"))
def one_page_rewritten(dst):
    with open(dst / "big", "r+b") as file:
        file.seek(MIB)
        file.write(b"edited")


@finds(("edited", "big", "size, content"))
def cut_short_with_its_old_mtime(dst):
    os.truncate(dst / "big", MIB)
    age(dst / "big")


@finds(("edited", "link", "content"))
def a_link_that_leads_elsewhere(dst):
    replace_by(dst / "link", Link("dir/sub/deep"))


@finds(("metadata", "small", "mtime"))
def another_mtime(dst):
    age(dst / "small", mtime_ns=OLD_NS + 1)


@finds(("metadata", "small", "mode"))
def another_mode(dst):
    (dst / "small").chmod(0o600)


@finds(("metadata", "small", "user, group"))
def another_owner(dst):
    os.chown(dst / "small", 1000, 1000)


@finds(("metadata", "small", "acl"))
def another_acl(dst):
    run("setfacl", "-m", "u:7:r", dst / "small")


@finds(("metadata", "small", "xattr"))
def another_attribute(dst):
    os.setxattr(dst / "small", "user.x", b"1")


@finds(("metadata", "small", "flags"))
def another_flag(dst):
    set_flags(dst / "small", FLAG_NODUMP)


@finds(("metadata", "dir/sub/", "mode"))
def another_mode_of_a_directory(dst):
    (dst / "dir/sub").chmod(0o700)


@finds(("missing", "dir/sub/deep", ""))
def a_file_too_few(dst):
    (dst / "dir/sub/deep").unlink()


@finds(("extra", "dir/new", ""))
def a_file_too_many(dst):
    plant(dst / "dir", {"new": "new"})


@finds(("corrupt", "small", "bytes 0-4999"), code=CORRUPT)
def a_small_file_with_one_wrong_byte(dst):
    spoil(dst / "small", 4000)


@finds(("corrupt", "big", "bytes 1048576-1056767, 3137536-3145727"), code=CORRUPT)
def a_large_file_with_two_wrong_bytes(dst):
    spoil(dst / "big", MIB)
    spoil(dst / "big", 3 * MIB - 1)


@finds(("corrupt", "small", "bytes 0-4999"), ("edited", "big", "content, mtime"), ("extra", "new", ""),
       ("metadata", "empty", "mode"), ("missing", "dir/sub/deep", ""), code=CORRUPT)
def everything_at_once(dst):
    spoil(dst / "small", 1)
    one_page_rewritten(dst)
    plant(dst, {"new": "new"})
    (dst / "empty").chmod(0o600)
    (dst / "dir/sub/deep").unlink()


def _make_differ(dst, name):
    act, expected, code = FINDINGS[name]
    directories = [path for path in [dst, *dst.rglob("*")] if path.is_dir() and not path.is_symlink()]
    act(dst)
    age(*directories)  # what is in them tells
    return expected, code


def _covers(told, expected):
    """The same findings; ranges may be coarser than a page, and have to hold what is expected."""
    def known(findings):
        return [one if one[0] != "corrupt" else one[:2] for one in findings]
    return known(told) == known(expected) and all(
        _holds(one[2], other[2]) for one, other in zip(told, expected) if one[0] == "corrupt")


def _holds(told, expected):
    def pairs(text):
        return [tuple(map(int, word.strip(",").split("-"))) for word in text.split()[1:]]
    return all(any(first <= start and end <= last and last - first < 64 << 10 for first, last in pairs(told))
               for start, end in pairs(expected))


@pytest.mark.parametrize("name", FINDINGS)
def test_verify_names_and_classes(drover, src, copy, name):
    expected, code = _make_differ(copy, name)
    found = drover.verify(src, copy, code=code).findings
    assert _covers(found, expected), (found, expected)


@pytest.mark.parametrize("name", FINDINGS)
def test_verify_against_a_manifest_names_the_same(drover, src, copy, work, name):
    drover.manifest("create", "-o", work / "file", src)
    expected, code = _make_differ(copy, name)
    found = drover.verify("--against", work / "file", copy, code=code).findings
    assert _covers(found, expected), (found, expected)


def test_verify_against_a_manifest_takes_its_tree_where_none_is_named(drover, src, copy, work):
    drover.manifest("create", "-o", work / "file", src)
    assert drover.verify("--against", work / "file").out == b""
    (src / "small").chmod(0o600)
    assert drover.verify("--against", work / "file", code=DIFFERS).findings == [("metadata", "small", "mode")]


def test_whole_directories_on_one_side_only(drover, src, copy):
    shutil.rmtree(copy / "gone")
    plant(copy / "came", {"one": "1", "two/three": "3"})
    age(copy)
    found = drover.verify(src, copy, code=DIFFERS).findings
    assert ("missing", "gone/", "") in found and ("extra", "came/", "") in found
    assert all(path.startswith(("gone/", "came/")) for _, path, _ in found)


def test_another_type_under_the_same_name(drover, src, copy):
    replace_by(copy / "small", Link("big"))
    replace_by(copy / "dir/sub", "a file")
    age(copy, copy / "dir")
    found = drover.verify(src, copy, code=DIFFERS).findings
    kinds = {path.rstrip("/"): (kind, details) for kind, path, details in found}
    assert kinds["small"][0] == kinds["dir/sub"][0] == "edited" and "type" in kinds["small"][1]
    assert kinds.get("dir/sub/deep", ("missing",))[0] == "missing"


def test_a_hole_is_equal_to_zeros(drover, src, dst):
    with open(src / "sparse", "wb") as file:
        file.truncate(8 * MIB)
        file.seek(5 * MIB)
        file.write(b"x")
    dst.mkdir()
    (dst / "sparse").write_bytes((src / "sparse").read_bytes())
    age(src / "sparse", dst / "sparse", src, dst)
    assert drover.verify(src, dst).out == b""
    spoil(dst / "sparse", MIB)
    (kind, path, details), = drover.verify(src, dst, code=CORRUPT).findings
    assert (kind, path) == ("corrupt", "sparse") and _holds(details, "bytes 1048576-1048577")


# What each option leaves out of the comparison.
IGNORED = {
    "owner": ("--no-owner", lambda path: os.chown(path, 4, 5)),
    "mode": ("--no-perms", lambda path: path.chmod(0o4755)),
    "times": ("--no-times", lambda path: age(path, mtime_ns=OLD_NS + 10**10)),
    "acl": ("--no-acl", lambda path: run("setfacl", "-m", "u:7:r", path)),
    "xattr": ("--no-xattr", lambda path: os.setxattr(path, "user.x", b"x")),
    "flags": (None, lambda path: set_flags(path, FLAG_NODUMP)),
}


@pytest.mark.parametrize("part", IGNORED)
def test_what_is_ignored_is_no_difference_and_the_rest_still_is(drover, src, copy, part):
    short, act = IGNORED[part]
    act(copy / "small")
    drover.verify(src, copy, code=DIFFERS)
    for option in filter(None, [f"--ignore={part}", "--ignore=owner,mode,times,acl,xattr,flags", short]):
        assert drover.verify(option, src, copy).out == b"", option
    others = ",".join(set(IGNORED) - {part})
    drover.verify(f"--ignore={others}", src, copy, code=DIFFERS)


def test_content_is_compared_whatever_is_ignored(drover, src, copy):
    spoil(copy / "big", 7)
    result = drover.verify("--ignore=owner,mode,times,acl,xattr,flags", src, copy, code=(DIFFERS, CORRUPT))
    assert [one[1] for one in result.findings] == ["big"]


def test_an_unknown_word_to_ignore_is_refused(drover, src, copy):
    assert "content" in drover.verify("--ignore=content", src, copy, code=USAGE).err


@pytest.mark.parametrize("side", ["source", "destination"])
def test_the_unreadable_side_is_named(drover, src, copy, faulty, side):
    trees = [src, copy]
    number = ["source", "destination"].index(side)
    (copy / "small").chmod(0o600)
    trees[number] = faulty(trees[number], "read:/big:EIO=4096-8191")
    found = drover.verify(*trees, code=INCOMPLETE).findings
    assert ("metadata", "small", "mode") in found
    (_, path, details), = [one for one in found if one[0] == "unreadable"]
    assert (path, details) == ("big", f"bytes 4096-8191: Input/output error ({side})")
    told, = [one for one in drover.verify("--json", *trees, code=INCOMPLETE).events("finding")
             if one["class"] == "unreadable"]
    assert told["path"] == "big" and told["side"] == side and told["ranges"] == [[4096, 4096]]


@pytest.mark.parametrize("side", [0, 1])
def test_a_directory_that_cannot_be_listed_makes_it_incomplete(drover, src, copy, faulty, side):
    trees = [src, copy]
    trees[side] = faulty(trees[side], "readdir:/dir/sub:EIO")
    result = drover.verify(*trees, code=INCOMPLETE)
    assert result.failed("dir/sub")[0] == ["source", "destination"][side]
    assert not [one for one in result.findings if one[0] in ("missing", "extra")], "nobody knows"


@pytest.mark.parametrize("side", [0, 1])
def test_a_file_that_keeps_changing_is_reported_and_not_called_corrupt(drover, src, copy, side):
    busy = [src, copy][side] / "big"
    writer = subprocess.Popen(["/usr/bin/python3", "-c", "import os, sys\nfd = os.open(sys.argv[1], os.O_WRONLY)\n"
                               "number = 0\nwhile True:\n  number += 1\n  os.pwrite(fd, b'%d' % number, 1234567)\n"
                               "  if number == 1: os.write(1, b'begun')\n", busy], stdout=subprocess.PIPE)
    try:
        assert writer.stdout.read(5) == b"begun"
        result = drover.verify("--bwlimit=4M", src, copy, code=IN_MOTION)
    finally:
        writer.kill()
        writer.wait()
    assert "big" in result.err and result.findings == []


def test_trees_that_are_not_there_are_refused(drover, src, copy):
    for pair in ((src / "nowhere", copy), (src, copy / "nowhere"), (src / "big", copy)):
        result = drover.verify(*pair, code=(USAGE, FATAL))
        assert "No such file" in result.err or "ot a directory" in result.err


def test_filters_leave_out_on_both_sides(drover, src, copy):
    plant(src, {"cache/one": "1", "a.o": "o"})
    plant(copy, {"cache/two": "2", "b.o": "o"})
    age(src, copy)
    assert drover.verify("--exclude=cache/", "--exclude=*.o", src, copy).out == b""
    drover.verify("--exclude=cache/", src, copy, code=DIFFERS)


def test_one_file_system(drover, lab, src, copy):
    for tree in (src, copy):
        (tree / "mount").mkdir()
        age(tree / "mount", tree)
    lab.mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", at=copy / "mount")
    plant(copy / "mount", {"elsewhere": "x"})
    assert drover.verify("-x", src, copy).out == b""
    assert ("extra", "mount/elsewhere", "") in drover.verify(src, copy, code=DIFFERS).findings
    lab.unmount(copy / "mount")


@pytest.mark.parametrize("options", [["--io=uring"], ["--io=threads", "-j1"], ["-j16"], ["--idle"], ["--bwlimit=200M"]],
                         ids=" ".join)
def test_however_it_is_read_it_says_the_same(drover, src, dst, options):
    many_files(src, 500)
    for number in range(4):
        (src / f"large{number}").write_bytes(noise(9 * MIB + number, seed=number))
    replicate(src, dst)
    assert drover.verify(*options, src, dst).out == b""
    spoil(dst / "large2", 9 * MIB + 1)
    spoil(dst / "d3/f155", 0)
    found = drover.verify(*options, src, dst, code=CORRUPT).findings
    assert [one[:2] for one in found] == [("corrupt", "d3/f155"), ("corrupt", "large2")]


def test_the_summary_counts_the_classes(drover, src, copy):
    spoil(copy / "small", 1)
    (copy / "empty").chmod(0o600)
    (copy / "gone/one").unlink()
    age(copy / "gone")
    result = drover.verify(src, copy, code=CORRUPT)
    last = result.err.splitlines()[-1]
    assert "1 corrupt" in last and "1 missing" in last and "1 metadata" in last, last
    assert drover.verify("-q", src, copy, code=CORRUPT).err == ""
    summary = drover.verify("--json", src, copy, code=CORRUPT).events("summary")[0]
    assert summary["exit_code"] == CORRUPT
    assert summary["classes"]["corrupt"] == summary["classes"]["missing"] == summary["classes"]["metadata"] == 1
