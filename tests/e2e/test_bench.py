# SPDX-License-Identifier: Apache-2.0
"""drover bench: what it measures is so, SRC is only read, and in DST nothing stays, however it ends."""
import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from drover import Drover
from judge import Snapshot, assert_equal, assert_untouched, litter
from lab import MIB, run
from trees import many_files, noise, plant

pytestmark = pytest.mark.local
USER = 1000
LOCK = "bench.lock"


@pytest.fixture
def drover(drover, lab):
    """That remembers nothing of other tests."""
    return Drover(drover.binary, lab.folder("home"))


@pytest.fixture
def dst(work):
    """The destination: a bench wants it to be there."""
    (work / "dst").mkdir()
    return work / "dst"


@pytest.fixture
def tree(src):
    """300 small files in 6 directories, and two large ones."""
    many_files(src, 300, size_bytes=3000)
    plant(src, {"large/one": noise(3 * MIB, seed=1), "large/two": noise(5 * MIB, seed=2)})
    return src


@pytest.fixture
def slow(lab, helper):
    """slow(DIR, MS): a mount that shows DIR and takes so long for each operation (see bench/latencyfs.c)."""
    if not os.path.exists("/dev/fuse"):
        pytest.skip("no /dev/fuse")
    mounted = []

    def mount(shown, latency_ms):
        point = lab.folder("slow")
        run(helper("latencyfs"), "-o", f"source={shown},lat={latency_ms * 1000}", point)
        mounted.append(point)
        return point

    yield mount
    for point in mounted:
        subprocess.run(["umount", "-l", point], check=True)


def bench(drover, *arguments, code=0, time_s=3, **options):
    """The object that it tells."""
    return json.loads(drover.run("bench", "--json", f"--time={time_s}", *arguments, code=code, **options).out)


def curve(told, kind):
    """{jobs: rate} of one kind, and its knee."""
    found = next(one for one in told["measurements"] if one["kind"] == kind)
    assert found["measured"], found
    return {point["jobs"]: point["per_s"] for point in found["points"]}, found["knee_jobs"]


def in_scratch(dst):
    """A bench has begun to write."""
    return [path for path in litter(dst) if (Path(os.fsdecode(path)) / "w0").exists()]


# --- What it tells ---

def test_the_tree_is_counted(drover, tree, dst):
    os.link(tree / "large/one", tree / "again")
    (tree / "link").symlink_to("large")
    told = bench(drover, tree, dst)
    files = [path for path in tree.rglob("*") if path.is_file() and not path.is_symlink()]
    counted = told["tree"]
    assert counted["complete"] and counted["files"] == len(files) == 303
    assert counted["bytes"] == sum(path.stat().st_size for path in files)
    assert (counted["dirs"], counted["other"], counted["links"]) == (7, 1, 1)
    assert sum(one["files"] for one in counted["sizes"]) == 303
    assert counted["largest_dir"] == 50


def test_every_kind_is_measured_and_a_number_recommended(drover, tree, dst):
    told = bench(drover, "-j", "8", tree, dst, time_s=6)
    for kind in ("metadata", "small_reads", "large_reads", "small_creates", "large_writes", "small_copies"):
        rates, knee = curve(told, kind)
        assert rates and all(rate > 0 for rate in rates.values()), kind
        assert knee in rates
    assert 1 <= told["recommended"]["jobs"] <= 8
    estimate = told["estimates"]["initial"]
    assert 0 < estimate["low_s"] <= estimate["s"] <= estimate["high_s"]
    assert told["estimates"]["final"]["s"] > 0
    assert told["written_bytes"] > 0


def test_without_a_destination_only_reading_is_measured(drover, tree):
    told = bench(drover, tree)
    measured = {one["kind"]: one["measured"] for one in told["measurements"]}
    assert measured == {"metadata": True, "small_reads": True, "large_reads": True,
                        "small_creates": False, "large_writes": False, "small_copies": False}
    assert told["written_bytes"] == 0


def test_an_empty_tree_is_no_failure(drover, src, dst):
    told = bench(drover, src, dst)
    assert told["tree"]["files"] == 0
    assert not any(one["measured"] for one in told["measurements"] if one["kind"] != "metadata")


def test_what_takes_its_time_is_measured_to_take_it(drover, tree, slow):
    """20 ms an operation: one at once can't do more than 50 in a second, many can."""
    told = bench(drover, "-j", "32", slow(tree, 20), time_s=10)
    rates, knee = curve(told, "small_reads")
    assert rates[1] < 26, "a file is opened and read"
    assert max(rates.values()) > 3 * rates[1]
    assert knee > 1
    assert told["recommended"]["jobs"] > 1
    kind = next(one for one in told["measurements"] if one["kind"] == "small_reads")
    assert all(point["median_ms"] > 38 for point in kind["points"])


def test_a_tree_too_large_for_the_time_is_estimated(drover, src, slow):
    """10 ms an operation: some seconds are not enough for 9,000 entries."""
    for number in range(8):
        many_files(src / f"t{number}", 1000, size_bytes=50, per_directory=8, seed=number)
    told = bench(drover, "-j", "4", slow(src, 10), time_s=8)["tree"]
    assert not told["complete"] and told["seen_share"] < 1
    assert abs(told["files"] / 8000 - 1) < max(0.5, 3 * told["files_error"])


def test_a_bandwidth_limit_is_kept(drover, tree):
    told = bench(drover, "--bwlimit=2M", tree, time_s=4)
    rates, _ = curve(told, "large_reads")
    assert max(rates.values()) < 6 * MIB, "a burst is allowed"
    assert told["estimates"]["initial"]["s"] > 8.5 * MIB / (2 * MIB) * 0.8


def test_the_recommended_number_is_what_a_sync_begins_with(drover, tree, dst):
    told = bench(drover, tree, dst)
    remembered = [path.read_text().split()[0] for path in drover.folder.rglob("*.jobs")]
    assert remembered == [str(told["recommended"]["jobs"])]


# --- What it leaves alone ---

def test_the_source_is_only_read(drover, tree, dst):
    everything = [tree, *tree.rglob("*")]
    for path in everything:
        os.utime(path, ns=(10**18, 10**18))
    before, read_at = Snapshot(tree), [path.stat().st_atime_ns for path in everything]
    bench(drover, tree, dst)
    assert_untouched(before, Snapshot(tree))
    assert read_at == [path.stat().st_atime_ns for path in everything]


def test_what_is_in_the_destination_stays_as_it_is(drover, tree, dst):
    many_files(dst, 20)
    plant(dst, {".drover.0123456789abcdef.7/file": "of a sync that was killed"})
    before = Snapshot(dst)
    bench(drover, tree, dst)
    assert_untouched(before, Snapshot(dst), but={b"."})


def test_not_more_is_written_than_was_allowed(drover, tree, dst):
    told = bench(drover, "--scratch-size=2M", tree, dst)
    assert 0 < told["written_bytes"] <= 2 * MIB


def test_with_the_descriptors_of_a_small_process_it_works(drover, tree, dst):
    assert bench(drover, tree, dst, files=64)["tree"]["files"] == 302
    assert litter(dst) == []


def test_a_user_measures_what_may_be_read(drover, tree, dst):
    os.chown(dst, USER, USER)
    plant(tree, {"secret/file": "x", "other": "x"})
    (tree / "secret").chmod(0o700)
    (tree / "other").chmod(0o600)
    told = bench(drover, tree, dst, prefix=["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"])
    assert told["tree"]["files"] == 303
    assert litter(dst) == []


# --- How it ends ---

@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_after_a_signal_nothing_is_left(drover, tree, dst, number):
    with drover.launch("bench", "--json", "--time=60", tree, dst) as running:
        running.until(lambda: in_scratch(dst), "it has begun to write")
        running.process.send_signal(number)
        told = json.loads(running.end(code=128 + number).out)
    assert os.listdir(dst) == []
    assert told["stopped"] and told["signal"] == signal.Signals(number).name
    assert told["tree"]["files"] == 302


@pytest.mark.parametrize("sweeper", ["bench", "sync"])
def test_what_kill_leaves_the_next_one_sweeps(drover, tree, dst, sweeper):
    with drover.launch("bench", "--time=60", tree, dst) as running:
        running.until(lambda: in_scratch(dst), "it has begun to write")
        running.kill()
    left = os.listdir(dst)
    assert len(left) == 1 and left[0].startswith(".drover."), left
    if sweeper == "bench":
        bench(drover, tree, dst)
        assert os.listdir(dst) == []
    else:
        drover.sync("--delete", tree, dst)
        assert_equal(tree, dst)


def test_a_destination_that_is_full_is_told_and_cleaned(drover, tree, dst, faulty):
    told = bench(drover, tree, faulty(dst, "write:*/w*:ENOSPC@40"), code=1, time_s=4)
    assert told["stopped"] and "signal" not in told
    assert os.listdir(dst) == []
    assert any("full" in one.get("why_not", "") for one in told["measurements"])


def test_a_destination_that_fails_is_no_end_of_reading(drover, tree, dst, faulty):
    told = bench(drover, tree, faulty(dst, "create:*/w*:EIO"), code=(0, 1), time_s=4)
    curve(told, "small_reads")
    assert os.listdir(dst) == []


# --- What is refused ---

def refused(drover, *arguments):
    result = drover.run("bench", "--time=60", *arguments, code=5)
    assert result.err.startswith("drover: bench: ") and len(result.err.splitlines()) == 1, str(result)
    return result.err


def test_a_destination_that_cannot_be_written_is_refused_at_once(drover, tree, lab):
    volume = lab.make("tmpfs", 16 * MIB)
    run("mount", "-o", "remount,ro", volume.path)
    assert "Read-only file system" in refused(drover, tree, volume.path)


def test_trees_within_each_other_are_refused(drover, tree):
    assert "inside the source" in refused(drover, tree, tree / "large")
    assert "inside the destination" in refused(drover, tree / "large", tree)
    assert "the same directory" in refused(drover, tree, tree)


def test_what_is_not_there_is_refused(drover, tree, work):
    assert "No such file" in refused(drover, work / "nothing", work)
    assert "does not exist" in refused(drover, tree, work / "nothing")
    assert "not a directory" in refused(drover, tree / "large/one", work)
    assert not (work / "nothing").exists()


def test_another_bench_in_the_same_destination_is_refused(drover, tree, dst):
    with drover.launch("bench", "--time=60", tree, dst) as running:
        running.until(lambda: in_scratch(dst), "it has begun to write")
        assert "at work in the destination" in refused(drover, tree, dst)
        assert in_scratch(dst), "it goes on"
        running.process.send_signal(signal.SIGTERM)
        running.end(code=143)
    assert os.listdir(dst) == []


def test_beside_a_sync_to_the_same_destination_it_is_refused(drover, tree, dst):
    with drover.start("--bwlimit=200K", tree, dst) as running:
        running.until(lambda: (dst / ".drover.run").exists() and len(os.listdir(dst)) > 1, "it has begun")
        assert "at work in the destination" in refused(drover, tree, dst)
        running.process.send_signal(signal.SIGTERM)
        running.end(code=143)
