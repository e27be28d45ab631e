# SPDX-License-Identifier: Apache-2.0
"""drover from one NFS mount to another: what it keeps, what it says it cannot, and what interrupts it."""
import json
import os
import pathlib
import signal
import subprocess
import time

import trees
from judge import WITHOUT_OWNERS, differences, litter, mixed
from lab import EXPORTS, OPEN_TO_ROOT, Calls, check, files_in, sh, wait_for

VERSIONS = ('4.2', '3')
# Root becomes nobody on the server, or everybody becomes user 1000.
ROOT_SQUASH = OPEN_TO_ROOT.replace('no_root_squash', 'root_squash')
ALL_SQUASH = OPEN_TO_ROOT.replace('no_root_squash', 'all_squash,anonuid=1000,anongid=1000')
NOBODY = (65534, 65534)


def nfs4_acl(path):
    return sh('nfs4_getfacl', path).stdout.split('\n', 1)[-1]


@check
def fidelity(lab):
    """Everything a mount can hold arrives, with either backend, and a second run finds nothing to do."""
    for version in VERSIONS:
        for io in ('uring', 'threads'):
            name = f'NFS {version} --io={io}'
            source, destination = lab.fresh(f'nasty-{version}-{io}')
            trees.nasty(source, version)
            with lab.mounted(version) as client:
                lab.succeeds(lab.sync(client(source), client(destination), f'--io={io}'), f'{name}: exit 0')
                lab.tap.equal(differences(source, destination, sparse=version != '3'), f'{name}: trees are equal')
            with lab.mounted(version) as client:
                again = lab.sync(client(source), client(destination), f'--io={io}', '-i')
                lab.tap.ok(again.returncode == 0 and not again.stdout and not again.stderr,
                           f'{name}: a second run changes nothing', again.stdout + again.stderr)
                lab.tap.equal(differences(source, destination), f'{name}: trees are still equal')


@check
def nfs4_acls(lab):
    """ACLs made with nfs4_setfacl survive from 4.2 to 4.2, and are a declared loss where there are none."""
    source, destination = lab.fresh('nfs4-acl')
    trees.plain(source, 2, 3, 100, owner=(1000, 1000))
    with lab.mounted('4.2') as client:
        sh('nfs4_setfacl', '-a', 'A::1005:rwatTnNcCy', client(source / 'dir000/file0000'))
        sh('nfs4_setfacl', '-a', 'A:g:1006:rxtncy', client(source / 'dir000/file0001'))
        sh('nfs4_setfacl', '-a', 'A:fd:1007:rwaDdxtTnNcCoy', client(source / 'dir001'))
    trees.settle(source)
    with lab.mounted('4.2') as client:
        lab.succeeds(lab.sync(client(source), client(destination)), 'NFSv4 ACLs: exit 0')
    with lab.mounted('4.2') as client:
        for path in ('dir000/file0000', 'dir000/file0001', 'dir001', 'dir001/file0000'):
            one, other = nfs4_acl(client(source / path)), nfs4_acl(client(destination / path))
            lab.tap.ok(one == other, f'NFSv4 ACLs: {path} has the same', f'{one}became\n{other}')
        lab.tap.equal(differences(source, destination), 'NFSv4 ACLs: trees are equal')
        again = lab.sync(client(source), client(destination), '-i')
        lab.tap.ok(again.returncode == 0 and not again.stdout, 'NFSv4 ACLs: a second run changes nothing',
                   again.stdout + again.stderr)
        with_acls = lab.sync(client(source), '/run/local-acl')
        lab.tap.ok(with_acls.returncode == 4 and 'acl' in with_acls.stderr.lower(),
                   'NFSv4 ACLs to tmpfs: a declared loss, exit 4', f'exit {with_acls.returncode}\n{with_acls.stderr}')
    trees.plain(lab.fresh('nfs4-trivial')[0], 2, 3, 100)
    with lab.mounted('4.2') as client:
        lab.succeeds(lab.sync(client(EXPORTS / 'a/nfs4-trivial'), '/run/local-trivial'),
                     'NFSv4 ACLs that only repeat the mode are no loss: exit 0')


@check
def posix_acls_to_nfs4(lab):
    """POSIX ACLs cannot be set through an NFSv4 mount: a declared loss, everything else equal."""
    local = pathlib.Path('/run/posix')
    local.mkdir()
    trees.posix_acls(local)
    _, destination = lab.fresh('posix')
    with lab.mounted('4.2') as client:
        done = lab.sync(local, client(destination))
        lab.tap.ok(done.returncode == 4 and 'acl' in done.stderr.lower() and len(done.stderr.splitlines()) <= 3,
                   'POSIX ACLs to NFS 4.2: exit 4 and said once', f'exit {done.returncode}\n{done.stderr}')
        lab.succeeds(lab.sync(local, client(destination), '--no-acl'), 'POSIX ACLs to NFS 4.2 with --no-acl: exit 0')


@check
def no_change(lab):
    """A pass over an unchanged tree reads no file and changes nothing at the server."""
    folders, files = 8, 50
    for version in VERSIONS:
        source, destination = lab.fresh(f'same-{version}')
        trees.plain(source, folders, files, 700)
        with lab.mounted(version) as client:
            before = Calls()
            first = lab.sync(client(source), client(destination))
            copy = Calls().since(before)
        lab.succeeds(first, f'NFS {version}: copy of {folders * files} files: exit 0')
        with lab.mounted(version) as client:
            before = Calls()
            lab.succeeds(lab.sync(client(source), client(destination)), f'NFS {version}: second run: exit 0')
            calls = Calls().since(before)
        # The marker of a run may cost some; files may not.
        lab.tap.ok(calls.changing() <= 10, f'NFS {version}: a second run changes nothing at the server', str(calls))
        lab.tap.ok(calls.of('read', 'open', 'write') <= 30, f'NFS {version}: a second run opens no file', str(calls))
        lab.tap.line(f'# NFS {version} copy:      {copy.per_file(folders * files)}')
        lab.tap.line(f'# NFS {version} no change: {calls.per_file(folders * files)}; {calls.changing()} changing')
        lab.tap.equal(differences(source, destination), f'NFS {version}: trees are equal')


@check
def changed_pass(lab):
    """The final pass brings over edits, removals, renames and attribute changes, and only those."""
    source, destination = lab.fresh('changed')
    trees.plain(source, 6, 30, 2000)
    with lab.mounted('4.2') as client:
        lab.succeeds(lab.sync(client(source), client(destination)), 'changes: first copy: exit 0')
    trees.write(source / 'dir000/file0000', b'edited, and shorter')
    trees.write(source / 'dir000/new', b'new')
    (source / 'dir001/file0001').unlink()
    (source / 'dir002/file0002').rename(source / 'dir003/moved')
    (source / 'dir003/file0003').chmod(0o600)
    os.chown(source / 'dir003/file0004', 1000, 1000)
    os.setxattr(source / 'dir003/file0005', 'user.late', b'1')
    sh('rm', '-r', source / 'dir004')
    (source / 'dir005/file0005').unlink()
    (source / 'dir005/file0005').mkdir()
    with lab.mounted('4.2') as client:
        before = Calls()
        lab.succeeds(lab.sync(client(source), client(destination), '--delete'), 'changes: final pass: exit 0')
        lab.tap.line(f'# changed pass over 180 files: {Calls().since(before)}')
    lab.tap.equal(differences(source, destination), 'changes: trees are equal')


@check
def squashed(lab):
    """A server that maps root away: owners are a loss, told once, exit 4; --best-effort makes that 0."""
    for version, options, owner, name in (('4.2', ROOT_SQUASH, NOBODY, 'root_squash'),
                                          ('3', ALL_SQUASH, (1000, 1000), 'all_squash')):
        source, destination = lab.fresh(name)
        trees.plain(source, 3, 15, 900, owner=(1003, 1003))
        (source / 'dir000/file0001').chmod(0o444)
        (source / 'dir001').chmod(0o555)
        os.symlink('file0001', source / 'dir000/link')
        trees.settle(source)
        for best_effort in (False, True):
            sh('rm', '-rf', destination)
            destination.mkdir()
            os.chown(destination, *owner)
            lab.server.export('b', options)
            try:
                with lab.mounted(version) as client:
                    done = lab.sync(client(source), client(destination), *(['--best-effort'] if best_effort else []))
            finally:
                lab.server.export('b')
            what = f'{name} on NFS {version}' + (' --best-effort' if best_effort else '')
            code = 0 if best_effort else 4
            lab.tap.ok(done.returncode == code, f'{what}: exit {code}', f'exit {done.returncode}\n{done.stderr}')
            told = [line for line in done.stderr.splitlines() if 'owner' in line]
            # What was asked for is not worth a word under -q.
            lab.tap.ok(len(told) == (0 if best_effort else 1) and len(done.stderr.splitlines()) <= 3,
                       f'{what}: {"no word under -q" if best_effort else "told once, with the owner loss"}',
                       done.stderr)
            lab.tap.equal(differences(source, destination, WITHOUT_OWNERS), f'{what}: all but the owners is equal')


@check
def squashed_devices(lab):
    """Devices that a squashed root may not make are a loss, not a failure; the rest is copied."""
    source, destination = lab.fresh('devices')
    trees.plain(source, 1, 5, 100, owner=NOBODY)
    os.mknod(source / 'null', 0o020666, os.makedev(1, 3))
    os.mknod(source / 'zero', 0o020666, os.makedev(1, 5))
    for path in (source, source / 'dir000', source / 'null', source / 'zero'):
        os.chown(path, *NOBODY)
    destination.mkdir()
    os.chown(destination, *NOBODY)
    lab.server.export('b', ROOT_SQUASH)
    try:
        with lab.mounted('4.2') as client:
            done = lab.sync(client(source), client(destination))
    finally:
        lab.server.export('b')
    lab.tap.ok(done.returncode == 4 and len(done.stderr.splitlines()) <= 3,
               'root_squash: devices are a declared loss, exit 4', f'exit {done.returncode}\n{done.stderr}')
    lab.tap.equal(differences(source / 'dir000', destination / 'dir000'),
                  'root_squash: files beside the devices are equal')


@check
def squashed_source(lab):
    """A source whose server hides files from root: each is named, the others are copied, exit 1."""
    source, destination = lab.fresh('unreadable')
    trees.plain(source, 2, 10, 500, owner=(1003, 1003))
    (source / 'dir001/file0003').chmod(0o600)
    trees.settle(source)
    lab.server.export('a', ROOT_SQUASH)
    try:
        with lab.mounted('4.2') as client:
            done = lab.sync(client(source), client(destination))
    finally:
        lab.server.export('a')
    lab.tap.ok(done.returncode == 1 and done.stderr.count('dir001/file0003') == 1
               and 'Permission denied' in done.stderr, 'unreadable file: named once, exit 1',
               f'exit {done.returncode}\n{done.stderr}')
    expected = ['dir001/file0003', 'dir001/']
    lines = [line for line in differences(source, destination) if line.split(' ')[-1] not in expected]
    lab.tap.equal(lines, 'unreadable file: the others are equal')


@check
def server_restart(lab):
    """The server goes away in mid-copy and comes back: the copy waits, completes and is equal."""
    for version in VERSIONS:
        source, destination = lab.fresh(f'restart-{version}')
        trees.plain(source, 10, 40, 16_000)
        trees.write(source / 'large', os.urandom(32 * trees.MIB))
        trees.settle(source)
        with lab.mounted(version) as client:
            process = lab.start(client(source), client(destination), '--bwlimit=16M')
            caught = wait_for(lambda: files_in(destination) >= 80, process)
            lab.server.stop()
            time.sleep(1)
            lab.server.start()
            done = lab.finish(process)
            lab.tap.ok(caught, f'restart, NFS {version}: came while the copy ran')
            lab.succeeds(done, f'restart, NFS {version}: exit 0')
        lab.tap.equal(differences(source, destination), f'restart, NFS {version}: trees are equal')


@check
def killed(lab):
    """kill -9 shows no half file, the same command completes the tree, and no litter stays."""
    for version in VERSIONS:
        source, destination = lab.fresh(f'killed-{version}')
        trees.plain(source, 10, 40, 16_000)
        trees.write(source / 'large', os.urandom(16 * trees.MIB))
        trees.settle(source)
        with lab.mounted(version) as client:
            for after in (30, 250):
                process = lab.start(client(source), client(destination), '--bwlimit=16M')
                caught = wait_for(lambda: files_in(destination) >= after, process)
                process.send_signal(signal.SIGKILL)
                lab.finish(process)
                name = f'killed after {after} files, NFS {version}'
                lab.tap.ok(caught, f'{name}: came while the copy ran')
                lab.tap.equal(mixed(source, destination), f'{name}: every name has its whole content')
            lab.succeeds(lab.sync(client(source), client(destination)), f'killed, NFS {version}: again: exit 0')
        lab.tap.equal(differences(source, destination), f'killed, NFS {version}: trees are equal')
        lab.tap.equal(litter(destination), f'killed, NFS {version}: no litter')


@check
def server_side_copy(lab):
    """Within one 4.2 server the copy may stay on the server; equal in any case."""
    source, elsewhere = lab.fresh('server-side')
    trees.plain(source, 2, 5, 5000)
    trees.sparse(source)
    trees.settle(source)
    beside = EXPORTS / 'a/server-side-copy'
    sh('rm', '-rf', beside)
    for destination, where in ((beside, 'one mount'), (elsewhere, 'two mounts of one server')):
        with lab.mounted('4.2') as client:
            before = Calls()
            lab.succeeds(lab.sync(client(source), client(destination)), f'4.2, {where}: exit 0')
            calls = Calls().since(before)
        lab.tap.line(f'# 4.2, {where}: copy {calls.of("copy")}, clone {calls.of("clone")}, '
                     f'read {calls.of("read", "read_plus")}, write {calls.of("write")} calls for 11 MiB')
        lab.tap.equal(differences(source, destination, sparse=True), f'4.2, {where}: trees are equal')


@check
def benched(lab):
    """drover bench measures both mounts and leaves nothing, nor what one left that was killed."""
    for version in VERSIONS:
        source, destination = lab.fresh(f'benched-{version}')
        destination.mkdir()
        trees.plain(source, 5, 40, 5000)
        trees.write(source / 'large', os.urandom(4 * trees.MIB))
        trees.settle(source)
        with lab.mounted(version) as client:
            command = [str(lab.drover), 'bench', '--json', '-j', '16', client(source), client(destination)]
            process = subprocess.Popen([*command, '--time=60'], stdout=subprocess.DEVNULL)
            caught = wait_for(lambda: list(destination.glob('.drover.*/w0/*')), process)
            process.send_signal(signal.SIGKILL)
            process.wait()
            told = json.loads(sh(*command, '--time=20', timeout=120).stdout)
            lab.tap.ok(caught and told['tree']['files'] == 201, f'bench, NFS {version}: all files are seen')
            measured = [one['kind'] for one in told['measurements'] if one['measured']]
            lab.tap.ok({'metadata', 'large_reads', 'small_copies'} <= set(measured),
                       f'bench, NFS {version}: what matters most is measured', ' '.join(measured))
            for one in told['measurements']:
                rates = ', '.join(f'{point["jobs"]}: {point["per_s"]:.0f}' for point in one.get('points', ())) or one
                lab.tap.line(f'# bench, NFS {version}, {one["kind"]}: {rates}')
        lab.tap.equal(os.listdir(destination), f'bench, NFS {version}: nothing is left')
