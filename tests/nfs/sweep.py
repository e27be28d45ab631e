# SPDX-License-Identifier: Apache-2.0
"""bench/tuning between two NFS mounts with latency: it is given two directories, and tells what it found as JSON."""
import pathlib
import subprocess

from lab import EXPORTS, MOUNTS

PROGRAM = pathlib.Path(__file__).resolve().parents[2] / 'bench/tuning'
SAMPLES = '/run/samples'
VERSION = '4.2'


def run(lab, delay, options):
    """Each line it says is one of the results', marked as a comment; those of the samples file begin with {."""
    command = ['python3', '-B', PROGRAM, '--drover', lab.drover, '--samples', SAMPLES, '--between', MOUNTS / 'a',
               MOUNTS / 'b', '--behind', EXPORTS / 'a', EXPORTS / 'b', *options]
    with lab.mounted(VERSION), lab.delayed(delay):
        process = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.PIPE, text=True, errors='replace')
        with process:
            for line in process.stderr:
                lab.tap.line('# ' + line.rstrip())
        if process.returncode not in (0, 1):
            lab.tap.ok(False, f'bench/tuning: exit {process.returncode}')
    for line in pathlib.Path(SAMPLES).read_text(encoding='utf-8').splitlines():
        lab.tap.line('# ' + line)
