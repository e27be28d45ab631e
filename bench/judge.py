# SPDX-License-Identifier: Apache-2.0
"""What a copy lost, found out by rsync's dry run and by looking at links and holes; never by drover."""
import collections
import os
import stat
import subprocess

# The letters of rsync's itemised codes after the first two, in their order.
FLAGS = (('c', 'contents'), ('s', 'contents'), ('t', 'times'), ('p', 'modes'), ('o', 'owners'), ('g', 'groups'),
         ('', ''), ('a', 'ACLs'), ('x', 'xattrs'))


def kinds(code):
    """What one itemised code (11 characters) says is different."""
    if '+' in code:
        return {'hard links'} if code[0] == 'h' else {'missing'}
    found = {'hard links'} if code[0] == 'h' else set()
    for flag, (letter, word) in zip(code[2:], FLAGS):
        if letter and flag.lower() == letter:
            found.add('directory times' if word == 'times' and code[1] == 'd' else word)
    if code[:2] == 'cL' and not found:
        found.add('symlink targets')
    return found


def rsync_differences(source, destination, contents):
    compare = ['-c'] if contents else []
    done = subprocess.run(['rsync', '-naHAX', *compare, '--delete', '--modify-window=-1', '-i', f'{source}/',
                           f'{destination}/'], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          errors='surrogateescape', check=False)
    lost = collections.Counter()
    for line in done.stdout.splitlines():
        if line.startswith('*deleting'):
            lost['too much'] += 1
        elif line[12:] == './':
            lost['the root\'s own metadata'] += 1
        else:
            lost.update(kinds(line[:11]))
    if done.returncode:
        lost['rsync exit %d' % done.returncode] += 1
    return lost


def entries(root):
    """Per relative path of what is no directory what lstat says."""
    found = {}
    for folder, _, names in os.walk(root):
        for name in names:
            path = os.path.join(folder, name)
            info = os.lstat(path)
            found[os.path.relpath(path, root)] = info
    return found


def link_groups(found):
    groups = collections.defaultdict(set)
    for name, info in found.items():
        if info.st_nlink > 1:
            groups[info.st_ino].add(name)
    return {frozenset(names) for names in groups.values()}


def losses(source, destination, contents):
    """What was lost and how often, such as {'hard links': 12}; nothing for an equal copy."""
    lost = rsync_differences(source, destination, contents)
    before, after = entries(source), entries(destination)
    unlinked = len(link_groups(before) - link_groups(after))
    if unlinked:
        lost['hard links'] = unlinked
    filled = sum(1 for name, info in before.items()
                 if stat.S_ISREG(info.st_mode) and info.st_blocks * 512 < info.st_size - 65536 and name in after
                 and after[name].st_blocks > info.st_blocks * 1.25 + 256)
    if filled:
        lost['holes'] = filled
    return dict(lost)


def wrong_digests(tool, source, destination):
    """Whether those that a tool has listed are right, where its list can be checked by another tool."""
    if not tool.check:
        return {}
    done = subprocess.run(['bash', '-o', 'pipefail', '-c', tool.check(source, destination)], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, errors='replace', check=False)
    wrong = sum(1 for line in done.stdout.splitlines() if line.endswith('FAILED'))
    return {'digests': max(wrong, 1)} if done.returncode else {}
