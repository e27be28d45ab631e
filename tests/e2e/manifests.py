# SPDX-License-Identifier: Apache-2.0
"""A tree and its manifest: fixtures to import, what is done to the one and asked of the other."""
import json
import os
import re

import pytest

from lab import MIB
from trees import FIFO, Hard, Link, many_files, noise, plant

CLEAN, INCOMPLETE, USAGE, IN_MOTION, FATAL, DIFFERS, CORRUPT = 0, 1, 2, 3, 5, 6, 7

TREE = {
    "dir/file": "content", "dir/sub/deep": "deep", "dir/sub/deeper": "deeper", "gone/one": "one", "gone/two/three": "3",
    "big": noise(3 * MIB, seed=1), "small": noise(5000, seed=2), "empty": "", "link": Link("dir/file"), "fifo": FIFO,
    "pair": noise(300, seed=3), "pair too": Hard("pair"), "to be opened": None,
}


@pytest.fixture
def tree(src):
    return plant(src, TREE)


@pytest.fixture
def file(work):
    """The manifest: not there yet."""
    return work / "tree.manifest"


@pytest.fixture
def recorded(drover, tree, file):
    """The tree, with a manifest of it."""
    drover.manifest("create", "-o", file, tree)
    return tree


@pytest.fixture
def worth_killing(src):
    """A tree whose reading takes a moment."""
    many_files(src / "small", 2500, per_directory=100)
    for number in range(64):
        (src / f"large{number}").write_bytes(noise(MIB, seed=number))
    return src


def write_at(path, offset, data):
    """Changes content in place and leaves the mtime as it was: what no program does, and failing hardware does."""
    keep = os.stat(path)
    with open(path, "r+b") as out:
        out.seek(offset)
        out.write(data)
    os.utime(path, ns=(keep.st_atime_ns, keep.st_mtime_ns))


def spoil(path, offset):
    """Changes one byte, and nothing that stat() tells but the ctime."""
    with open(path, "rb") as whole:
        whole.seek(offset)
        byte = whole.read(1)
    write_at(path, offset, bytes([byte[0] ^ 1]))


def info(drover, file, *options):
    return drover.manifest("info", *options, file).out.decode()


def root_digest(drover, file, *options):
    found = re.findall(r"^root digest: ([0-9a-f]+) \(", info(drover, file, *options), re.MULTILINE)
    assert len(found) == 1
    return found[0]


def export(drover, file, form, *options):
    return drover.manifest("export", f"--format={form}", *options, file)


def records(drover, file):
    """The entries as JSON lines tell them, by path."""
    return {one["path"]: one for one in map(json.loads, export(drover, file, "jsonl").lines) if "path" in one}


def same_entries(drover, one, other):
    """Two manifests say the same of every entry."""
    return sorted(export(drover, one, "jsonl").lines) == sorted(export(drover, other, "jsonl").lines)
