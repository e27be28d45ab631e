# SPDX-License-Identifier: Apache-2.0
"""SIGINT and SIGTERM: a quick end, no litter, no mix, and the same command resumes."""
import signal
import time

import pytest

from judge import Snapshot, assert_equal, litter
from lab import MIB
from test_kill import assert_no_mix
from trees import many_files, noise, plant, two_versions

SOON_S = 6.0  # promised are two; the machine may be busy


def _stop(running, number):
    running.process.send_signal(number)
    start = time.monotonic()
    result = running.end(code=128 + number)
    assert time.monotonic() - start < SOON_S
    return result


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("load", ["small files", "large files"])
def test_a_signal_ends_the_run_soon_and_cleanly(drover, src, dst, number, load):
    if load == "small files":
        many_files(src, 2000, size_bytes=4000)
    else:
        plant(src, {f"large {n}": noise(8 * MIB, seed=n) for n in range(3)})
    with drover.start("--bwlimit=1M", src, dst) as running:
        running.until(lambda: dst.exists() and any(dst.iterdir()), "the copy has begun")
        _stop(running, number)
    assert litter(dst) == []
    arrived = Snapshot(dst).records
    complete = Snapshot(src).records
    assert len(arrived) < len(complete)
    for path, record in arrived.items():
        if record.type == "file":
            assert record == complete[path]
    drover.sync(src, dst)
    assert_equal(src, dst)


def test_a_signal_during_an_update_leaves_old_or_new(drover, work, dst):
    two_versions(work / "a", work / "b")
    drover.sync(work / "a", dst)
    old, new = Snapshot(work / "a"), Snapshot(work / "b")
    with drover.start("--delete", "--bwlimit=500", work / "b", dst) as running:
        running.until(lambda: dst.stat().st_ctime_ns != old.touched[b"."][2] and litter(dst), "it has begun")
        _stop(running, signal.SIGTERM)
    assert litter(dst) == []
    assert_no_mix(old, new, Snapshot(dst))
    drover.sync("--delete", work / "b", dst)
    assert_equal(work / "b", dst)


def test_a_signal_while_storage_is_slow(drover, src, dst, faulty):
    """Every operation takes 200 ms: what is under way ends, nothing new is begun."""
    many_files(src, 500)
    slow = faulty(src, "read:*:delay=200", "open:*:delay=200")
    with drover.start(slow, dst) as running:
        running.until(lambda: dst.exists() and any(dst.iterdir()), "the copy has begun")
        _stop(running, signal.SIGTERM)
    assert litter(dst) == []
    drover.sync(src, dst)
    assert_equal(src, dst)


def test_a_stopped_run_says_so(drover, src, dst):
    plant(src, {"large": noise(8 * MIB)})
    with drover.start("--json", "--bwlimit=1M", src, dst) as running:
        running.until(lambda: dst.exists() and any(dst.iterdir()), "the copy has begun")
        result = _stop(running, signal.SIGTERM)
    assert result.events("summary")[0]["exit_code"] == 143
