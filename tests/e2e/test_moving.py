# SPDX-License-Identifier: Apache-2.0
"""A source in use: files grow, shrink, vanish and change while they are read."""
import multiprocessing
import os
import random
import signal
import time

from judge import Snapshot, assert_equal, litter
from lab import MIB
from trees import age, many_files, noise, plant

# A directory that changes while it is listed keeps what may have to be deleted: that is 1.
MOVING = (0, 1, 3)


class Mutator:
    """A process that calls act(chance) again and again until the block ends. It has done so once when the block begins.
    prompt: others who want the processors do not keep it waiting; it has to leave them most of the time."""

    def __init__(self, act, prompt=False):
        self._act, self._prompt = act, prompt

    def _live(self, begun):
        chance = random.Random(3)
        if self._prompt:
            os.nice(-20)
        while True:
            try:
                self._act(chance)
            except OSError:
                pass  # it met what it had removed itself
            begun.set()

    def __enter__(self):
        context = multiprocessing.get_context("fork")
        begun = context.Event()
        self._process = context.Process(target=self._live, args=(begun,), daemon=True)
        self._process.start()
        assert begun.wait(30)

    def __exit__(self, *_):
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.join()


def test_a_file_in_constant_motion_is_reported_and_the_old_version_stays(drover, src, dst):
    plant(src, {"busy": noise(8 * MIB), "quiet": "x", "dir/quiet": "y"})
    drover.sync(src, dst)
    old = Snapshot(dst).records[b"busy"]
    (src / "quiet").write_text("changed")

    def write(chance):
        """In every page: nothing of one try is of use to the next."""
        with open(src / "busy", "r+b", buffering=0) as file:
            for page in range(0, 8 * MIB, 4096):
                os.pwrite(file.fileno(), chance.randbytes(8), page)
        time.sleep(0.01)

    # At 8 MiB/s the file is open for half a second at least, also where a session sends the first half at once.
    with Mutator(write, prompt=True):
        result = drover.sync("--bwlimit=8M", "--whole-file", src, dst, code=3)
    assert "busy" in result.err and "quiet" not in result.err
    assert not old.differs_from(Snapshot(dst).records[b"busy"])
    left = [os.path.basename(path) for path in litter(dst)]
    assert left == [] or (drover.over and len(left) == 1 and left[0].startswith(b".drover.part.")), left
    assert_equal(src, dst, but=["busy", *left])
    drover.sync(src, dst)
    assert litter(dst) == []
    assert_equal(src, dst)


def test_a_file_that_changes_once_is_tried_again(drover, src, dst):
    plant(src, {"log": noise(2 * MIB)})
    with drover.start("--bwlimit=2M", src, dst) as running:
        running.until(lambda: dst.exists() and litter(dst), "the copy has begun")
        with open(src / "log", "ab") as file:
            file.write(b"one more line")
        running.end()
    assert_equal(src, dst)


def test_a_file_that_grows_is_old_new_or_reported_never_torn(drover, src, dst):
    """A log under appends: what arrives is a prefix that was the whole file at some moment."""
    line = b"0123456789abcde\n"
    plant(src, {"log": line * 1000, "quiet": "x"})

    def append(_):
        with open(src / "log", "ab") as file:
            file.write(line * 8)
        time.sleep(0.0005)

    with Mutator(append):
        for _ in range(8):
            drover.sync(src, dst, code=MOVING)
            if (dst / "log").exists():
                content = (dst / "log").read_bytes()
                assert len(content) % (8 * len(line)) == 0 and content == line * (len(content) // len(line))
    assert litter(dst) == []
    drover.sync(src, dst)
    assert_equal(src, dst)


def test_files_that_come_and_go_are_no_failure(drover, src, dst):
    many_files(src, 600)

    def churn(chance):
        folder = src / f"d{chance.randrange(12)}"
        number = chance.randrange(1200)
        path = folder / f"f{number}"
        match chance.randrange(5):
            case 0: path.unlink()
            case 1: path.write_bytes(noise(chance.randrange(3000)))
            case 2: path.rename(folder / f"moved {number}")
            case 3: path.mkdir()
            case 4: path.rmdir()

    with Mutator(churn):
        for _ in range(8):
            drover.sync("--delete", src, dst, code=MOVING)
    drover.sync("--delete", src, dst)
    assert litter(dst) == []
    assert_equal(src, dst)


def test_whole_directories_that_vanish_are_no_failure(drover, src, dst):
    plant(src, {"quiet": "x"})

    def churn(chance):
        folder = src / f"d{chance.randrange(5)}"
        if folder.exists():
            folder.rename(src / f"going {chance.randrange(10**9)}")
            for gone in src.glob("going*"):
                for path in gone.iterdir():
                    path.unlink()
                gone.rmdir()
        else:
            folder.mkdir()
            for number in range(20):
                (folder / f"f{number}").write_text("x")

    with Mutator(churn):
        for _ in range(15):
            drover.sync("--delete", src, dst, code=MOVING)
    drover.sync("--delete", src, dst)
    assert_equal(src, dst)


def test_a_file_that_shrinks_while_it_is_read(drover, src, dst):
    plant(src, {"file": noise(4 * MIB)})
    with drover.start("--bwlimit=4M", src, dst) as running:
        running.until(lambda: dst.exists() and litter(dst), "the copy has begun")
        os.truncate(src / "file", 1000)
        running.end()
    assert_equal(src, dst)


def test_a_file_that_is_replaced_while_it_is_read(drover, src, dst):
    """The reader holds the old inode; what counts is the name."""
    plant(src, {"file": noise(4 * MIB), "aside": "replacement"})
    with drover.start("--bwlimit=4M", src, dst) as running:
        running.until(lambda: dst.exists() and litter(dst), "the copy has begun")
        os.rename(src / "aside", src / "file")
        running.end(code=MOVING)
    drover.sync("--delete", src, dst)
    assert_equal(src, dst)


def test_metadata_that_changes_while_the_content_is_read(drover, src, dst):
    plant(src, {"file": noise(4 * MIB)})
    with drover.start("--bwlimit=4M", src, dst) as running:
        running.until(lambda: dst.exists() and litter(dst), "the copy has begun")
        os.chown(src / "file", 1000, 1000)
        (src / "file").chmod(0o600)
        age(src / "file", mtime_ns=1_600_000_000_000_000_000)
        running.end(code=MOVING)
    drover.sync(src, dst)
    assert_equal(src, dst)
