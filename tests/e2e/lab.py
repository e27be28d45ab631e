# SPDX-License-Identifier: Apache-2.0
"""File systems to test on: loop images, tmpfs and FUSE, all in a mount namespace of our own.

Images lie in memory where /dev/shm allows it, so that a sync costs nothing. Since the mounts are
private to the test process, they vanish with it however it ends.
"""
import ctypes
import itertools
import mmap
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from judge import FLAG_NODUMP, set_flags

MIB = 1 << 20

MKFS = {
    "ext4": ["mkfs.ext4", "-q", "-F", "-b", "4096", "-m", "0"],
    "xfs": ["mkfs.xfs", "-q", "-f"],
    "btrfs": ["mkfs.btrfs", "-q", "-f"],
    "vfat": ["mkfs.vfat"],
}
CLONE_NEWNS = 0x00020000
# Tests that repeat themselves do all that there is to do, and not only a choice of it.
THOROUGH = bool(os.environ.get("DROVER_THOROUGH"))


def require(*tools):
    """Skips the test when a tool is not installed."""
    for tool in tools:
        if shutil.which(tool, path=os.environ["PATH"] + ":/usr/sbin:/sbin") is None:
            pytest.skip(f"{tool} is not installed")


def run(*command, **options):
    """Runs a tool that has to succeed; returns its stdout as bytes."""
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
    assert result.returncode == 0, f"{command}: {result.stderr.decode(errors='replace')}"
    return result.stdout


def enter_private_mounts():
    """Mounts made from here on are seen by this process and its children alone."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    run("mount", "--make-rprivate", "/")


def spread(chance, things, few):
    """All of them when the run is thorough; else so few, one by chance out of each of as many equal parts."""
    few = len(things) if THOROUGH else min(few, len(things))
    return [things[chance.randrange(len(things) * part // few, len(things) * (part + 1) // few)] for part in range(few)]


class Volume:
    """A mounted file system and what it can hold."""

    def __init__(self, fs, path, image=None):
        self.fs = fs
        self.path = path
        self.image = image
        self._numbers = itertools.count()
        self._traits = None

    def fresh(self):
        """A new empty directory in it."""
        path = self.path / f"t{next(self._numbers)}"
        path.mkdir()
        return path

    @property
    def traits(self):
        """Which of user, trusted, security, acl and flags the file system keeps."""
        if self._traits is None:
            self._traits = frozenset(self._probe())
        return self._traits

    def _probe(self):
        probe = self.path / "probe"
        probe.write_bytes(b"")
        acl = bytes.fromhex("02000000 01000600ffffffff 04000400ffffffff 20000400ffffffff")
        attributes = {"user": ("user.t", b"1"), "trusted": ("trusted.t", b"1"), "security": ("security.t", b"1"),
                      "acl": ("system.posix_acl_access", acl)}
        for trait, (name, value) in attributes.items():
            try:
                os.setxattr(probe, name, value)
                yield trait
            except OSError:
                pass
        try:
            set_flags(probe, FLAG_NODUMP)
            yield "flags"
        except OSError:
            pass
        probe.unlink()


class Lab:
    """Makes and keeps the volumes of one test session."""

    def __init__(self):
        memory = Path("/dev/shm")
        free = shutil.disk_usage(memory).free if memory.is_dir() else 0
        self.base = Path(tempfile.mkdtemp(prefix="drover-e2e-", dir=memory if free > 4 << 30 else None))
        self.base.chmod(0o755)
        self._numbers = itertools.count()
        self._shared = {}
        self._mounted = []

    def close(self):
        for path in reversed(self._mounted):
            subprocess.run(["umount", "-l", path], stderr=subprocess.DEVNULL)
        shutil.rmtree(self.base, ignore_errors=True)

    def folder(self, stem):
        path = self.base / f"{stem}{next(self._numbers)}"
        path.mkdir()
        return path

    def mount(self, *arguments, at):
        result = subprocess.run(["mount", *arguments, at], capture_output=True, text=True)
        if result.returncode != 0:
            pytest.skip(f"mount {' '.join(map(str, arguments))}: {result.stderr.strip()}")
        self._mounted.append(at)

    def volume(self, fs):
        """The volume of this kind that tests share, each in its own directory."""
        if fs not in self._shared:
            self._shared[fs] = self.make(fs, 2048 * MIB)
        return self._shared[fs]

    def make(self, fs, size_bytes, *mkfs_options):
        """A volume for one test alone."""
        point = self.folder(fs)
        if fs == "tmpfs":
            self.mount("-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", at=point)
        else:
            require(MKFS[fs][0])
            image = point.with_suffix(".img")
            image.touch()
            os.truncate(image, size_bytes)
            run(*MKFS[fs], *mkfs_options, image)
            self._mount_image(fs, image, point)
            return Volume(fs, point, image)
        return Volume(fs, point)

    def _mount_image(self, fs, image, point):
        options = "loop" if fs == "vfat" else "loop,discard"
        self.mount("-t", fs, "-o", options, image, at=point)

    def remount(self, volume, meanwhile=lambda image: None):
        """Unmounts a volume and mounts it again: nothing of it is cached then. `meanwhile` gets its image."""
        self.unmount(volume.path)
        meanwhile(volume.image)
        self._mount_image(volume.fs, volume.image, volume.path)

    def flip_byte(self, volume, path, offset):
        """Changes one byte of a file inside the image, behind the file system's back. The content has to be noise,
        because it is found by what it is."""
        block = Path(path).read_bytes()[offset & -512:][:512]
        assert len(block) > 100, "too little to be found by"

        def spoil(image):
            with open(image, "r+b") as file, mmap.mmap(file.fileno(), 0) as disk:
                found = disk.find(block)
                assert found >= 0 and disk.find(block, found + 1) < 0, "not there exactly once"
                disk[found + offset % 512] ^= 1

        self.remount(volume, spoil)

    def unmount(self, point):
        run("umount", point)
        self._mounted.remove(point)


def wipe(path):
    """Removes a test's directory, whatever the test left in it."""
    subprocess.run(["chattr", "-R", "-f", "-i", "-a", path], stderr=subprocess.DEVNULL)
    subprocess.run(["rm", "-rf", "--one-file-system", path], stderr=subprocess.DEVNULL)
