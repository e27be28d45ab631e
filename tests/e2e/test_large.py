# SPDX-License-Identifier: Apache-2.0
"""Large files, sparse files, and sizes around the borders of blocks."""
import os

import pytest

from judge import Snapshot, assert_equal, map_of
from lab import MIB, run
from trees import age, noise, plant


def _large(path, size_bytes):
    """Content in which no two blocks are alike, made fast."""
    block = noise(MIB)
    with open(path, "wb") as file:
        for number in range(size_bytes // MIB):
            file.write(number.to_bytes(8, "big") + block[8:])
        file.write(block[:size_bytes % MIB])


@pytest.mark.parametrize("io", ["auto", "uring", "threads"])
@pytest.mark.parametrize("jobs", [1, 8])
def test_a_large_file_is_split_over_workers_and_equal(drover, src, dst, io, jobs):
    _large(src / "large", 200 * MIB + 12_345)
    drover.sync(f"--io={io}", f"--jobs={jobs}", src, dst)
    assert_equal(src, dst)


def test_large_and_small_files_together(drover, src, dst):
    for number in range(3):
        _large(src / f"large{number}", 40 * MIB + number)
    plant(src / "small", {f"f{number}": noise(number) for number in range(300)})
    drover.sync(src, dst)
    assert_equal(src, dst)


def test_twenty_sparse_gibibytes_stay_sparse(drover, src, dst):
    size = 20 << 30
    with open(src / "sparse", "wb") as file:
        for number in range(16):
            file.seek(number * (size // 16) + 7 * MIB)
            file.write(noise(MIB, seed=number))
        file.truncate(size)
    drover.sync(src, dst, timeout_s=30)
    assert_equal(src, dst)
    assert map_of(src / "sparse") == map_of(dst / "sparse")
    assert (dst / "sparse").stat().st_blocks <= (src / "sparse").stat().st_blocks + 64


def _border_sizes():
    for border in (4096, 8192, 64 << 10, 128 << 10, 256 << 10, MIB, 4 * MIB, 8 * MIB, 16 * MIB):
        yield from (border - 1, border, border + 1)
    yield from (0, 1, 2, 511, 4095 * 3, 12 * MIB + 4097, 24 * MIB)


@pytest.mark.parametrize("fs", ["ext4", "xfs", "tmpfs"])
def test_sizes_around_block_borders(drover, on, fs):
    src, dst = on("ext4") / "src", on(fs) / "dst"
    src.mkdir()
    pool = noise(24 * MIB)
    for size in _border_sizes():
        (src / str(size)).write_bytes(pool[:size])
    drover.sync(src, dst)
    assert_equal(src, dst)


def test_holes_at_odd_places(drover, src, dst):
    """Data that begins and ends off the block borders, holes of one block, a hole up to the last byte."""
    for number, (size, pieces) in enumerate([
            (10 * MIB, [(1, 1), (MIB - 1, 2), (9 * MIB + 4095, 4098)]), (8 * MIB + 1, [(8 * MIB, 1)]),
            (8 * MIB, [(0, 1)]), (40 * MIB, [(at, 4096) for at in range(0, 40 * MIB, MIB // 2)]), (5, []),
            (4097, [(4096, 1)]), (16 * MIB + 8193, [(8191, 2), (16 * MIB + 8192, 1)])]):
        with open(src / str(number), "wb") as file:
            file.truncate(size)
            for position, length in pieces:
                file.seek(position)
                file.write(noise(length, seed=position))
    drover.sync(src, dst)
    assert_equal(src, dst)
    for path in src.iterdir():
        if path.stat().st_size >= MIB:  # in a small file a hole is not worth its system calls
            assert map_of(path) == map_of(dst / path.name), path


@pytest.mark.parametrize("fs", ["ext4", "xfs", "btrfs"])
def test_preallocated_files(drover, on, fs):
    src, dst = on(fs) / "src", on(fs) / "dst"
    src.mkdir()
    run("fallocate", "-l", str(16 * MIB), src / "nothing")
    run("fallocate", "-l", str(16 * MIB), src / "some")
    with open(src / "some", "r+b") as file:
        file.seek(5 * MIB)
        file.write(noise(MIB))
    (src / "tail").write_bytes(noise(10_000))
    run("fallocate", "--keep-size", "-l", str(4 * MIB), src / "tail")
    drover.sync(src, dst)
    assert_equal(src, dst)
    assert drover.sync("-i", src, dst).out == b""


@pytest.mark.parametrize("options", [[], ["--inplace"]], ids=["replace", "inplace"])
def test_a_file_that_became_sparse_shorter_or_longer(drover, src, dst, options):
    files = {"sparser": noise(6 * MIB), "shorter": noise(6 * MIB), "longer": noise(1000), "emptied": noise(6 * MIB)}
    plant(src, files)
    drover.sync(src, dst)
    run("fallocate", "--punch-hole", "-o", str(MIB), "-l", str(4 * MIB), src / "sparser")
    os.truncate(src / "shorter", 2 * MIB + 1)
    (src / "longer").write_bytes(noise(6 * MIB, seed=3))
    os.truncate(src / "emptied", 0)
    for name in files:
        age(src / name, mtime_ns=1_600_000_000_000_000_000)
    drover.sync(*options, src, dst)
    assert_equal(src, dst)


def test_a_large_file_of_zeros_is_equal(drover, src, dst):
    (src / "zeros").write_bytes(bytes(20 * MIB))
    drover.sync(src, dst)
    assert_equal(src, dst)


def test_a_large_file_keeps_all_its_metadata(drover, src, dst):
    _large(src / "large", 20 * MIB)
    os.chown(src / "large", 1000, 2000)
    (src / "large").chmod(0o6751)
    os.setxattr(src / "large", "user.x", noise(500))
    run("setfacl", "-m", "u:7:r", src / "large")
    age(src / "large")
    os.link(src / "large", src / "same")
    drover.sync(src, dst)
    assert_equal(src, dst)
    assert len(Snapshot(dst).records[b"large"].links) == 2
