# SPDX-License-Identifier: Apache-2.0
"""A manifest says what a tree was, and `manifest check` what became of it. What the digests have to be is asked of
xxhsum, sha256sum and b2sum; what has to be found was done by the test itself."""
import csv
import io
import json
import os
import re
import shutil
import sqlite3
import stat
import subprocess
import time

import pytest

from judge import FLAG_NODUMP, Snapshot, assert_untouched, set_flags
from lab import MIB, require, run
from manifests import (CLEAN, CORRUPT, DIFFERS, FATAL, IN_MOTION, INCOMPLETE, USAGE, export, file, info, recorded, records,
                       root_digest, same_entries, spoil, tree, worth_killing)
from trees import OLD_NS, Link, Special, age, deep_path, many_files, nasty, noise, plant, replace_by, replicate


def ranges_of(details):
    """The byte ranges that a finding names, as (first, last)."""
    return [(int(first), int(last)) for first, last in re.findall(r"(\d+)-(\d+)", details)]


# ---- what check finds ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fs", ["ext4", "xfs", "btrfs", "tmpfs"])
def test_an_untouched_tree_is_clean_and_stays_untouched(drover, lab, on, file, fs):
    tree = nasty(on(fs) / "tree", lab.volume(fs).traits)
    before = Snapshot(tree)
    drover.manifest("create", "-o", file, tree)
    result = drover.manifest("check", file, tree)
    assert result.out == b""
    assert_untouched(before, Snapshot(tree))


def test_the_last_line_tells_files_bytes_and_the_root_digest(drover, tree, file):
    last = drover.manifest("create", "-o", file, tree).err.splitlines()[-1]
    assert re.search(r"^10 files, .* read in .*; root digest [0-9a-f]{32}\b", last), last
    assert last.endswith(root_digest(drover, file))


FINDINGS = {}


def finds(*lines, code=DIFFERS):
    """Registers a change of the tree, and what check has to print of it."""
    def register(act):
        FINDINGS[act.__name__.replace("_", " ")] = act, sorted(lines), code
        return act
    return register


@finds(("edited", "dir/file", "size, content, mtime"))
def a_file_written_anew(tree):
    (tree / "dir/file").write_text("longer than it was")


@finds(("edited", "big", "content, mtime"))
def one_page_rewritten(tree):
    with open(tree / "big", "r+b") as out:
        out.seek(MIB)
        out.write(b"edited")


@finds(("edited", "big", "size, content, mtime"))
def a_log_that_grew(tree):
    with open(tree / "big", "ab") as out:
        out.write(b"another line\n")


@finds(("edited", "big", "size, content"))
def cut_short_with_its_old_mtime(tree):
    os.truncate(tree / "big", MIB)
    age(tree / "big")


@finds(("edited", "link", "content"))
def a_link_that_leads_elsewhere(tree):
    replace_by(tree / "link", Link("dir/sub/deep"))


@finds(("metadata", "small", "mtime"))
def only_touched(tree):
    age(tree / "small", mtime_ns=OLD_NS + 1)


@finds(("metadata", "small", "mode"))
def another_mode(tree):
    (tree / "small").chmod(0o600)


@finds(("metadata", "small", "user"))
def another_owner(tree):
    os.chown(tree / "small", 1000, -1)


@finds(("metadata", "link", "user, group"))
def another_owner_of_a_link(tree):
    os.chown(tree / "link", 1000, 1001, follow_symlinks=False)


@finds(("metadata", "small", "acl"))
def another_acl(tree):
    run("setfacl", "-m", "u:7:r", tree / "small")


@finds(("metadata", "small", "xattr"))
def another_attribute(tree):
    os.setxattr(tree / "small", "user.colour", b"blue")


@finds(("metadata", "small", "flags"))
def another_flag(tree):
    set_flags(tree / "small", FLAG_NODUMP)


@finds(("metadata", "pair", "mode"), ("metadata", "pair too", "mode"))
def another_mode_of_an_inode_with_two_names(tree):
    (tree / "pair").chmod(0o600)


@finds(("metadata", "dir/sub/", "mode"))
def another_mode_of_a_directory(tree):
    (tree / "dir/sub").chmod(0o700)


@finds(("missing", "dir/sub/deep", ""))
def a_file_deleted(tree):
    (tree / "dir/sub/deep").unlink()


@finds(("extra", "dir/new", ""))
def a_file_more(tree):
    plant(tree / "dir", {"new": "new"})


@finds(("extra", "dir/new link", ""))
def a_link_more(tree):
    plant(tree / "dir", {"new link": Link("file")})


@finds(("moved", "dir/renamed", "from small"))
def a_file_renamed(tree):
    (tree / "small").rename(tree / "dir/renamed")


@finds(("corrupt", "small", "bytes 0-4999"), code=CORRUPT)
def one_byte_of_a_small_file_changed_with_size_and_mtime_kept(tree):
    spoil(tree / "small", 1234)


@finds(("corrupt", "big", "bytes 1048576-1114111"), code=CORRUPT)
def one_byte_of_a_large_file_changed_with_size_and_mtime_kept(tree):
    spoil(tree / "big", MIB + 3)


@finds(("corrupt", "big", "bytes 0-65535, 1048576-1179647, 3080192-3145727"), code=CORRUPT)
def several_places_of_a_large_file_changed_with_size_and_mtime_kept(tree):
    for offset in (0, MIB, MIB + (64 << 10), 3 * MIB - 1):
        spoil(tree / "big", offset)


@finds(("corrupt", "big", "bytes 1048576-1114111"), ("edited", "dir/file", "size, content, mtime"),
       ("extra", "new", ""), ("metadata", "empty", "mode"), ("missing", "dir/sub/deep", ""),
       ("moved", "dir/sub/renamed", "from small"), code=CORRUPT)
def everything_at_once(tree):
    spoil(tree / "big", MIB)
    a_file_written_anew(tree)
    plant(tree, {"new": "new"})
    (tree / "empty").chmod(0o600)
    a_file_deleted(tree)
    (tree / "small").rename(tree / "dir/sub/renamed")


@pytest.mark.parametrize("name", FINDINGS)
def test_check_names_and_classes(drover, recorded, file, name):
    act, expected, code = FINDINGS[name]
    directories = [path for path in [recorded, *recorded.rglob("*")] if path.is_dir() and not path.is_symlink()]
    act(recorded)
    age(*directories)  # what is in them tells
    assert drover.manifest("check", file, recorded, code=code).findings == expected


def test_a_finding_is_one_line_of_columns(drover, recorded, file):
    spoil(recorded / "big", 0)
    plant(recorded, {"new": "new"})
    lines = drover.manifest("check", file, recorded, code=CORRUPT).lines
    assert b"corrupt     big  bytes 0-65535" in lines
    assert b"extra       new" in lines


def test_names_of_findings_are_printed_as_one_line_each(drover, recorded, file):
    plant(recorded, {os.fsdecode(b"new\nline \xff"): "x"})
    age(recorded)
    assert drover.manifest("check", file, recorded, code=DIFFERS).lines == [rb"extra       new\#012line \#377"]


def test_whole_directories_that_went_came_or_moved(drover, recorded, file):
    """Each entry of them is named, or the directory stands for all; whatever is named is right."""
    plant(recorded / "came", {"other": "1", "deeper/still": "another"})
    shutil.rmtree(recorded / "gone")
    (recorded / "dir/sub").rename(recorded / "dir/sub renamed")
    age(recorded, recorded / "dir")
    found = drover.manifest("check", file, recorded, code=DIFFERS).findings
    assert ("missing", "gone/", "") in found and ("extra", "came/", "") in found
    assert not [one for one in found if one[0] == "missing" and not one[1].startswith("gone/")]
    assert not [one for one in found if one[0] == "extra" and not one[1].startswith("came/")]
    moved = [one for one in found if one[0] == "moved"]
    assert moved and all(path.startswith("dir/sub renamed/") and details.startswith("from dir/sub/")
                         for _, path, details in moved), found


def test_another_type_under_the_same_name_is_an_edit(drover, recorded, file):
    replace_by(recorded / "small", Link("big"))
    replace_by(recorded / "fifo", "a file now")
    age(recorded)
    found = drover.manifest("check", file, recorded, code=DIFFERS).findings
    assert [(kind, path) for kind, path, _ in found] == [("edited", "fifo"), ("edited", "small")]
    assert all("type" in details for _, _, details in found)


def test_a_file_saved_again_by_an_editor_is_no_difference(drover, recorded, file):
    """Another inode and ctime, the same content and mtime: that is how it looks on another file system too."""
    shutil.copy2(recorded / "small", recorded / "saved")
    (recorded / "saved").rename(recorded / "small")
    age(recorded)
    assert drover.manifest("check", file, recorded).out == b""


def test_a_migrated_tree_is_checked_at_its_new_place(drover, lab, recorded, file, on):
    copy = on("xfs") / "migrated"
    replicate(recorded, copy)
    assert drover.manifest("check", file, copy).out == b""
    spoil(copy / "big", 2 * MIB)
    assert drover.manifest("check", file, copy, code=CORRUPT).findings == [("corrupt", "big", "bytes 2097152-2162687")]
    assert drover.manifest("check", file, recorded).out == b""


def test_without_a_tree_the_recorded_one_is_checked(drover, recorded, file):
    assert drover.manifest("check", file).out == b""
    (recorded / "small").chmod(0o600)
    assert drover.manifest("check", file, code=DIFFERS).findings == [("metadata", "small", "mode")]


def test_a_tree_given_by_a_relative_path_is_found_from_elsewhere(drover, tree, file):
    drover.manifest("create", "-o", file.name, tree.name, folder=file.parent)
    assert drover.manifest("check", file, folder="/").out == b""


def test_json_tells_the_same(drover, recorded, file):
    spoil(recorded / "big", MIB)
    spoil(recorded / "big", 3 * MIB - 1)
    (recorded / "small").chmod(0o600)
    (recorded / "empty").rename(recorded / os.fsdecode(b"\xff"))
    age(recorded)
    result = drover.manifest("check", "--json", file, recorded, code=CORRUPT)
    found = {one["path"]: one for one in result.events("finding")}
    assert found["big"]["class"] == "corrupt"
    assert found["big"]["ranges"] == [[MIB, 65536], [3 * MIB - 65536, 65536]]
    assert found["small"]["class"] == "metadata" and found["small"]["fields"] == ["mode"]
    assert result.events()[0]["event"] == "start"
    assert result.events()[-1]["event"] == "summary" and result.events()[-1]["exit_code"] == CORRUPT


# ---- what only hardware does ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [0, 70_001, 5 * MIB + 4097, 6 * MIB + 298])
def test_a_byte_flipped_on_the_disk_is_named_and_edits_beside_it_are_edits(drover, lab, work, file, offset):
    """Under a mounted ext4, in the image: nothing but the content differs."""
    volume = lab.make("ext4", 64 * MIB)
    tree = plant(volume.path / "tree", {"db/image.raw": noise(6 * MIB + 299, seed=5), "db/index": noise(MIB, seed=6),
                                        "notes": "notes", "report": noise(100_000, seed=7)})
    drover.manifest("create", "-o", file, tree)
    before = os.stat(tree / "db/image.raw")

    lab.flip_byte(volume, tree / "db/image.raw", offset)
    (tree / "notes").write_text("edited")
    with open(tree / "report", "r+b") as out:
        out.write(b"edited in place")

    after = os.stat(tree / "db/image.raw")
    assert [before.st_size, before.st_mtime_ns, before.st_ctime_ns] == [
        after.st_size, after.st_mtime_ns, after.st_ctime_ns]
    corrupt, *others = drover.manifest("check", file, tree, code=CORRUPT).findings
    assert corrupt[:2] == ("corrupt", "db/image.raw")
    (first, last), = ranges_of(corrupt[2])
    assert first <= offset <= last and last - first < 64 << 10
    assert others == [("edited", "notes", "size, content, mtime"), ("edited", "report", "content, mtime")]
    lab.unmount(volume.path)


def test_what_the_file_system_itself_finds_damaged_is_unreadable(drover, lab, file):
    """btrfs knows its checksums: the read fails, and the rest of the file is still looked at."""
    volume = lab.make("btrfs", 160 * MIB)
    tree = plant(volume.path / "tree", {"bad": noise(2 * MIB, seed=1), "corrupt": noise(200_000, seed=2), "good": "x"})
    drover.manifest("create", "-o", file, tree)
    lab.flip_byte(volume, tree / "bad", MIB + 5)
    result = drover.manifest("check", file, tree, code=INCOMPLETE)
    assert result.findings == [("unreadable", "bad", "bytes 1048576-1052671: Input/output error")]
    spoil(tree / "corrupt", 0)
    found = drover.manifest("check", file, tree, code=CORRUPT).findings
    assert [one[:2] for one in found] == [("corrupt", "corrupt"), ("unreadable", "bad")]
    lab.unmount(volume.path)


def test_corruption_is_found_in_the_readable_rest_of_an_unreadable_file(drover, recorded, file, faulty):
    spoil(recorded / "big", MIB)
    result = drover.manifest("check", "--json", file, faulty(recorded, "read:/big:EIO=2500000-2500000"), code=None)
    told = [one for one in result.events("finding") if one["path"] == "big"]
    assert any(one["class"] == "unreadable" for one in told), str(result)
    assert result.code in (INCOMPLETE, CORRUPT)


def test_several_unreadable_extents_are_named_as_fine_as_the_device_tells(drover, recorded, file, faulty):
    broken = faulty(recorded, "read:/big:EIO=4096-8191", f"read:/big:EIO={2 * MIB}-{2 * MIB + 12287}",
                    f"read:/big:EIO={3 * MIB - 1}-{3 * MIB}")
    found = drover.manifest("check", file, broken, code=INCOMPLETE).findings
    assert found == [("unreadable", "big", "bytes 4096-8191, 2097152-2109439, 3141632-3145727: Input/output error")]


def test_an_unreadable_file_does_not_stop_the_others(drover, recorded, file, faulty):
    (recorded / "small").chmod(0o600)
    broken = faulty(recorded, "open:/dir/file:EACCES")
    result = drover.manifest("check", file, broken, code=INCOMPLETE)
    assert ("metadata", "small", "mode") in result.findings
    assert "dir/file" in result.out.decode() + result.err and "Permission denied" in result.out.decode() + result.err


def test_a_directory_that_cannot_be_listed_makes_the_check_incomplete(drover, recorded, file, faulty):
    """And nothing in it is called missing."""
    result = drover.manifest("check", file, faulty(recorded, "readdir:/dir/sub:EIO"), code=INCOMPLETE)
    assert result.failed("dir/sub")[3] == "Input/output error"
    assert not [one for one in result.findings if one[0] == "missing"]


def test_what_cannot_be_read_when_the_manifest_is_made_is_told_and_recorded(drover, tree, file, faulty):
    broken = faulty(tree, "read:/big:EIO=4096-8191")
    result = drover.manifest("create", "-o", file, broken, code=INCOMPLETE)
    assert "big" in result.err and "Input/output error" in result.err
    assert file.exists()
    assert re.search(r"unread\w*\D*1\b", info(drover, file)), info(drover, file)
    assert not [one for one in drover.manifest("check", file, tree, code=None).findings if one[1] != "big"]


# ---- digests that others know --------------------------------------------------------------------------------------


def test_xxhsum_itself_checks_the_export(drover, lab, src, file):
    """Every regular file of a tree of everything, under every name that its format can hold."""
    require("xxhsum")
    nasty(src, lab.volume("ext4").traits)
    many_files(src / "many", 100)
    (src / "large").write_bytes(noise(9 * MIB + 1))
    for size in MIB // 16, MIB // 4:  # up to which a file is read at a first look, and in one piece
        for more in -1, 0, 1, 5000:
            (src / f"{size}{more:+}").write_bytes(noise(size + more))
    drover.manifest("create", "-o", file, src)
    listed = drover.manifest("export", "--format=xxhsum", file, code=(CLEAN, INCOMPLETE))
    (file.parent / "sums").write_bytes(listed.out)
    checked = subprocess.run(["xxhsum", "-c", file.parent / "sums"], cwd=src, capture_output=True)
    assert checked.returncode == 0, checked
    said = checked.stdout.splitlines()
    regular = sum(1 for one in Snapshot(src, content=False).records.values() if one.type == "file")
    assert regular - 3 <= sum(1 for line in said if line.endswith(b": OK")) == len(said)
    left_out = regular - len(said)
    assert listed.code == (INCOMPLETE if left_out else CLEAN)
    assert not left_out or re.search(rf"\b{left_out}\b", listed.err), "what is left out has to be told"


def test_xxhsum_sees_a_change(drover, recorded, file):
    require("xxhsum")
    (file.parent / "sums").write_bytes(export(drover, file, "xxhsum").out)
    spoil(recorded / "big", 77)
    checked = subprocess.run(["xxhsum", "-c", file.parent / "sums"], cwd=recorded, capture_output=True)
    assert checked.returncode == 1 and b"big: FAILED" in checked.stdout


@pytest.mark.parametrize("digest, tool", [("xxh128", "xxh128sum"), ("sha256", "sha256sum"), ("blake2b", "b2sum")])
def test_digests_are_those_that_common_tools_print(drover, tree, file, digest, tool):
    require(tool)
    with open(tree / "sparse", "wb") as out:
        out.truncate(9 * MIB)
        out.seek(5 * MIB + 1)
        out.write(noise(10_000))
    drover.manifest("create", f"--digest={digest}", "-o", file, tree)
    recorded = records(drover, file)
    for name in ("dir/file", "big", "small", "empty", "sparse", "pair", "pair too"):
        assert recorded[name]["digest"] == run(tool, tree / name).split()[0].decode(), name
    assert drover.manifest("check", file, tree).out == b""
    spoil(tree / "big", MIB)
    assert drover.manifest("check", file, tree, code=CORRUPT).findings == [("corrupt", "big", "bytes 1048576-1114111")]


@pytest.mark.parametrize("options", [["--block-size=8K"], ["--block-size=16M"], ["-j1"], ["--io=threads"]],
                         ids=" ".join)
def test_the_root_digest_does_not_depend_on_how_it_was_made(drover, tree, file, options):
    drover.manifest("create", "-o", file, tree)
    drover.manifest("create", *options, "-o", file.with_suffix(".other"), tree)
    assert root_digest(drover, file) == root_digest(drover, file.with_suffix(".other"))


def test_a_root_digest_has_the_length_of_its_kind(drover, tree, work):
    lengths = {}
    for digest in ("xxh128", "sha256", "blake2b"):
        drover.manifest("create", f"--digest={digest}", "-o", work / digest, tree)
        lengths[digest] = 4 * len(root_digest(drover, work / digest))
    assert lengths == {"xxh128": 128, "sha256": 256, "blake2b": 512}


# ---- the root digest -----------------------------------------------------------------------------------------------


PARTS = ("content", "mode", "owner", "times", "acl", "xattr")


@pytest.mark.parametrize("fs", ["xfs", "btrfs", "tmpfs"])
def test_the_root_digest_is_the_same_at_any_place(drover, lab, on, src, file, fs):
    """With every part in it: another file system, mounted elsewhere, other inodes, another order of directories."""
    nasty(src, lab.volume("ext4").traits & lab.volume(fs).traits - {"flags"})
    copy = on(fs) / "copy"
    replicate(src, copy)
    drover.manifest("create", "--root=all", "-o", file, src)
    drover.manifest("create", "--root=all", "-o", file.with_suffix(".copy"), copy)
    assert root_digest(drover, file) == root_digest(drover, file.with_suffix(".copy"))
    for part in PARTS:
        option = f"--root={part}"
        assert root_digest(drover, file, option) == root_digest(drover, file.with_suffix(".copy"), option), part


TOUCHES = {
    "content": lambda tree: spoil(tree / "dir/sub/deep", 2),
    "mode": lambda tree: (tree / "small").chmod(0o600),
    "owner": lambda tree: os.chown(tree / "small", 4, -1),
    "times": lambda tree: age(tree / "small", mtime_ns=OLD_NS + 1),
    "acl": lambda tree: run("setfacl", "-m", "u:9:r", tree / "small"),
    "xattr": lambda tree: os.setxattr(tree / "small", "user.x", b"1"),
}


@pytest.mark.parametrize("touched", PARTS)
def test_each_part_of_the_root_digest_tells_its_changes_and_no_others(drover, recorded, file, touched):
    before = {part: root_digest(drover, file, f"--root={part}") for part in PARTS}
    TOUCHES[touched](recorded)
    drover.manifest("create", "--full", "-o", file, recorded)
    after = {part: root_digest(drover, file, f"--root={part}") for part in PARTS}
    assert [part for part in PARTS if before[part] != after[part]] == [touched]


@pytest.mark.parametrize("change", [
    "a group", "a link's target", "a device number", "one name", "one file more", "an empty directory more",
    "two names exchanged", "a type", "a file in another place"])
def test_the_root_digest_tells(drover, tree, file, change):
    os.mknod(tree / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    age(tree / "device")
    drover.manifest("create", "-o", file, tree)
    before = root_digest(drover, file)
    if change == "a group":
        os.chown(tree / "empty", -1, 5)
    elif change == "a link's target":
        replace_by(tree / "link", Link("dir/fila"))
    elif change == "a device number":
        replace_by(tree / "device", Special(stat.S_IFCHR, os.makedev(1, 5)))
        (tree / "device").chmod(0o600)
    elif change == "one name":
        (tree / "empty").rename(tree / "Empty")
    elif change == "one file more":
        plant(tree / "dir", {"empty too": ""})
    elif change == "an empty directory more":
        (tree / "dir/new").mkdir()
    elif change == "two names exchanged":
        (tree / "dir/sub/deep").rename(tree / "x")
        (tree / "dir/sub/deeper").rename(tree / "dir/sub/deep")
        (tree / "x").rename(tree / "dir/sub/deeper")
    elif change == "a type":
        replace_by(tree / "fifo", "")
        (tree / "fifo").chmod(0o640)
    elif change == "a file in another place":
        (tree / "dir/file").rename(tree / "dir/sub/file")
    drover.manifest("create", "--full", "-o", file, tree)
    assert root_digest(drover, file) != before


def test_what_the_root_digest_is_made_of_is_recorded_and_told(drover, tree, file):
    drover.manifest("create", "-o", file, tree)
    assert re.search(r"^root digest: [0-9a-f]{32} \(content, mode, owner, times\)$", info(drover, file), re.MULTILINE)
    drover.manifest("create", "--full", "--root=content,xattr", "-o", file, tree)
    assert re.search(r"^root digest: [0-9a-f]{32} \(content, xattr\)$", info(drover, file), re.MULTILINE)
    told = json.loads(drover.manifest("info", "--json", file).out)
    assert root_digest(drover, file) in told.values()


# ---- a tree in use -------------------------------------------------------------------------------------------------


def test_a_file_that_keeps_changing_while_it_is_read_is_reported(drover, tree, file):
    with open(tree / "busy", "wb") as out:
        out.write(noise(8 * MIB))
    writer = subprocess.Popen(["/usr/bin/python3", "-uc", "import sys\nnumber = 0\nwhile True:\n"
                               "  f = open(sys.argv[1], 'r+b')\n  f.write(b'x')\n  f.close()\n"
                               "  number += 1\n  if number == 1: print('begun')", tree / "busy"], stdout=subprocess.PIPE)
    try:
        assert writer.stdout.readline() == b"begun\n"
        result = drover.manifest("create", "--bwlimit=16M", "-o", file, tree, code=IN_MOTION)
    finally:
        writer.kill()
        writer.wait()
    assert "busy" in result.err
    assert file.exists()
    found = drover.manifest("check", file, tree, code=None).findings
    assert not [one for one in found if one[1] != "busy"], found
    assert not [one for one in found if one[0] == "corrupt"], "an edit is no corruption"


def test_a_file_that_vanishes_meanwhile_is_no_error(drover, tree, file, faulty):
    drover.manifest("create", "-o", file, faulty(tree, "open:/small:ENOENT"))
    assert "small" not in records(drover, file)


# ---- what takes part -----------------------------------------------------------------------------------------------


def test_filters_hold_for_create_and_check(drover, recorded, file):
    plant(recorded, {"dir/a.o": "o", "cache/one": "1", "keep.o": "k"})
    drover.manifest("create", "--full", "--include=/keep.o", "--exclude=*.o", "--exclude=cache/", "-o", file, recorded)
    recorded_paths = set(records(drover, file))
    assert "keep.o" in recorded_paths and not recorded_paths & {"dir/a.o", "cache", "cache/", "cache/one"}
    assert drover.manifest("check", "--include=/keep.o", "--exclude=*.o", "--exclude=cache/", file, recorded).out == b""
    (recorded / "small").chmod(0o600)
    (recorded / "keep.o").chmod(0o600)
    found = drover.manifest("check", "--exclude=*.o", "--exclude=cache/", file, recorded, code=DIFFERS).findings
    assert found == [("metadata", "small", "mode")], "what is excluded is neither missing nor compared"


def test_one_file_system(drover, lab, tree, file):
    inner = tree / "to be opened"
    lab.mount("-t", "tmpfs", "tmpfs", at=inner)
    plant(inner, {"elsewhere": "x"})
    drover.manifest("create", "-x", "-o", file, tree)
    assert not [path for path in records(drover, file) if "elsewhere" in path]
    assert drover.manifest("check", "-x", file, tree).out == b""
    drover.manifest("create", "--full", "-o", file, tree)
    assert [path for path in records(drover, file) if "elsewhere" in path]
    lab.unmount(inner)


def test_an_empty_tree_has_a_manifest(drover, src, file):
    drover.manifest("create", "-o", file, src)
    assert drover.manifest("check", file).out == b""
    plant(src, {"new": "new"})
    age(src)
    assert ("extra", "new", "") in drover.manifest("check", file, code=DIFFERS).findings


def test_paths_longer_than_the_kernel_takes(drover, src, file):
    deep_path(src)
    plant(src, {"file": "x"})
    drover.manifest("create", "-o", file, src)
    assert len(max(records(drover, file), key=len)) > 6000
    assert drover.manifest("check", file, src).out == b""
    export(drover, file, "sqlite", "-o", file.with_suffix(".sqlite"))


def test_a_user_without_rights_gets_what_may_be_read(drover, tree, work):
    """As on a server where one checks one's own files."""
    require("setpriv")
    (tree / "dir/file").chmod(0o600)
    (work / "out").mkdir()
    os.chown(work / "out", 1234, 1234)
    user = ["setpriv", "--reuid=1234", "--regid=1234", "--clear-groups"]
    result = drover.manifest("create", "-o", work / "out/file", tree, prefix=user, code=INCOMPLETE)
    assert "dir/file" in result.err and "Permission denied" in result.err
    (tree / "small").chmod(0o640)
    os.chown(tree / "small", -1, 1234)
    result = drover.manifest("check", work / "out/file", tree, prefix=user, code=INCOMPLETE)
    assert ("metadata", "small", "mode, group") in result.findings


def test_block_size_decides_how_finely_damage_is_named(drover, tree, file):
    drover.manifest("create", "--block-size=8K", "-o", file, tree)
    spoil(tree / "big", MIB + 8192)
    assert drover.manifest("check", file, tree, code=CORRUPT).findings == [("corrupt", "big", "bytes 1056768-1064959")]
    drover.manifest("create", "--full", "--block-size=1M", "-o", file, tree)
    spoil(tree / "big", MIB + 8192)
    assert drover.manifest("check", file, tree, code=CORRUPT).findings == [("corrupt", "big", "bytes 1048576-2097151")]


@pytest.mark.parametrize("size", ["4K", "12K", "32M", "x"])
def test_block_sizes_that_are_none_are_refused(drover, tree, file, size):
    drover.manifest("create", f"--block-size={size}", "-o", file, tree, code=USAGE)
    assert not file.exists()


@pytest.mark.parametrize("options", [["--io=uring"], ["--io=threads", "-j1"], ["-j16"], ["--idle"]], ids=" ".join)
def test_however_it_is_read_it_says_the_same(drover, worth_killing, work, file, options):
    drover.manifest("create", "-o", work / "fresh", worth_killing)
    drover.manifest("create", *options, "-o", file, worth_killing)
    assert same_entries(drover, file, work / "fresh")
    assert drover.manifest("check", *options, file, worth_killing).out == b""


def test_bwlimit_holds(drover, src, file):
    (src / "large").write_bytes(noise(8 * MIB))
    start = time.monotonic()
    drover.manifest("create", "--bwlimit=8M", "-o", file, src)
    assert time.monotonic() - start > 0.7


def test_reading_leaves_the_page_cache_as_it_was(drover, lab, file):
    """What was not in it is not left there; what was in it stays, unless the kernel takes it back, as it may: so once in
    some tries."""
    require("fincore")
    volume = lab.make("ext4", 160 * MIB)
    for name in ("hot", "cold"):
        (volume.path / name).write_bytes(noise(48 * MIB, seed=len(name)))

    def cached(name):
        return int(run("fincore", "--bytes", "--noheadings", "--output=RES", volume.path / name))

    def stays():
        lab.remount(volume)
        (volume.path / "hot").read_bytes()
        file.unlink(missing_ok=True)
        drover.manifest("create", "-o", file, volume.path)
        return cached("cold") < 8 * MIB and cached("hot") > 40 * MIB

    assert any(stays() for _ in range(10))
    lab.unmount(volume.path)


# ---- two manifests, and their exports ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in FINDINGS if "another_flag" not in name])
def test_diff_names_what_check_would(drover, recorded, file, name):
    act, expected, code = FINDINGS[name]
    directories = [path for path in [recorded, *recorded.rglob("*")] if path.is_dir() and not path.is_symlink()]
    act(recorded)
    age(*directories)
    drover.manifest("create", "-o", file.with_suffix(".new"), recorded)
    assert drover.manifest("diff", file, file.with_suffix(".new"), code=code).findings == expected


def test_diff_of_equal_trees_is_silent(drover, lab, recorded, file, on):
    copy = on("xfs") / "copy"
    replicate(recorded, copy)
    drover.manifest("create", "--digest=xxh128", "-o", file.with_suffix(".copy"), copy)
    assert drover.manifest("diff", file, file.with_suffix(".copy")).out == b""


def test_diff_of_different_digests_compares_what_both_have(drover, recorded, file):
    other = file.with_suffix(".sha256")
    drover.manifest("create", "--digest=sha256", "-o", other, recorded)
    assert drover.manifest("diff", file, other, code=(CLEAN, USAGE, FATAL)).out == b""
    (recorded / "small").chmod(0o600)
    spoil(recorded / "big", 5)
    drover.manifest("create", "--full", "--digest=sha256", "-o", other, recorded)
    result = drover.manifest("diff", file, other, code=(DIFFERS, CORRUPT, USAGE, FATAL))
    assert result.code in (USAGE, FATAL) or ("metadata", "small", "mode") in result.findings


def test_diff_and_info_leave_a_manifest_as_it_is(drover, recorded, file):
    before = file.read_bytes(), file.stat().st_mtime_ns
    file.chmod(0o400)
    drover.manifest("diff", file, file)
    drover.manifest("info", file)
    assert (file.read_bytes(), file.stat().st_mtime_ns) == before
    assert [one.name for one in file.parent.iterdir() if one.name.startswith(file.name)] == [file.name]


def test_info_tells_what_is_in_it(drover, recorded, file):
    said = info(drover, file)
    assert str(recorded) in said and "xxh128" in said
    told = json.loads(drover.manifest("info", "--json", file).out)
    assert told["files"] == sum(1 for path in recorded.rglob("*") if path.is_file() and not path.is_symlink())
    assert told["bytes"] == sum(path.stat().st_size for path in recorded.rglob("*")
                                if path.is_file() and not path.is_symlink())


def test_json_lines_and_csv_hold_every_entry(drover, lab, src, file):
    nasty(src, lab.volume("ext4").traits)
    drover.manifest("create", "-o", file, src)
    entries = len(Snapshot(src, content=False).records)
    lines = [json.loads(line.decode("utf-8")) for line in export(drover, file, "jsonl").lines]
    assert sum(1 for one in lines if "path" in one) == entries
    rows = list(csv.DictReader(io.StringIO(export(drover, file, "csv").out.decode("utf-8"), newline="")))
    assert len(rows) == entries == len({row["path"] for row in rows})
    assert all(None not in row and None not in row.values() for row in rows), "each has all columns"


def test_exports_tell_metadata_as_it_is(drover, recorded, file):
    os.chown(recorded / "small", 12, 34)
    (recorded / "small").chmod(0o4751)
    drover.manifest("create", "--full", "-o", file, recorded)
    status = os.stat(recorded / "small")
    said = json.dumps(records(drover, file)["small"])
    for value in (status.st_size, status.st_uid, status.st_gid, status.st_ino):
        assert re.search(rf"\b{value}\b", said), said


def test_the_sqlite_export_is_asked_by_sqlite(drover, recorded, file):
    out = file.with_suffix(".sqlite")
    export(drover, file, "sqlite", "-o", out)
    base = sqlite3.connect(out)
    assert base.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    digest, = base.execute("SELECT digest FROM entry WHERE path = 'small'").fetchone()
    assert digest == run("xxh128sum", recorded / "small").split()[0].decode()
    largest, = base.execute("SELECT path FROM entry WHERE type = 'file' ORDER BY size DESC LIMIT 1").fetchone()
    assert largest == "big"
    below = base.execute("SELECT e.name FROM entry e JOIN entry d ON e.parent = d.id WHERE d.path = 'dir/sub'")
    assert sorted(name for name, in below) == ["deep", "deeper"]
    assert base.execute("SELECT root_digest FROM manifest").fetchone() == (root_digest(drover, file),)


def test_an_export_writes_over_nothing(drover, recorded, file):
    for form in ("sqlite", "jsonl", "csv", "xxhsum"):
        out = plant(file.parent / form, {"taken": "mine"}) / "taken"
        result = drover.manifest("export", f"--format={form}", "-o", out, file, code=(USAGE, FATAL))
        assert str(out) in result.err and out.read_text() == "mine"
        export(drover, file, form, "-o", out.with_name("new"))
        assert sorted(path.name for path in out.parent.iterdir()) == ["new", "taken"]


def test_an_export_to_a_full_disk_is_no_success(drover, recorded, file):
    with open("/dev/full", "wb") as full:
        process = subprocess.run([drover.binary, "manifest", "export", "--format=jsonl", file], stdout=full,
                                 stderr=subprocess.PIPE, env=drover.environment)
    assert process.returncode != 0 and b"No space left" in process.stderr
