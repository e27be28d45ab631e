# SPDX-License-Identifier: Apache-2.0
"""kill -9 at any moment: every name holds an old or a new version, and the same command then completes the job."""
import random
import re
import time
from collections import Counter

import pytest

from judge import Snapshot, assert_equal, litter
from lab import MIB, require, spread, wipe
from trees import OLD_NS, age, many_files, nasty, noise, plant, two_versions

CALLS = ("openat openat2 creat write pwrite64 pwritev pwritev2 copy_file_range sendfile ioctl fallocate ftruncate "
         "rename renameat renameat2 link linkat unlink unlinkat rmdir mkdir mkdirat symlinkat mknodat fchown fchownat "
         "fchmod fchmodat fchmodat2 utimensat setxattr lsetxattr fsetxattr removexattr lremovexattr fremovexattr "
         "fsync fdatasync syncfs io_uring_enter close exit_group").split()


def _is_temporary(path):
    return any(part.startswith(b".drover.") for part in path.split(b"/"))


def _lies_below(path, tops):
    return any(path == top or path.startswith(top + b"/") for top in tops)


def assert_no_mix(old, new, now):
    """Every entry is what it was or what it is to be: content together with all metadata, or, where only
    metadata differs, each attribute for itself. Directories are followed by their metadata at the end."""
    for path, record in now.records.items():
        if _is_temporary(path):
            continue
        versions = [tree.records[path] for tree in (old, new) if path in tree.records]
        assert versions, f"{path!r} is in neither version"
        if record.type == "directory":
            assert any(one.type == "directory" for one in versions), path
            continue
        same_content = len(versions) == 2 and not versions[0].differs_from(
            versions[1], ignore=("mode", "uid", "gid", "mtime_ns", "xattrs", "flags", "links"))
        if same_content:
            mixed = [name for name in ("mode", "uid", "gid", "mtime_ns", "xattrs", "size", "content", "target")
                     if getattr(record, name) not in [getattr(one, name) for one in versions]]
            assert not mixed, f"{path!r}: {mixed} of {record} is in neither of {versions}"
        else:
            assert any(not record.differs_from(one, ignore=("links",)) for one in versions), \
                f"{path!r} is a mix: {record}\nversions: {versions}"
    both = old.records.keys() & new.records.keys()
    # A directory cannot be exchanged for something else in one step.
    exchanged = {path for path in both if old.records[path].type != new.records[path].type
                 and "directory" in (old.records[path].type, new.records[path].type)}
    lost = [path for path in both - now.records.keys() if not _lies_below(path, exchanged)]
    assert not lost, f"gone although both versions have them: {lost}"


@pytest.fixture
def versions(work):
    """Two versions of a tree, with what they hold; the destination starts with the first."""
    two_versions(work / "a", work / "b")
    return [(work / name, Snapshot(work / name)) for name in ("a", "b")]


def _kill_and_complete(drover, versions, dst, turn, kill):
    """One round: dst holds version 1-turn, the run to the other one is killed, then repeated. True if it was killed."""
    (_, old), (src, new) = versions[1 - turn], versions[turn]
    killed = kill(["--delete", src, dst])
    assert_no_mix(old, new, Snapshot(dst))
    drover.sync("--delete", src, dst)
    assert litter(dst) == []
    assert not new.differences(Snapshot(dst)), new.differences(Snapshot(dst))[:20]
    return killed


def _calls_per_thread(drover, work, src, dst, options):
    """How often each call of interest is made by the thread that makes it most."""
    trace = work / "trace"
    drover.sync(*options, "--delete", src, dst, prefix=["strace", "-f", "-o", trace, "-e", "trace=" + _known(CALLS)])
    made = Counter()
    for line in trace.read_text(errors="replace").splitlines():
        match = re.match(r"(\d+) +(\w+)\(", line)
        if match:
            made[match.groups()] += 1
    most = Counter()
    for (_, call), times in made.items():
        most[call] = max(most[call], times)
    return most


def _known(calls):
    return ",".join("?" + call for call in calls)


@pytest.mark.parametrize("options", [["--io=threads", "--jobs=2"], ["--io=uring"], ["--fsync=each", "--jobs=1"]],
                         ids=" ".join)
def test_killed_at_any_system_call(drover, work, chance, versions, dst, options):
    require("strace")
    drover.sync(versions[0][0], dst)
    made = _calls_per_thread(drover, work, versions[1][0], dst, options)
    turn, killed, rounds = 0, 0, 0
    for call, times in sorted(made.items()):
        for when in spread(chance, sorted({1, 2, max(1, times // 3), max(1, times * 2 // 3)}), 2):
            def kill(arguments):
                inject = f"inject={call}:signal=KILL:when={when}"
                prefix = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", inject]
                return drover.sync(*options, *arguments, prefix=prefix, code=None).code != 0
            killed += _kill_and_complete(drover, versions, dst, turn, kill)
            rounds += 1
            turn = 1 - turn
    assert killed > rounds / 2, f"only {killed} of {rounds} runs were killed"


def test_killed_at_any_moment(drover, work, dst):
    two_versions(work / "a", work / "b", count=1200)
    versions = [(work / name, Snapshot(work / name)) for name in ("a", "b")]
    drover.sync(versions[0][0], dst)
    start = time.monotonic()
    drover.sync("--delete", versions[1][0], dst)
    duration_s = time.monotonic() - start
    chance = random.Random(20)
    for number in range(30):
        def kill(arguments):
            with drover.start(*arguments) as running:
                time.sleep(chance.uniform(0, duration_s))  # the moment is the test, not a wait
                return running.kill()
        _kill_and_complete(drover, versions, dst, number % 2, kill)


def test_an_initial_sync_killed_again_and_again_ends_equal(drover, work, lab, src, dst):
    nasty(src, lab.volume("ext4").traits)
    start = time.monotonic()
    drover.sync(src, work / "first")
    duration_s = time.monotonic() - start
    wipe(work / "first")
    chance = random.Random(21)
    for _ in range(10):
        with drover.start(src, dst) as running:
            time.sleep(chance.uniform(0, duration_s))
            running.kill()
    drover.sync(src, dst)
    assert litter(dst) == []
    assert_equal(src, dst)


def test_a_large_file_killed_half_way_is_still_the_old_one(drover, src, dst):
    plant(src, {"large": noise(24 * MIB, seed=1)})
    drover.sync(src, dst)
    old = Snapshot(dst)
    (src / "large").write_bytes(noise(24 * MIB, seed=2))
    with drover.start("--bwlimit=8M", src, dst) as running:
        running.until(lambda: litter(dst) != [] or dst.stat().st_ctime_ns != old.touched[b"."][2], "it has begun")
        time.sleep(0.3)  # any moment will do
        assert running.kill()
    assert not old.records[b"large"].differs_from(Snapshot(dst).records[b"large"])
    drover.sync(src, dst)
    assert litter(dst) == []
    assert_equal(src, dst)


def test_an_inplace_update_killed_half_way_is_completed_by_the_next_run(drover, src, dst):
    plant(src, {"large": noise(24 * MIB, seed=1)})
    drover.sync(src, dst)
    replaced = noise(24 * MIB, seed=2)
    (src / "large").write_bytes(replaced)
    with drover.start("--inplace", "--bwlimit=8M", src, dst) as running:
        time.sleep(0.5)  # any moment will do
        running.kill()
    drover.sync("--inplace", src, dst)
    assert litter(dst) == []
    assert_equal(src, dst)


def test_what_a_power_failure_may_have_lost_is_copied_again(drover, lab, work, src, dst):
    """A run is killed; the machine restarts, and a file that had arrived is all zeros, though of the right size and
    mtime, because it never reached the disk. Another boot is told by another boot id."""
    plant(src, {"arrived": noise(50_000), "dir/arrived": noise(50_000, seed=1), "large": noise(16 * MIB, seed=2)})
    with drover.start("--bwlimit=4M", "--jobs=1", src, dst) as running:
        running.until(lambda: any(path.exists() and path.stat().st_mtime_ns == OLD_NS
                                  for path in (dst / "arrived", dst / "dir/arrived")), "a small file has arrived")
        assert running.kill()
    lost = next(path for path in (dst / "arrived", dst / "dir/arrived") if path.exists())
    lost.write_bytes(bytes(50_000))
    age(lost)
    (work / "boot id").write_text("11111111-2222-3333-4444-555555555555\n")
    boot_id = "/proc/sys/kernel/random/boot_id"
    lab.mount("--bind", work / "boot id", at=boot_id)
    try:
        drover.sync(src, dst)
    finally:
        lab.unmount(boot_id)
    assert_equal(src, dst)


def test_left_overs_are_swept_by_any_later_run_that_may_write(drover, src, dst):
    """Also those in directories that are equal by now, and only drover's own."""
    plant(src, {"dir/sub/file": "x", "many": None})
    many_files(src / "many", 20)
    drover.sync(src, dst)
    with drover.start("--bwlimit=1K", src, dst.with_name("other")) as running:
        running.until(lambda: litter(dst.with_name("other")), "it has begun")
        running.kill()
    drover.sync(src, dst.with_name("other"))
    assert litter(dst.with_name("other")) == []
    assert_equal(src, dst.with_name("other"))


def test_files_of_users_that_look_a_little_like_temporary_names_stay(drover, src, dst):
    plant(src, {"file": "x"})
    plant(dst, {".drover": "mine", ".drover-notes": "mine", ".drover.conf": "mine", "dir/.drover.zzzz": "mine"})
    drover.sync(src, dst)
    for name in (".drover", ".drover-notes", ".drover.conf", "dir/.drover.zzzz"):
        assert (dst / name).read_text() == "mine"
