# SPDX-License-Identifier: Apache-2.0
"""Where the trees lie: an ext4 image of our own, a given directory, and directories with latency; and their caches."""
import contextlib
import dataclasses
import os
import pathlib
import shutil
import subprocess
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
GIB = 1 << 30


def run(*argv, **options):
    return subprocess.run([str(word) for word in argv], check=True, **options)


def output(*argv):
    return run(*argv, stdout=subprocess.PIPE, text=True).stdout


def unmount(path):
    for _ in range(100):
        if subprocess.run(['umount', path], stderr=subprocess.DEVNULL, check=False).returncode == 0:
            return
        time.sleep(0.1)
    run('umount', '-l', path)


@dataclasses.dataclass
class Disk:
    """What a disk can do, reading and writing each."""
    bytes_per_s: int
    requests_per_s: int

    @contextlib.contextmanager
    def holds_for(self, device):
        """Slows a block device down to that, for all who use it: so its speed is no longer that of the hour."""
        number = output('lsblk', '--noheadings', '--nodeps', '--output', 'MAJ:MIN', device).strip()
        with scratch() as group:
            run('mount', '-t', 'cgroup', '-o', 'blkio', 'drover-bench', group)
            try:
                self._set(group, number, self.bytes_per_s, self.requests_per_s)
                yield
            finally:
                self._set(group, number, 0, 0)  # no limit
                unmount(group)

    @staticmethod
    def _set(group, number, bytes_per_s, requests_per_s):
        for way in ('read', 'write'):
            (group / f'blkio.throttle.{way}_bps_device').write_text(f'{number} {bytes_per_s}')
            (group / f'blkio.throttle.{way}_iops_device').write_text(f'{number} {requests_per_s}')


@contextlib.contextmanager
def image(size_bytes, disk=None, filled=False):
    """A directory on a fresh ext4 file system; direct I/O, so that the host's page cache holds nothing of it twice. On a
    disk as fast as `disk`, where one is given. filled: not the first copy alone has to find its blocks."""
    device = None
    with scratch() as work:
        file, place = work / 'image', work / 'mnt'
        place.mkdir()
        try:
            if filled:
                run('dd', 'if=/dev/zero', f'of={file}', 'bs=4M', f'count={size_bytes >> 22}', 'oflag=direct', 'status=none')
            else:
                run('truncate', '-s', size_bytes, file)
            # Everything is laid out now: no initialisation in the background during the runs.
            run('mkfs.ext4', '-q', '-F', '-E', 'lazy_itable_init=0,lazy_journal_init=0', file)
            device = output('losetup', '--direct-io=on', '--find', '--show', file).strip()
            run('mount', device, place)
            try:
                with disk.holds_for(device) if disk else contextlib.nullcontext():
                    yield place
            finally:
                unmount(place)
        finally:
            if device:
                run('losetup', '-d', device)


@contextlib.contextmanager
def memory():
    """A directory in memory."""
    with scratch() as work:
        run('mount', '-t', 'tmpfs', 'drover-bench', work)
        try:
            yield work
        finally:
            unmount(work)


def scratch():
    """A directory of our own for what is small."""
    return directory(os.environ.get('TMPDIR', '/var/tmp'))


@contextlib.contextmanager
def directory(given):
    """A directory of our own inside the given one."""
    place = pathlib.Path(tempfile.mkdtemp(prefix='drover-bench.', dir=given))
    try:
        yield place
    finally:
        shutil.rmtree(place)


def build(work):
    """Compiles floor and latencyfs; returns their paths, None for what this machine lacks the parts for."""
    built = {'floor': None, 'latencyfs': None}
    parts = {'floor': ['-lpthread']}
    fuse = subprocess.run(['pkg-config', '--cflags', '--libs', 'fuse3'], stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, text=True, check=False)
    if fuse.returncode == 0:
        parts['latencyfs'] = fuse.stdout.split() + ['-lpthread']
    for name, flags in parts.items():
        program = work / name
        command = ['cc', '-std=gnu17', '-D_GNU_SOURCE', '-O2', '-o', program, HERE / f'{name}.c', *flags]
        if shutil.which('cc') and subprocess.run(command, check=False).returncode == 0:
            built[name] = program
    return built


class Latency:
    """Two directories shown with a delay per operation and the caches an NFS client has."""

    CACHES = 'attr_timeout=3,entry_timeout=3,neg_timeout=3,keep_cache'

    def __init__(self, program, place, options='lat=1000'):
        self.program, self.place, self.options = program, place, options
        self.shown = [place / 'slow-source', place / 'slow-destination']

    @contextlib.contextmanager
    def mounted(self, source, destination):
        """Freshly mounted, so nothing is cached; gives the two paths. Their operations are counted at the end."""
        with contextlib.ExitStack() as stack:
            for real, path in zip((source, destination), self.shown):
                path.mkdir(exist_ok=True)
                stack.enter_context(self.serving(real, path))
            yield self.shown

    @contextlib.contextmanager
    def serving(self, real, path):
        options = f'source={real},stats={path}.stats,{self.options},{self.CACHES}'
        process = subprocess.Popen([self.program, '-f', '-o', options, path], stdin=subprocess.DEVNULL)
        try:
            while not os.path.ismount(path):
                if process.poll() is not None:
                    raise SystemExit(f'bench: latencyfs ended with {process.returncode}')
                time.sleep(0.01)
            yield
        finally:
            # It unmounts itself. To wait for its end after an unmount would be in vain where another mount namespace
            # has a copy of the mount.
            process.terminate()
            process.wait()

    def change(self, what, value):
        """lat or knee of both sides, while they are mounted."""
        for path in self.shown:
            os.setxattr(path, f'user.latencyfs.{what}', str(value).encode())

    def operations_so_far(self):
        """The same as operations(), while they are mounted."""
        return sum(int(os.getxattr(path, 'user.latencyfs.operations')) for path in self.shown)

    def operations(self):
        """What reached both sides, once they are unmounted and have written their counts."""
        lines = [line for path in self.shown for line in pathlib.Path(f'{path}.stats').read_text().splitlines()]
        return sum(int(line.split()[1]) for line in lines if line.startswith('total'))


def size_of(root):
    """Bytes of all files below."""
    return sum(path.stat().st_size for path in pathlib.Path(root).rglob('*') if path.is_file())


def drop_caches():
    os.sync()
    pathlib.Path('/proc/sys/vm/drop_caches').write_text('3\n')


def warm_up(*roots, contents):
    """Brings names and attributes, and the files' contents where asked, into the caches."""
    for root in roots:
        run('find', root, '-printf', '%s', stdout=subprocess.DEVNULL)
        if contents:
            # Holes cost time and memory and warm nothing up.
            run('sh', '-c', f'find {root} -type f -size -2G -print0 | xargs -0 -r -P2 -n500 cat',
                stdout=subprocess.DEVNULL)
    os.sync()
