# SPDX-License-Identifier: Apache-2.0
"""Whether two trees are equal, by rsync's checksums and a look at what rsync does not compare; never by drover."""
import os
import pathlib
import stat

from lab import sh

# -c reads both sides; --modify-window=-1 compares nanoseconds, which rsync otherwise leaves out.
EVERYTHING = ('-naHAXc', '--delete', '--numeric-ids', '--modify-window=-1')
# What someone who is not root can keep: no owners and groups, and no devices.
WITHOUT_OWNERS = ('-nrlptHXc', '--delete', '--modify-window=-1')


def scan(root):
    """Per relative path what lstat says."""
    found = {}
    for folder, names, files in os.walk(os.fsencode(root)):
        for name in names + files:
            path = os.path.join(folder, name)
            found[os.path.relpath(path, os.fsencode(root))] = os.lstat(path)
    return found


def link_groups(entries):
    """The sets of names that are one file."""
    groups = {}
    for name, info in entries.items():
        if info.st_nlink > 1 and not stat.S_ISDIR(info.st_mode):
            groups.setdefault((info.st_dev, info.st_ino), set()).add(name)
    return {frozenset(names) for names in groups.values()}


def is_temporary(path):
    """Whether a path is, or lies in, what a program makes while it works: drover's names, the NFS client's."""
    return any(part.startswith((b'.drover.', b'.nfs')) for part in path.split(b'/'))


def litter(root):
    """Temporary names left behind, drover's and the NFS client's."""
    return sorted(os.fsdecode(name) for name in scan(root) if is_temporary(name))


def differences(source, destination, options=EVERYTHING, sparse=False):
    """Lines that say what is not equal; none when all is."""
    if not os.path.isdir(destination):
        return [f'{destination} is not there']
    done = sh('rsync', *options, '-i', f'{source}/', f'{destination}/', check=False, timeout=120)
    lines = done.stdout.splitlines() + done.stderr.splitlines()
    left, right = scan(source), scan(destination)
    lines += [f'linked on one side only: {sorted(names)}' for names in link_groups(left) ^ link_groups(right)]
    if sparse:
        lines += [f'{os.fsdecode(name)}: {info.st_blocks} blocks became {right[name].st_blocks}'
                  for name, info in left.items()
                  if name in right and right[name].st_blocks > info.st_blocks + info.st_blocks // 8 + 64]
    return lines + [f'litter: {name}' for name in litter(destination)]


def mixed(source, destination):
    """Names at the destination whose content is not the source's: what an interrupted run may never show."""
    wrong = []
    for name, info in scan(destination).items():
        if not stat.S_ISREG(info.st_mode) or is_temporary(name):
            continue
        path = os.fsdecode(name)
        there = pathlib.Path(source, path)
        if not there.is_file() or there.read_bytes() != pathlib.Path(destination, path).read_bytes():
            wrong.append(f'{path}: neither absent nor complete ({info.st_size} bytes)')
    return wrong
