# SPDX-License-Identifier: Apache-2.0
"""The guest's machinery: the NFS server and its counters, client mounts, drover runs and the TAP lines.

Two ext4 disks are exported as `a` and `b`. A tree is built and judged on the server's side (EXPORTS/a/NAME), where
nothing is cached and every attribute shows, and drover sees it only through client mounts (MOUNTS/a/NAME), which
are made anew for each check so that no check profits from another's caches.
"""
import contextlib
import os
import pathlib
import shutil
import subprocess
import time
import traceback

EXPORTS = pathlib.Path('/mnt/export')
MOUNTS = pathlib.Path('/mnt')
FSID = {'a': 1, 'b': 2}
OPEN_TO_ROOT = 'rw,no_root_squash,insecure,no_subtree_check'
RUN_TIMEOUT_S = 90
NOTE_LINES = 12

# /proc/net/rpc/nfsd counts by number; these are the numbers of RFC 1813 (v3) and RFC 7530, 8881, 7862, 8276 (v4).
NFS3 = dict(enumerate('null getattr setattr lookup access readlink read write create mkdir symlink mknod remove rmdir '
                      'rename link readdir readdirplus fsstat fsinfo pathconf commit'.split()))
NFS4 = {3: 'access', 4: 'close', 5: 'commit', 6: 'create', 8: 'delegreturn', 9: 'getattr', 11: 'link', 15: 'lookup',
        18: 'open', 21: 'open_downgrade', 25: 'read', 26: 'readdir', 27: 'readlink', 28: 'remove', 29: 'rename',
        34: 'setattr', 38: 'write', 45: 'free_stateid', 55: 'test_stateid', 59: 'allocate', 60: 'copy',
        62: 'deallocate', 68: 'read_plus', 69: 'seek', 71: 'clone', 72: 'getxattr', 73: 'setxattr', 74: 'listxattrs',
        75: 'removexattr'}
CHANGING = {'setattr', 'write', 'create', 'mkdir', 'symlink', 'mknod', 'remove', 'rmdir', 'rename', 'link', 'allocate',
            'copy', 'deallocate', 'clone', 'setxattr', 'removexattr'}


def sh(*argv, timeout=60, check=True, **options):
    done = subprocess.run([str(word) for word in argv], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, errors='surrogateescape', timeout=timeout, check=False,
                          **options)
    if check and done.returncode:
        raise RuntimeError(f'{argv}: exit {done.returncode}: {done.stderr.strip() or done.stdout.strip()}')
    return done


class Tap:
    """Numbers and writes the lines; each is on the host's disk before the next check starts."""

    def __init__(self, stream):
        self.stream, self.count, self.failed = stream, 0, 0

    def line(self, text):
        shown = text.encode('utf-8', 'surrogateescape').decode('utf-8', 'backslashreplace')
        self.stream.write(shown + '\n')
        self.stream.flush()

    def note(self, text):
        lines = str(text).splitlines()
        for line in lines[:NOTE_LINES]:
            self.line('#   ' + line)
        if len(lines) > NOTE_LINES:
            self.line(f'#   ... and {len(lines) - NOTE_LINES} lines more')

    def ok(self, good, name, detail=''):
        self.count += 1
        self.failed += not good
        self.line(('ok' if good else 'not ok') + f' - {name}')
        if not good:
            self.note(detail)
        return good

    def equal(self, differences, name):
        return self.ok(not differences, name, '\n'.join(differences))


class Calls:
    """What reached the server between two readings of its counters."""

    def __init__(self):
        self.rpcs, self.operations = 0, {}
        for line in pathlib.Path('/proc/net/rpc/nfsd').read_text().splitlines():
            kind, *numbers = line.split()
            if kind == 'rpc':
                self.rpcs = int(numbers[0])
            elif kind in ('proc3', 'proc4ops'):
                names = NFS3 if kind == 'proc3' else NFS4
                for number, count in enumerate(numbers[1:]):
                    name = names.get(number)
                    if name:
                        self.operations[name] = self.operations.get(name, 0) + int(count)

    def since(self, earlier):
        self.rpcs -= earlier.rpcs
        self.operations = {name: count - earlier.operations.get(name, 0) for name, count in self.operations.items()}
        return self

    def of(self, *names):
        return sum(self.operations.get(name, 0) for name in names)

    def changing(self):
        return self.of(*CHANGING)

    def __str__(self):
        shown = sorted(((count, name) for name, count in self.operations.items() if count), reverse=True)
        return f'{self.rpcs} calls: ' + ', '.join(f'{name} {count}' for count, name in shown)

    def per_file(self, files):
        shown = sorted(((count, name) for name, count in self.operations.items() if count * 20 >= files), reverse=True)
        return f'{self.rpcs / files:.2f} calls a file: ' + ', '.join(f'{name} {count / files:.2f}'
                                                                    for count, name in shown)


class Server:
    """The kernel's NFS server, its helpers and its exports."""

    def boot(self):
        state = pathlib.Path('/var/lib/nfs')
        for folder in ('sm', 'v4recovery', 'rpc_pipefs'):
            (state / folder).mkdir()
        for file in ('etab', 'rmtab'):
            (state / file).touch()
        sh('mount', '-t', 'nfsd', 'nfsd', '/proc/fs/nfsd')
        sh('mount', '-t', 'rpc_pipefs', 'rpc_pipefs', state / 'rpc_pipefs')
        subprocess.run(['rpcbind', '-w'], check=True)
        sh('exportfs', '-o', OPEN_TO_ROOT + ',fsid=0,crossmnt', '*:' + str(EXPORTS))
        for export in FSID:
            self.export(export)
        subprocess.run(['rpc.mountd'], check=True)
        self.start()
        # Nobody had files or locks before: no reason to make the first opens and locks wait for them.
        for service in ('nfsd/v4_end_grace', 'lockd/nlm_end_grace'):
            pathlib.Path('/proc/fs', service).write_text('Y')

    def export(self, name, options=OPEN_TO_ROOT):
        """Exports a or b, or changes the options under which it is exported."""
        sh('exportfs', '-o', f'{options},fsid={FSID[name]}', f'*:{EXPORTS / name}')

    def start(self):
        # The shortest lease and grace periods it takes: clients reclaim their files soon after a restart.
        sh('rpc.nfsd', '-G', '10', '-L', '10', '64')

    def stop(self):
        sh('rpc.nfsd', '0')


class Lab:
    """Everything a check gets: the server, the drover to test, the TAP stream."""

    def __init__(self, drover, tap):
        self.drover, self.tap, self.server = drover, tap, Server()

    def boot(self):
        sh('ip', 'link', 'set', 'lo', 'up')
        for module in ('nfsd', 'nfs', 'nfsv3', 'nfsv4', 'sch_netem', 'dm-mod', 'dm-dust', 'dm-flakey'):
            sh('modprobe', module)
        for export, disk in zip('ab', ('/dev/ubdb', '/dev/ubdc')):
            sh('mkfs.ext4', '-q', disk)
            (EXPORTS / export).mkdir(parents=True)
            (MOUNTS / export).mkdir()
            sh('mount', '-o', 'noinit_itable', disk, EXPORTS / export)
        self.server.boot()

    @staticmethod
    def fresh(name):
        """The server's view of SRC (made, empty) and DST (absent) of one check."""
        source, destination = EXPORTS / 'a' / name, EXPORTS / 'b' / name
        for path in (source, destination):
            shutil.rmtree(path, ignore_errors=True)
        source.mkdir()
        return source, destination

    @contextlib.contextmanager
    def mounted(self, version):
        """Mounts both exports and gives a function from the server's path to the client's."""
        for export in FSID:
            self.mount(version, export)
        try:
            yield lambda path: MOUNTS / path.relative_to(EXPORTS)
        finally:
            for export in FSID:
                self.unmount(MOUNTS / export)

    @staticmethod
    def mount(version, export):
        # nosharecache: two mounts of one server stay two file systems. noresvport: many mounts use many ports.
        if version == '3':
            sh('mount', '-t', 'nfs', '-o', 'vers=3,nolock,nosharecache,noresvport', f'127.0.0.1:{EXPORTS / export}',
               MOUNTS / export)
        else:
            sh('mount', '-t', 'nfs4', '-o', f'vers={version},nosharecache,noresvport', f'127.0.0.1:/{export}',
               MOUNTS / export)

    @staticmethod
    def unmount(path):
        """Waits for what may still hold it: a killed process's last requests."""
        for attempt in range(50):
            if sh('umount', path, check=attempt == 49).returncode == 0:
                return
            time.sleep(0.1)

    @contextlib.contextmanager
    def delayed(self, delay):
        """Every packet between client and server takes this long, each way."""
        sh('tc', 'qdisc', 'add', 'dev', 'lo', 'root', 'netem', 'delay', delay, 'limit', '100000')
        try:
            yield
        finally:
            sh('tc', 'qdisc', 'del', 'dev', 'lo', 'root')

    def sync(self, source, destination, *options):
        return sh(self.drover, 'sync', '-q', *options, source, destination, timeout=RUN_TIMEOUT_S, check=False)

    def succeeds(self, done, name):
        """The run ended with exit code 0 and without an error on stderr."""
        return self.tap.ok(done.returncode == 0 and not done.stderr, name, f'exit {done.returncode}\n{done.stderr}')

    def start(self, source, destination, *options):
        """In the background; finish() collects it."""
        return subprocess.Popen([str(self.drover), 'sync', '-q', *options, str(source), str(destination)],
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                errors='surrogateescape')

    @staticmethod
    def finish(process, timeout=RUN_TIMEOUT_S):
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            err += '\n(it did not end in time and was killed)'
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def files_in(path):
    return sum(len(files) for _, _, files in os.walk(path))


def wait_for(condition, process, limit_s=60):
    """Polls until the condition holds or the process has ended; true if the condition came while it ran."""
    end = time.monotonic() + limit_s
    while process.poll() is None and time.monotonic() < end:
        if condition():
            return process.poll() is None
        time.sleep(0.02)
    return False


CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def run_checks(lab, wanted):
    for function in CHECKS:
        if wanted and not any(part in function.__name__ for part in wanted):
            continue
        began = time.monotonic()
        try:
            function(lab)
        except Exception:  # one broken check says so and lets the others run
            lab.tap.ok(False, f'{function.__name__}: ran to its end', traceback.format_exc())
        lab.tap.line(f'# {function.__name__}: {time.monotonic() - began:.1f} s')
    lab.tap.line(f'1..{lab.tap.count}')
