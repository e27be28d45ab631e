# SPDX-License-Identifier: Apache-2.0
"""Runs one tool once and takes its times, its CPU and its memory."""
import dataclasses
import os
import pathlib
import re
import shutil
import signal
import statistics
import subprocess
import threading
import time

TIME = '/usr/bin/time'
TIMEOUT_S = 1200
HINT = '.jobs'  # how the file with it is called in the end


@dataclasses.dataclass
class Sample:
    exit_s: float  # until the command ends
    disk_s: float  # until what it wrote is on disk too
    cpu_s: float = 0.0  # of it and all it started; not the kernel's own threads
    rss_mib: float = 0.0  # the largest process of them
    read_mib: float = 0.0  # from disks
    written_mib: float = 0.0  # or dirtied in the page cache
    code: int = 0
    words: str = ''  # the end of what it said, if it failed
    operations: int = 0  # that reached a file system with latency


def arguments(command):
    if isinstance(command, str):
        return ['bash', '-o', 'pipefail', '-c', command]
    return [str(word) for word in command]


def once(tool, source, destination, log, on_disk=True):
    """Runs the tool; its output goes to a file, so that nobody waits for a reader."""
    argv = arguments(tool.command(source, destination))
    usage = f'{log}.usage'
    # Python's own size would count as the child's without a small program in between.
    wrapper = [TIME, '--quiet', '-o', usage, '-f', '%M %U %S %I %O'] if os.access(TIME, os.X_OK) else []
    environment = dict(os.environ, LC_ALL='C.UTF-8', XDG_STATE_HOME=state_of(log))
    with open(log, 'w+b') as stream:
        began = time.monotonic()
        process = subprocess.Popen([*wrapper, *argv], stdin=subprocess.DEVNULL, stdout=stream, stderr=stream,
                                   env=environment, start_new_session=True)
        # Not wait(timeout): that polls, and would round every time up to its interval.
        deadline = threading.Timer(TIMEOUT_S, os.killpg, (process.pid, signal.SIGKILL))
        deadline.start()
        try:
            code = process.wait()
        except BaseException:  # interrupted: nothing may stay that holds the file system
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        finally:
            deadline.cancel()
        exited = time.monotonic()
        if on_disk:
            subprocess.run(['sync', '-f', destination], check=False)
        ended = time.monotonic()
        stream.seek(0)
        words = stream.read().decode(errors='replace')
    told = re.search(tool.tells, words) if tool.tells else None
    if told:
        ended -= exited - began - int(told[1]) / 1000
        exited = began + int(told[1]) / 1000
    sample = Sample(exited - began, ended - began, code=code, words=words[-400:].strip() if code else '')
    if wrapper and os.path.exists(usage):
        largest_kib, user_s, system_s, read, written = open(usage).read().split()
        sample.rss_mib, sample.cpu_s = int(largest_kib) / 1024, float(user_s) + float(system_s)
        sample.read_mib, sample.written_mib = int(read) / 2048, int(written) / 2048  # they come in 512 bytes
        os.unlink(usage)
    return sample


def state_of(log):
    """Where drover remembers what it has copied."""
    return f'{log}.state'


def forget(log, but_hints=False):
    """Everything, or all but with how many workers to begin."""
    for path in pathlib.Path(state_of(log)).rglob('*'):
        if path.is_file() and not (but_hints and path.suffix == HINT):
            path.unlink()


def empty(destination, tool):
    shutil.rmtree(destination, ignore_errors=True)
    if not tool.makes_destination:
        destination.mkdir()


@dataclasses.dataclass
class Row:
    """One tool's samples in one scenario."""
    name: str
    complete: bool
    cold: list = dataclasses.field(default_factory=list)
    warm: list = dataclasses.field(default_factory=list)
    lost: dict = dataclasses.field(default_factory=dict)  # what, and how many at worst
    failed: str = ''

    def samples(self, phase):
        return self.cold if phase == 'cold' else self.warm

    def median(self, phase, what):
        values = [getattr(sample, what) for sample in self.samples(phase)]
        return statistics.median(values) if values else None

    def slowest_s(self, phase):
        return max((sample.disk_s for sample in self.samples(phase)), default=0)

    def largest_rss_mib(self):
        return max((sample.rss_mib for sample in self.cold + self.warm), default=0)

    def losses(self):
        return self.failed or ', '.join(f'{what} {count}' for what, count in sorted(self.lost.items())) or 'nothing'

    def wrong(self):
        """A tool that claims to keep everything, and did not."""
        return self.complete and bool(self.lost or self.failed)
