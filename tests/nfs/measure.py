# SPDX-License-Identifier: Apache-2.0
"""drover beside rsync over NFS with latency: seconds, and what each file costs in calls to the server."""
import time

import trees
from judge import differences
from lab import Calls, sh

FOLDERS, FILES, SIZE = 8, 100, 512
VERSION = '4.2'


def tools(lab):
    """Name and command line of each; rsyncs side by side are one a top-level directory, as in the runbook."""
    def drover(*options):
        return lambda source, destination: [lab.drover, 'sync', *options, source, destination]
    return {
        'drover': drover(),
        'drover --io=uring': drover('--io=uring'),
        'drover --io=threads': drover('--io=threads'),
        'rsync -aHX': lambda source, destination: ['rsync', '-aHX', f'{source}/', f'{destination}/'],
        'cp -a': lambda source, destination: ['cp', '-a', f'{source}/.', f'{destination}/'],
        '8 x rsync -aHX': lambda source, destination: [
            'sh', '-c', f'mkdir -p {destination} && cd {source} && ls | xargs -P8 -I@ rsync -aHX @ {destination}/'],
    }


def timed(lab, command):
    with lab.delayed(lab.delay):
        before, began = Calls(), time.monotonic()
        done = sh(*command, check=False, timeout=300)
        return time.monotonic() - began, Calls().since(before), done


def run(lab, delay):
    lab.delay = delay
    source, destination = lab.fresh('measure')
    trees.plain(source, FOLDERS, FILES, SIZE)
    files = FOLDERS * FILES
    lab.tap.line(f'# {files} files of {SIZE} bytes in {FOLDERS} directories, NFSv{VERSION} to NFSv{VERSION}, '
                 f'netem {delay} each way')
    for name, command in tools(lab).items():
        sh('rm', '-rf', destination)
        destination.mkdir()
        for what in ('copy', 'no change'):
            if what == 'no change' and name == 'cp -a':
                continue
            with lab.mounted(VERSION) as client:
                seconds, calls, done = timed(lab, command(client(source), client(destination)))
            # The runbook's rsyncs never see the root itself.
            wrong = [line for line in differences(source, destination, ('-nrltHc', '--delete'))
                     if not line.endswith(' ./')]
            state = 'equal' if not wrong else f'NOT EQUAL ({wrong[0]})'
            if done.returncode:
                state = f'exit {done.returncode}, {state}'
            lab.tap.line(f'# {name:20} {what:9} {seconds:7.2f} s  {state}; {calls.per_file(files)}')
