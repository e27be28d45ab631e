#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A TCP proxy that does harm: proxy.py PORT HOST:PORT COUNTFILE [--seed N] [--kinds a,b] [--faults N] [--every BYTES]

Each direction of each connection passes a random number of bytes (about BYTES), then something is done to it:

    cut       both ends are closed
    reset     both ends get a RST
    truncate  half of what was read is passed on, then both ends are closed
    corrupt   one bit is turned over
    stall     nothing passes for a second or two, then both ends are closed
    delay     it is held up for some milliseconds

After N of them it is an honest proxy. COUNTFILE has how many were done.
"""
import argparse
import random
import socket
import struct
import threading
import time

parser = argparse.ArgumentParser()
parser.add_argument("port", type=int)
parser.add_argument("target")
parser.add_argument("counts")
parser.add_argument("--seed", type=int, default=1)
parser.add_argument("--kinds", default="cut,reset,truncate,corrupt,stall,delay")
parser.add_argument("--faults", type=int, default=1 << 30)
parser.add_argument("--every", type=int, default=1 << 20)
options = parser.parse_args()

lock = threading.Lock()
chance = random.Random(options.seed)
kinds = options.kinds.split(",")
done = 0


def choose():
    """After how many bytes, and what."""
    with lock:
        return int(chance.expovariate(1 / options.every)) + 1, chance.choice(kinds)


def count():
    """Is there one left to be done?"""
    global done
    with lock:
        if done >= options.faults:
            return False
        done += 1
        with open(options.counts, "w", encoding="ascii") as file:
            file.write(str(done))
        return True


def end(sockets, reset=False):
    for one in sockets:
        try:
            if reset:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                one.close()
            else:
                one.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def harm(kind, data, here, there):
    """What is passed on in place of data; None: the connection is over."""
    if kind == "corrupt":
        at = random.randrange(len(data))
        return data[:at] + bytes([data[at] ^ 1 << random.randrange(8)]) + data[at + 1:]
    if kind == "delay":
        time.sleep(random.random() * 0.05)
        return data
    if kind == "truncate":
        there.sendall(data[:len(data) // 2])
    elif kind == "stall":
        time.sleep(1 + random.random())
    end((here, there), reset=kind == "reset")
    return None


def pump(here, there):
    left, kind = choose()
    try:
        while data := here.recv(1 << 16):
            left -= len(data)
            if left <= 0 and count():
                data = harm(kind, data, here, there)
                if data is None:
                    return
                left, kind = choose()
            there.sendall(data)
    except OSError:
        pass
    end((here, there))


def serve(near):
    try:
        host, port = options.target.rsplit(":", 1)
        far = socket.create_connection((host, int(port)), 10)
        far.settimeout(None)
    except OSError:
        near.close()
        return
    for pair in ((near, far), (far, near)):
        threading.Thread(target=pump, args=pair, daemon=True).start()


listener = socket.create_server(("127.0.0.1", options.port), backlog=64)
while True:
    connection, _ = listener.accept()
    threading.Thread(target=serve, args=(connection,), daemon=True).start()
