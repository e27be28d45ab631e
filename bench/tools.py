# SPDX-License-Identifier: Apache-2.0
"""The tools that are compared: their command lines, and for which runs they make sense."""
import dataclasses
import shutil
import subprocess
from typing import Callable

TAR_KEEPS = "--numeric-owner --acls --xattrs --xattrs-include='*'"


@dataclasses.dataclass
class Tool:
    name: str
    command: Callable  # of source and destination: argv, or one line for the shell
    needs: tuple = ()
    complete: bool = False  # it claims to keep everything: then a loss is a failure
    again: bool = True  # run again it copies only what changed
    makes_destination: bool = False  # wants it absent, not empty
    before: Callable = None  # of source and destination: what is run first, and is not measured
    check: Callable = None  # the same: one line for the shell that fails if its digests are wrong
    tells: str = ''  # pattern of the milliseconds that it has measured itself: its start takes long
    runs: tuple = ('small', 'home', 'large', 'latency')
    version: tuple = ()


def side_by_side(jobs):
    """The runbook: one rsync for each name at the top."""
    return Tool(f'parallel -j{jobs} rsync',
                lambda src, dst: f'cd {src} && ls | parallel --will-cite -j{jobs} rsync -aHAXS {{}} {dst}/',
                needs=('parallel', 'rsync'), version=('parallel', '--version'))


def floor(program, threads, runs):
    return Tool(f'floor, {threads} threads', lambda src, dst: [program, 'copy', '-t', str(threads), src, dst],
                needs=(program,), again=False, runs=runs)


def floor_again(program, threads):
    """What looking at both trees costs, for the pass over unchanged ones."""
    return Tool(f'floor walk, {threads} threads', lambda src, dst: [program, 'walk', '-t', str(threads), src, dst],
                needs=(program,), runs=('no change',))


def mpi(src, dst):
    launcher = ['mpirun', '--allow-run-as-root', '--oversubscribe', '-np', '4'] if shutil.which('mpirun') else []
    return [*launcher, 'dsync', '--quiet', '--xattrs', 'all', src, dst]


def fpsync(work):
    return lambda src, dst: ['fpsync', '-n', '8', '-t', work / 'fpsync', '-o', '-lptgoDHAXS --numeric-ids', f'{src}/',
                             f'{dst}/']


def rclone(src, dst):
    return ['rclone', 'copy', '--config', '/dev/null', '--links', '--metadata', '--transfers', '32', '--checkers', '32',
            '--create-empty-src-dirs', src, dst]


FIO_TELLS = r'run=\d+-(\d+)msec'
HASHED = ('digest', 'digest-large', 'million')
COMPARED = ('verify', 'verify-large')


def hashing(drover):
    """Those that make a digest of every file, and what reading them costs."""
    each = 'find {src} -type f -print0 | xargs -0 -P2 {command} > {dst}/sums'
    fio = ('fio --name=floor --readonly --rw=read --bs=1M --ioengine=io_uring --iodepth=16 --thread --direct={direct} '
           '--opendir={src} --file_service_type=sequential')
    create = [drover, 'manifest', 'create', '-q', '-o']
    return [
        Tool('drover', lambda src, dst: [*create, f'{dst}/manifest', src], needs=(drover,), complete=True, runs=HASHED,
             check=lambda src, dst: f'{drover} manifest export --format=xxhsum {dst}/manifest > {dst}/sums && '
                                    f'cd {src} && xxhsum -q -c {dst}/sums'),
        Tool('drover sha256', lambda src, dst: [*create, f'{dst}/manifest', '--digest=sha256', src], needs=(drover,),
             complete=True, runs=('digest-large',)),
        Tool('drover check', lambda src, dst: [drover, 'manifest', 'check', '-q', f'{dst}/manifest', src],
             before=lambda src, dst: [*create, f'{dst}/manifest', src], needs=(drover,), complete=True, runs=HASHED),
        Tool('xargs -P2 xxhsum', lambda src, dst: each.format(src=src, dst=dst, command='-n200 xxhsum -H2'),
             needs=('xxhsum',), runs=('digest',), version=('xxhsum', '--version')),
        Tool('xargs -P2 -n1 xxhsum', lambda src, dst: each.format(src=src, dst=dst, command='-n1 xxhsum -H2'),
             needs=('xxhsum',), runs=('digest-large',)),
        Tool('b3sum', lambda src, dst: f'find {src} -type f -print0 | xargs -0 b3sum > {dst}/sums', needs=('b3sum',),
             runs=('digest', 'digest-large'), version=('b3sum', '--version')),
        Tool('hashdeep', lambda src, dst: f'hashdeep -c md5 -r {src} > {dst}/sums', needs=('hashdeep',),
             runs=('digest', 'digest-large'), version=('hashdeep', '-V')),
        Tool('floor: xargs -P2 cat',
             lambda src, dst: f'find {src} -type f -print0 | xargs -0 -P2 -n200 cat > /dev/null', runs=('digest',)),
        Tool('floor: fio, direct', lambda src, dst: fio.format(src=src, direct=1), needs=('fio',),
             runs=('digest-large',), tells=FIO_TELLS, version=('fio', '--version')),
        Tool('floor: fio, buffered', lambda src, dst: fio.format(src=src, direct=0), needs=('fio',),
             runs=('digest-large',), tells=FIO_TELLS),
    ]


def comparing(drover):
    """Those that compare two trees, contents and all."""
    return [
        Tool('drover', lambda src, dst: [drover, 'verify', '-q', src, dst], needs=(drover,), complete=True,
             runs=COMPARED),
        Tool('rsync -c -n', lambda src, dst: ['rsync', '-naHAX', '--delete', '-c', f'{src}/', f'{dst}/'],
             needs=('rsync',), runs=COMPARED),
        Tool('rclone check',
             lambda src, dst: ['rclone', 'check', '--config', '/dev/null', '--links', '--checkers', '32', src, dst],
             needs=('rclone',), runs=COMPARED),
        Tool('diff -r', lambda src, dst: ['diff', '-rq', '--no-dereference', src, dst], needs=('diff',), runs=COMPARED,
             version=('diff', '--version')),
    ]


def patching(drover):
    """Those that bring a large file up to date, and what reading it once costs."""
    rsync = ['rsync', '-aHAX']
    return [
        Tool('drover', lambda src, dst: [drover, 'sync', '-q', src, dst], needs=(drover,), complete=True,
             runs=('pages',)),
        Tool('drover --inplace', lambda src, dst: [drover, 'sync', '-q', '--inplace', src, dst], needs=(drover,),
             complete=True, runs=('pages',)),
        Tool('drover --no-manifest', lambda src, dst: [drover, 'sync', '-q', '--no-manifest', src, dst],
             needs=(drover,), complete=True, runs=('pages',)),
        Tool('rsync', lambda src, dst: [*rsync, f'{src}/', f'{dst}/'], needs=('rsync',), complete=True,
             runs=('pages',)),
        Tool('rsync --no-whole-file', lambda src, dst: [*rsync, '--no-whole-file', f'{src}/', f'{dst}/'],
             needs=('rsync',), complete=True, runs=('pages',)),
        Tool('rsync --no-whole-file --inplace',
             lambda src, dst: [*rsync, '--no-whole-file', '--inplace', f'{src}/', f'{dst}/'], needs=('rsync',),
             complete=True, runs=('pages',)),
        Tool('floor: cat', lambda src, dst: f'cat {src}/database > /dev/null', runs=('pages',)),
        Tool('floor: dd, direct',
             lambda src, dst: ['dd', f'if={src}/database', 'of=/dev/null', 'bs=4M', 'iflag=direct'], runs=('pages',)),
    ]


def everything(drover, built, work):
    tools = [
        Tool('drover', lambda src, dst: [drover, 'sync', '-q', src, dst], needs=(drover,), complete=True,
             runs=('small', 'home', 'large', 'sparse', 'latency'), version=(drover, '--version')),
        Tool('rsync', lambda src, dst: ['rsync', '-aHAXS', f'{src}/', f'{dst}/'], needs=('rsync',), complete=True,
             runs=('small', 'home', 'large', 'sparse', 'latency'), version=('rsync', '--version')),
        Tool('cp -a', lambda src, dst: ['cp', '-a', f'{src}/.', f'{dst}/'], needs=('cp',), complete=True, again=False,
             runs=('small', 'home', 'large', 'sparse', 'latency'), version=('cp', '--version')),
        Tool('tar | tar',
             lambda src, dst: f'tar -C {src} {TAR_KEEPS} -S --format=posix -cf - . | tar -C {dst} {TAR_KEEPS} -xpf -',
             needs=('tar',), complete=True, again=False, runs=('small', 'home', 'large', 'sparse', 'latency'),
             version=('tar', '--version')),
        Tool('fpsync -n8', fpsync(work), needs=('fpsync', 'rsync'), version=('fpsync', '-h')),
        side_by_side(4),
        side_by_side(8),
        Tool('rclone', rclone, needs=('rclone',), version=('rclone', 'version')),
        Tool('dsync', mpi, needs=('dsync',), makes_destination=True, version=('dsync', '--version')),
        Tool('wcp', lambda src, dst: ['wcp', src, dst], needs=('wcp',), makes_destination=True, again=False),
    ]
    if built['floor']:
        program = str(built['floor'])
        tools += [floor(program, threads, ('small', 'home', 'large')) for threads in (2, 8)]
        tools += [floor(program, 64, ('latency',))]
        tools += [floor_again(program, threads) for threads in (2, 8)]
    return tools + hashing(drover) + comparing(drover) + patching(drover)


def version(tool):
    """The first line a tool has about itself, or nothing."""
    if not tool.version:
        return ''
    done = subprocess.run(tool.version, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, check=False)
    lines = done.stdout.strip().splitlines()
    return ' '.join(lines[0].split()) if lines else ''


def load(tool):
    """Brings the tool itself back into the page cache: what is measured cold is the trees, not its program."""
    version(tool)
    programs = [shutil.which(command) for command in (*tool.needs, 'bash', 'sync', 'time')]
    subprocess.run(['cat', *filter(None, programs)], stdout=subprocess.DEVNULL, check=True)


def split(tools, wanted):
    """Those that can run here and were asked for, and the names of those that were asked for and are not installed."""
    names = {tool.name for tool in tools}
    chosen = [tool for tool in tools if not wanted
              or any(tool.name == word or (word not in names and word in tool.name) for word in wanted)]
    present = [tool for tool in chosen if all(shutil.which(command) for command in tool.needs)]
    return present, [tool.name for tool in chosen if tool not in present]
