#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A remote shell (-e "faraway.py SECONDS") to this machine: what is said arrives that much later, each way."""
import os
import queue
import subprocess
import sys
import threading
import time


def carry(source, target, delay_s):
    on_the_way = queue.Queue()

    def arrive():
        while True:
            at, data = on_the_way.get()
            time.sleep(max(0, at - time.monotonic()))
            if not data:
                target.close()
                return
            target.write(data)

    arriving = threading.Thread(target=arrive)
    arriving.start()
    data = b"at first"
    while data:
        data = os.read(source.fileno(), 1 << 20)
        on_the_way.put((time.monotonic() + delay_s, data))
    arriving.join()


def main():
    delay_s, _, *command = sys.argv[1:]  # the host is this one
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as far:
        there = threading.Thread(target=carry, args=(sys.stdin, far.stdin, float(delay_s)))
        there.start()
        carry(far.stdout, os.fdopen(1, "wb", buffering=0), float(delay_s))
        there.join()
    return far.returncode


if __name__ == "__main__":
    sys.exit(main())
