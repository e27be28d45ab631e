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
    return tools


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
