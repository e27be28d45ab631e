# SPDX-License-Identifier: Apache-2.0
"""The file that a manifest is kept in: whole or not there, brought up to date, in nobody's way, and believed only when it
is one."""
import hashlib
import os
import random
import re
import shutil
import sqlite3
import time

import pytest

from drover import NO_SHELL, Moments, Stopped
from judge import Snapshot, assert_untouched
from lab import MIB, require
from manifests import (CLEAN, CORRUPT, FATAL, INCOMPLETE, USAGE, export, file, info, recorded, records, root_digest,
                       same_entries, spoil, tree, worth_killing)
from trees import FIFO, Link, age, many_files, noise, plant


def part_of(file):
    return file.with_name(file.name + ".part")


def read_and_committed(running, path, wanted_bytes):
    """Waits until so much was read, and is committed: commits come each half a second, and one is over when the next
    begins."""
    running.until(lambda: running.bytes_so_far("rchar") >= wanted_bytes, "so much was read")
    last_ns = part_of(path).stat().st_mtime_ns
    running.until(lambda: part_of(path).stat().st_mtime_ns > last_ns + 7e8, "the commit after the next one")


def kill_create(drover, path, root, *options):
    """Makes a manifest, which takes three seconds, and kills that when almost half of the tree is in it."""
    with drover.launch("manifest", "create", "--bwlimit=24M", *options, "-o", path, root) as running:
        read_and_committed(running, path, 30 * MIB)
        running.process.kill()
        assert running.process.wait() != 0
    assert part_of(path).exists()


# ---- interruption --------------------------------------------------------------------------------------------------


def test_create_killed_at_forty_random_moments_is_resumed_and_equal(drover, worth_killing, work, file):
    start = time.monotonic()
    drover.manifest("create", "-o", work / "fresh", worth_killing)
    moments = Moments(0.9 * (time.monotonic() - start), random.Random(40))
    killed = 0
    for _ in range(40):
        with drover.launch("manifest", "create", "-o", file, worth_killing) as running:
            killed += moments.kill(running)
        if file.exists():  # done: whatever is there is complete, and the next round begins anew
            assert not part_of(file).exists()
            assert same_entries(drover, file, work / "fresh")
            file.unlink()
    assert killed > 20
    drover.manifest("create", "-o", file, worth_killing)
    assert not part_of(file).exists()
    assert same_entries(drover, file, work / "fresh")
    assert root_digest(drover, file) == root_digest(drover, work / "fresh")
    assert drover.manifest("check", file, worth_killing).out == b""


def test_a_create_that_was_killed_late_goes_on_from_there(drover, worth_killing, work, file):
    whole = drover.manifest("create", "--json", "-o", work / "fresh", worth_killing).counts["bytes_read"]
    assert whole >= 64 * MIB
    kill_create(drover, file, worth_killing)
    assert not file.exists()
    resumed = drover.manifest("create", "--json", "-o", file, worth_killing)
    assert resumed.counts["bytes_read"] < 0.6 * whole
    assert same_entries(drover, file, work / "fresh")


def test_what_changed_since_it_was_killed_is_read_again(drover, worth_killing, work, file):
    kill_create(drover, file, worth_killing)
    for number in range(64):
        spoil(worth_killing / f"large{number}", 500_000)
    (worth_killing / "small/d0/f1").write_text("written since")
    (worth_killing / "small/d1/f101").unlink()
    (worth_killing / "small/d2").rename(worth_killing / "small/renamed")
    drover.manifest("create", "-o", file, worth_killing)
    drover.manifest("create", "-o", work / "fresh", worth_killing)
    assert same_entries(drover, file, work / "fresh")


def test_restart_forgets_what_was_begun(drover, worth_killing, file):
    kill_create(drover, file, worth_killing)
    result = drover.manifest("create", "--restart", "--json", "-o", file, worth_killing)
    assert result.counts["bytes_read"] >= 64 * MIB


def test_a_signal_stops_it_in_order_and_the_next_run_goes_on(drover, worth_killing, file):
    with drover.launch("manifest", "create", "--bwlimit=24M", "-o", file, worth_killing) as running:
        read_and_committed(running, file, 30 * MIB)
        running.process.terminate()
        running.end(code=128 + 15)
    assert part_of(file).exists() and not file.exists()
    result = drover.manifest("create", "--json", "-o", file, worth_killing)
    assert result.counts["bytes_read"] < 48 * MIB
    assert drover.manifest("check", file).out == b""


def test_an_unfinished_manifest_with_other_settings_is_not_mixed_with_this_one(drover, worth_killing, file):
    kill_create(drover, file, worth_killing)
    result = drover.manifest("create", "--digest=sha256", "-o", file, worth_killing, code=(CLEAN, USAGE, FATAL))
    if result.code == CLEAN:
        wanted = hashlib.sha256((worth_killing / "large0").read_bytes()).hexdigest()
        assert records(drover, file)["large0"]["digest"] == wanted
    else:
        assert "--restart" in result.err, "the way out has to be named"


def test_check_killed_at_twenty_random_moments_harms_nothing(drover, worth_killing, file):
    drover.manifest("create", "-o", file, worth_killing)
    spoil(worth_killing / "large3", 5)
    recorded, before = file.read_bytes(), Snapshot(worth_killing, content=False)
    start = time.monotonic()
    expected = drover.manifest("check", file, worth_killing, code=CORRUPT).findings
    duration_s = time.monotonic() - start
    chance = random.Random(20)
    for _ in range(20):
        with drover.launch("manifest", "check", file, worth_killing) as running:
            time.sleep(chance.uniform(0, duration_s))  # the moment is the test, not a wait
            running.process.kill()
    assert drover.manifest("check", file, worth_killing, code=CORRUPT).findings == expected
    assert file.read_bytes() == recorded
    assert [path.name for path in file.parent.iterdir() if path.name.startswith(file.name)] == [file.name]
    assert_untouched(before, Snapshot(worth_killing, content=False))


# ---- bringing it up to date ----------------------------------------------------------------------------------------


def test_a_manifest_that_is_there_is_not_replaced_by_accident(drover, recorded, file):
    old = file.read_bytes()
    result = drover.manifest("create", "-o", file, recorded, code=(USAGE, FATAL))
    assert "--update" in result.err and "--full" in result.err
    assert file.read_bytes() == old


def test_update_reads_what_changed_and_says_how_much_it_trusted(drover, src, work, file):
    """Judged by strace: no read of a file that did not change."""
    require("strace")
    many_files(src / "small", 300)
    plant(src, {"large": noise(4 * MIB), "edited": noise(2 * MIB, seed=1), "spoilt": noise(MIB, seed=2), "renamed": "r",
                "gone/file": "gone"})
    drover.manifest("create", "-o", file, src)
    with open(src / "edited", "r+b") as out:
        out.write(b"edited")
    spoil(src / "spoilt", 100)  # only the ctime tells
    (src / "renamed").rename(src / "has another name")
    shutil.rmtree(src / "gone")
    plant(src / "came", {"file": "came"})

    trace = work / "trace"
    result = drover.manifest("create", "--update", "--io=threads", "--json", "-o", file, src, prefix=[
        "strace", "-f", "-y", "-o", trace, "-e", "trace=read,pread64,readv,preadv,preadv2,mmap"])

    read = set(re.findall(rf"<{re.escape(str(src))}/(.*?)>", trace.read_text(errors="replace")))
    assert {"edited", "spoilt", "came/file"} <= read <= {"edited", "spoilt", "came/file", "has another name"}
    assert 3 * MIB <= result.counts["bytes_read"] < 3 * MIB + 10_000
    drover.manifest("create", "-o", work / "fresh", src)
    assert same_entries(drover, file, work / "fresh")
    assert root_digest(drover, file) == root_digest(drover, work / "fresh")
    assert drover.manifest("check", file).out == b""
    said = drover.manifest("create", "--update", "-o", file, src).err
    assert re.search(r"\b30[45] files", said) and "trust" in said, said


def test_full_reads_all_of_it_again(drover, recorded, file):
    result = drover.manifest("create", "--full", "--json", "-o", file, recorded)
    assert result.counts["bytes_read"] >= 3 * MIB


def test_an_update_killed_leaves_the_old_manifest_and_goes_on(drover, worth_killing, work, file):
    drover.manifest("create", "-o", file, worth_killing)
    old = file.read_bytes()
    for number in range(64):
        (worth_killing / f"large{number}").write_bytes(noise(MIB, seed=100 + number))
    kill_create(drover, file, worth_killing, "--update")
    assert file.read_bytes() == old
    drover.manifest("create", "--update", "-o", file, worth_killing)
    assert not part_of(file).exists()
    drover.manifest("create", "-o", work / "fresh", worth_killing)
    assert same_entries(drover, file, work / "fresh")


# ---- two at one file ------------------------------------------------------------------------------------------------


def test_a_second_one_at_the_same_file_is_refused(drover, worth_killing, file):
    with drover.launch("manifest", "create", "--bwlimit=24M", "-o", file, worth_killing) as running:
        running.until(lambda: part_of(file).exists() and part_of(file).stat().st_size, "it has begun to write")
        for options in [], ["--restart"]:
            result = drover.manifest("create", *options, "-o", file, worth_killing, code=FATAL)
            assert str(file) in result.err and "another process" in result.err
        running.end()
    assert drover.manifest("check", file).out == b""


def test_one_that_was_overtaken_leaves_what_the_other_made_alone(drover, tree, file, work):
    """It is stopped when it has opened the file and not yet locked it; the other renames it meanwhile."""
    require("strace")
    with Stopped(lambda prefix: drover.launch("manifest", "create", "-o", file, tree, prefix=prefix), "openat", work / "log",
                 part_of(file).name) as overtaken:
        drover.manifest("create", "-o", file, tree)
        os.link(file, work / "made first")
        overtaken.go_on(code=CLEAN)
    assert not file.samefile(work / "made first") and not part_of(file).exists()
    for one in file, work / "made first":
        assert same_entries(drover, one, file)
        assert drover.manifest("check", one, tree).out == b""


def test_one_of_a_tree_elsewhere_that_was_overtaken_leaves_what_the_other_made_alone(drover, tree, file, work):
    require("strace")
    command = ["manifest", "create", "-e", NO_SHELL, "--remote-drover", drover.binary, "-o", file, f"far:{tree}"]
    with Stopped(lambda prefix: drover.launch(*command, prefix=prefix), "openat", work / "log",
                 f"{file}.incoming") as overtaken:
        drover.run(*command)
        result = overtaken.go_on(code=FATAL)
        assert f"{file}.incoming: another drover" in result.err
    assert drover.manifest("check", file, tree).out == b""


# ---- where the manifest lies ---------------------------------------------------------------------------------------


def test_a_manifest_inside_the_tree_is_no_part_of_it(drover, tree):
    file = tree / "inside.manifest"
    drover.manifest("create", "-o", file, tree)
    age(tree)
    assert drover.manifest("check", file, tree).out == b""
    assert "inside.manifest" not in records(drover, file)


@pytest.mark.parametrize("place, reason", [
    ("nowhere/file", "No such file or directory"), ("small/file", "Not a directory"), ("a directory", "not a file")])
def test_a_manifest_that_cannot_be_written_is_refused_at_once(drover, tree, work, place, reason):
    plant(work / "out", {"small": "x", "a directory": None})
    result = drover.manifest("create", "-o", work / "out" / place, tree, code=(USAGE, FATAL))
    assert str(work / "out" / place) in result.err and reason in result.err
    assert sorted(path.name for path in (work / "out").rglob("*")) == ["a directory", "small"]


@pytest.mark.parametrize("name", ["file", "file.part", "file.part-journal", "file.part-wal"])
@pytest.mark.parametrize("kind", ["link", "dangling link", "fifo"])
def test_what_somebody_put_in_the_place_of_the_manifest_is_not_followed(drover, tree, work, name, kind):
    """In a folder like /tmp: nothing is written anywhere else, and nothing hangs."""
    victim = plant(work / "elsewhere", {"victim": "somebody's"}) / "victim"
    (work / "out").mkdir()
    if kind == "fifo":
        os.mkfifo(work / "out" / name)
    else:
        (work / "out" / name).symlink_to(victim if kind == "link" else work / "elsewhere/made")
    drover.manifest("create", "-o", work / "out/file", tree, code=None, timeout_s=20)
    assert victim.read_text() == "somebody's"
    assert [path.name for path in victim.parent.iterdir()] == ["victim"]


def test_a_manifest_is_for_its_owner_alone_to_read(drover, recorded, file):
    """It holds the names of everything, also of what others may not list."""
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_full_disk_under_the_manifest_is_told(drover, lab, src):
    many_files(src, 5000)
    volume = lab.make("tmpfs", 128 << 10)
    result = drover.manifest("create", "-o", volume.path / "file", src, code=FATAL)
    assert str(volume.path / "file") in result.err and "No space left on device" in result.err
    assert not (volume.path / "file").exists()
    lab.unmount(volume.path)


def test_a_full_disk_while_the_root_digest_is_computed_leaves_the_tree_alone(drover, lab, src):
    """With each possible size of the disk, the manifest is either complete or not there."""
    many_files(src, 1000)
    ample = lab.make("tmpfs", 16 * MIB)
    drover.manifest("create", "-o", ample.path / "file", src)
    needed = (ample.path / "file").stat().st_size
    for size in range(needed // 4 & -4096, 2 * needed, needed // 8 & -4096):
        volume = lab.make("tmpfs", size)
        result = drover.manifest("create", "-o", volume.path / "file", src, code=(CLEAN, FATAL))
        assert (result.code == CLEAN) == (volume.path / "file").exists()
        if result.code == CLEAN:
            assert same_entries(drover, volume.path / "file", ample.path / "file")
        lab.unmount(volume.path)
    lab.unmount(ample.path)


def test_a_tree_that_is_none_is_refused(drover, tree, work):
    for path in (work / "nowhere", tree / "small"):
        result = drover.manifest("create", "-o", work / "file", path, code=(USAGE, FATAL))
        assert str(path) in result.err
        assert not (work / "file").exists() and not (work / "file.part").exists()


# ---- foreign bytes -------------------------------------------------------------------------------------------------


def _garbage(kind, path, good):
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "noise":
        path.write_bytes(noise(50_000))
    elif kind == "text":
        path.write_text("not a manifest\n" * 1000)
    elif kind == "zeros":
        path.write_bytes(bytes(50_000))
    elif kind == "another SQLite file":
        other = sqlite3.connect(path)
        other.execute("CREATE TABLE entry (dir INTEGER, name BLOB, record BLOB)")
        other.commit()
        other.close()
    elif kind == "a good head and noise":
        path.write_bytes(good[:512] + noise(len(good) - 512))
    elif kind == "a directory":
        path.mkdir()
    elif kind == "a fifo":
        os.mkfifo(path)


@pytest.mark.parametrize("kind", ["empty", "noise", "text", "zeros", "another SQLite file", "a good head and noise",
                                  "a directory", "a fifo", "not there"])
def test_what_is_no_manifest_is_refused_with_its_name(drover, recorded, file, kind):
    bad = file.with_name("bad")
    _garbage(kind, bad, file.read_bytes())
    uses = [["check", bad, recorded], ["info", bad], ["export", "--format=jsonl", bad], ["diff", file, bad],
            ["diff", bad, file]]
    if kind != "not there":
        uses.append(["create", "--update", "-o", bad, recorded])
    for arguments in uses:
        result = drover.manifest(*arguments, code=(USAGE, FATAL), timeout_s=20)
        assert str(bad) in result.err and result.out == b"", str(result)
    assert [one.name for one in file.parent.iterdir() if one.name.startswith("bad.")] == []


@pytest.fixture
def compact(drover, src, file):
    """A small tree with some of everything, and the bytes of its manifest."""
    many_files(src / "many", 150)
    plant(src, {"large": noise(2 * MIB), "link": Link("large"), "dir/sub/file": "x", "fifo": FIFO})
    drover.manifest("create", "-o", file, src)
    return src, file.read_bytes()


def _does_not_mislead(drover, bad, tree):
    """Of a damaged manifest: the truth, or that it is damaged. Never a crash, never a word against the tree."""
    checked = drover.manifest("check", bad, tree, code=(CLEAN, FATAL), timeout_s=20)
    assert checked.out == b""
    drover.manifest("info", bad, code=(CLEAN, INCOMPLETE, FATAL), timeout_s=20)
    drover.manifest("export", "--format=jsonl", bad, code=(CLEAN, FATAL), timeout_s=20)
    return checked.code == FATAL


def test_a_truncated_manifest_is_refused(drover, compact, file):
    tree, good = compact
    bad = file.with_name("bad")
    chance = random.Random(3)
    for length in [1, 15, 16, 99, 100, 4095, 4096, len(good) // 2, len(good) - 1,
                   *(chance.randrange(len(good)) for _ in range(12))]:
        bad.write_bytes(good[:length])
        assert _does_not_mislead(drover, bad, tree) or length > len(good) - 4096, length


def test_flipped_bits_are_noticed_or_do_not_matter(drover, compact, file):
    tree, good = compact
    bad = file.with_name("bad")
    chance = random.Random(4)
    noticed = 0
    for number in range(120):
        data = bytearray(good)
        for _ in range(1 + number % 3):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        bad.write_bytes(data)
        noticed += _does_not_mislead(drover, bad, tree)
    assert noticed > 40


def test_pages_lost_or_exchanged_are_noticed_or_do_not_matter(drover, compact, file):
    tree, good = compact
    bad = file.with_name("bad")
    chance = random.Random(5)
    page = int.from_bytes(good[16:18], "big") or 65536
    page = 65536 if page == 1 else page
    pages = len(good) // page
    for _ in range(20):
        data = bytearray(good)
        one, other = chance.randrange(pages), chance.randrange(pages)
        kind = chance.randrange(3)
        source = bytes(page) if kind == 0 else noise(page, seed=one) if kind == 1 else good[other * page:][:page]
        data[one * page:(one + 1) * page] = source
        bad.write_bytes(data)
        _does_not_mislead(drover, bad, tree)


def test_a_damaged_unfinished_manifest_does_not_spoil_the_next_one(drover, worth_killing, work, file):
    drover.manifest("create", "-o", work / "fresh", worth_killing)
    kill_create(drover, file, worth_killing)
    part = part_of(file).read_bytes()
    chance = random.Random(6)
    for number in range(6):
        data = bytearray(part)
        for _ in range(20):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        part_of(file).write_bytes(data if number else part[:len(part) // 2])
        result = drover.manifest("create", "-o", file, worth_killing, code=(CLEAN, FATAL))
        if result.code == FATAL:
            assert "--restart" in result.err
            drover.manifest("create", "--restart", "-o", file, worth_killing)
        assert same_entries(drover, file, work / "fresh")
        for path in work.glob(file.name + "*"):
            path.unlink()
