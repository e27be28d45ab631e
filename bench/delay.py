#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A TCP proxy on 127.0.0.1 that holds every byte up, as a long cable does: delay.py PORT HOST:PORT SECONDS"""
import collections
import socket
import sys
import threading
import time


def pump(here, there, delay_s):
    """One thread reads and stamps, the other writes when it is time."""
    waiting, more = collections.deque(), threading.Semaphore(0)

    def write():
        while True:
            more.acquire()
            due, data = waiting.popleft()
            time.sleep(max(0, due - time.monotonic()))
            try:
                if not data:
                    there.shutdown(socket.SHUT_WR)
                    return
                there.sendall(data)
            except OSError:
                return

    threading.Thread(target=write, daemon=True).start()
    data = b'x'
    while data:
        try:
            data = here.recv(1 << 18)
        except OSError:
            data = b''
        waiting.append((time.monotonic() + delay_s, data))
        more.release()


def main():
    port, target, delay_s = int(sys.argv[1]), sys.argv[2].rsplit(':', 1), float(sys.argv[3])
    listener = socket.create_server(('127.0.0.1', port), backlog=64)
    while True:
        near, _ = listener.accept()
        far = socket.create_connection((target[0], int(target[1])))
        for one in (near, far):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for pair in ((near, far), (far, near)):
            threading.Thread(target=pump, args=(*pair, delay_s), daemon=True).start()


main()
