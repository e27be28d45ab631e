#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The guest's first process: `guest.py WORK DROVER [--measure DELAY | --sweep DELAY OPTION... | CHECK...]`, started by
the runner beside it.

It mounts what a system has, boots the lab, runs the checks or the measurement, writes every line to WORK/results on
the host and powers the guest off. `guest.py --list` names the checks, anywhere.
"""
import os
import pathlib
import subprocess
import sys
import time
import traceback

import lab as laboratory
import check_disks  # noqa: F401  (each registers its checks)
import check_nfs  # noqa: F401
import measure
import sweep

OUT = pathlib.Path('/run/out')


def mounts(work):
    os.environ['PATH'] = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
    os.environ['DM_DISABLE_UDEV'] = '1'  # device nodes are devtmpfs's and dmsetup's own: no udev runs here
    for kind, place in (('proc', '/proc'), ('sysfs', '/sys'), ('tmpfs', '/run'), ('tmpfs', '/var/lib/nfs'),
                        ('tmpfs', '/mnt')):
        subprocess.run(['mount', '-t', kind, kind, place], check=True)
    OUT.mkdir()
    subprocess.run(['mount', '-t', 'hostfs', 'none', OUT, '-o', work], check=True)
    subprocess.run(['mount', '--bind', '/usr/lib/uml/modules', '/lib/modules'], check=True)
    pathlib.Path('/proc/sys/kernel/hostname').write_text('lab')
    os.environ['TMPDIR'] = '/run'


def power_off(stream):
    stream.write('END\n')
    stream.close()
    os.sync()
    pathlib.Path('/proc/sysrq-trigger').write_text('o')
    time.sleep(60)


def main():
    if sys.argv[1:] == ['--list']:
        print('\n'.join(f'{check.__name__}: {check.__doc__.splitlines()[0]}' for check in laboratory.CHECKS))
        return
    work, drover, *rest = sys.argv[1:]
    mounts(work)
    stream = open(OUT / 'results', 'a', encoding='utf-8')
    tap = laboratory.Tap(stream)
    try:
        lab = laboratory.Lab(drover, tap)
        lab.boot()
        if rest[:1] == ['--measure']:
            measure.run(lab, rest[1])
            tap.line('1..0')
        elif rest[:1] == ['--sweep']:
            sweep.run(lab, rest[1], rest[2:])
            tap.line('1..0')
        else:
            laboratory.run_checks(lab, rest)
    except Exception:
        tap.ok(False, 'the guest boots its NFS server', traceback.format_exc())
    power_off(stream)


if __name__ == '__main__':
    main()
