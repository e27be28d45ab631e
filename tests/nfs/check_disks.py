# SPDX-License-Identifier: Apache-2.0
"""Disks that fail: bad sectors, writes that return errors, and power cuts.

A power cut is dm-flakey dropping every write from one moment on while it reports success; the file system is then
unmounted and mounted again from what had reached the disk. A rebooted machine has another boot id, which is how a run
knows that the page cache its predecessor trusted is gone: the guest shows another one in its place.
"""
import contextlib
import os
import pathlib
import uuid

import trees
from judge import differences, mixed
from lab import check, files_in, sh, wait_for

DISK = pathlib.Path('/mnt/disk')
BOOT_ID = '/proc/sys/kernel/random/boot_id'


class Mapped:
    """An ext4 file system on a device-mapper target over one of the guest's disks."""

    def __init__(self, name, device):
        self.name, self.device = name, device
        self.sectors = int(sh('blockdev', '--getsz', device).stdout)
        self.path = pathlib.Path('/dev/mapper') / name

    def create(self, target):
        sh('mkfs.ext4', '-q', '-F', self.device)
        sh('dmsetup', 'create', self.name, '--table', f'0 {self.sectors} {target}')
        sh('dmsetup', 'mknodes', self.name)

    def become(self, target):
        """Swaps the target under the mounted file system without flushing it first."""
        sh('dmsetup', 'suspend', '--nolockfs', '--noflush', self.name)
        sh('dmsetup', 'load', self.name, '--table', f'0 {self.sectors} {target}')
        sh('dmsetup', 'resume', self.name)

    def mount(self):
        DISK.mkdir(exist_ok=True)
        # A commit a second: renames reach the journal long before the data they stand for is allocated.
        sh('mount', '-o', 'commit=1,noinit_itable', self.path, DISK)

    def remove(self):
        sh('umount', DISK, check=False)
        sh('dmsetup', 'remove', self.name)


@contextlib.contextmanager
def mapped(name, device, target):
    disk = Mapped(name, device)
    disk.create(target)
    try:
        disk.mount()
        yield disk
    finally:
        disk.remove()


def sector_of(path):
    """The disk's sector (512 bytes) where a file's first byte lies."""
    sh('sync')
    for line in sh('filefrag', '-b512', '-v', path).stdout.splitlines():
        fields = line.replace(':', ' ').replace('..', ' ').split()
        if fields and fields[0] == '0':
            return int(fields[3])
    raise RuntimeError(f'{path} has no extent')


@check
def bad_sectors(lab):
    """A source file on a bad sector is named, keeps its name free at the destination, and the others are copied."""
    _, destination = lab.fresh('dust')
    with mapped('dust', '/dev/ubdd', 'dust /dev/ubdd 0 512') as disk:
        trees.plain(DISK, 4, 12, 30_000)
        bad = DISK / 'dir002/file0005'
        sector = sector_of(bad)
        sh('umount', DISK)
        sh('dmsetup', 'message', 'dust', '0', 'addbadblock', sector)
        sh('dmsetup', 'message', 'dust', '0', 'enable')
        disk.mount()
        done = lab.sync(DISK, destination)
        lab.tap.ok(done.returncode == 1 and done.stderr.count('dir002/file0005') == 1
                   and 'Input/output error' in done.stderr and len(done.stderr.splitlines()) <= 3,
                   'bad sector: exit 1 and one line that names the file', f'exit {done.returncode}\n{done.stderr}')
        lab.tap.ok(not (destination / 'dir002/file0005').exists(), 'bad sector: no half file at the destination')
        sh('dmsetup', 'message', 'dust', '0', 'disable')
        lines = differences(DISK, destination)
        expected = [line for line in lines if 'dir002/' not in line]
        lab.tap.equal(expected, 'bad sector: all the others are equal')
        lab.succeeds(lab.sync(DISK, destination), 'sector repaired: the same command exits 0')
        lab.tap.equal(differences(DISK, destination), 'sector repaired: the trees are equal')


@check
def write_errors(lab):
    """A destination disk that takes no more writes is never reported as a success."""
    source, _ = lab.fresh('werror')
    trees.plain(source, 4, 25, 40_000)
    device = '/dev/ubde'
    with mapped('flaky', device, f'linear {device} 0') as disk:
        disk.become(f'flakey {device} 0 0 1 1 error_writes')
        done = lab.sync(source, DISK / 'tree')
        lab.tap.ok(done.returncode in (1, 5) and done.stderr,
                   'write errors: not a success, and said so', f'exit {done.returncode}\n{done.stderr}')
        disk.become(f'linear {device} 0')


@contextlib.contextmanager
def another_boot():
    """The boot id a machine has after it was switched off and on."""
    fake = pathlib.Path('/run/boot_id')
    fake.write_text(f'{uuid.uuid4()}\n')
    sh('mount', '--bind', fake, BOOT_ID)
    try:
        yield
    finally:
        sh('umount', BOOT_ID)


def power_cut(disk):
    """From here on nothing reaches the disk, though every write succeeds."""
    disk.become(f'flakey {disk.device} 0 0 1 1 drop_writes')


def power_on(disk):
    """Mounts what had reached the disk."""
    for _ in range(50):
        if sh('umount', DISK, check=False).returncode == 0:
            break
        sh('sleep', '0.1')
    disk.become(f'linear {disk.device} 0')
    disk.mount()


def interrupted(lab, disk, source, after, *options):
    """Cuts the power when so many files have appeared; true if drover was still at work then."""
    target = DISK / 'tree'
    process = lab.start(source, target, *options)
    caught = wait_for(lambda: files_in(target) >= after, process)
    power_cut(disk)
    process.kill()
    lab.finish(process)
    power_on(disk)
    return caught


@check
def power_failures(lab):
    """A sync cut off by a power failure is completed by the same command, and success means on disk."""
    source, _ = lab.fresh('power')
    trees.plain(source, 20, 60, 20_000)
    trees.write(source / 'large', os.urandom(24 * trees.MIB))
    trees.settle(source)
    device = '/dev/ubde'
    target = DISK / 'tree'
    for after in (100, 500, 1000):
        with mapped('power', device, f'linear {device} 0') as disk:
            caught = interrupted(lab, disk, source, after, '--bwlimit=8M')
            lab.tap.ok(caught, f'power cut after {after} files: came while the sync ran')
            with another_boot():
                lab.succeeds(lab.sync(source, target), f'power cut after {after} files: the same command exits 0')
            lab.tap.equal(differences(source, target), f'power cut after {after} files: then the trees are equal')
    with mapped('power', device, f'linear {device} 0') as disk:
        done = lab.sync(source, target)
        power_cut(disk)
        lab.succeeds(done, 'power cut after success: exit 0')
        power_on(disk)
        lab.tap.equal(differences(source, target), 'power cut after success: everything was on disk')
    with mapped('power', device, f'linear {device} 0') as disk:
        interrupted(lab, disk, source, 300, '--fsync=each', '--bwlimit=20M')
        lab.tap.equal(mixed(source, target), 'power cut under --fsync=each: every name has its whole content')
        lab.tap.ok(files_in(target) >= 150, 'power cut under --fsync=each: what had appeared is mostly there',
                   f'{files_in(target)} files')
