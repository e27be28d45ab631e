# SPDX-License-Identifier: Apache-2.0
"""The other side is not drover, and means harm (peer.py): every way in which rsync was attacked from 2024 to 2026, and
what else this protocol has to offer. drover has to refuse with words, in bounded time and memory, with nothing written
or read outside of its trees."""
import array
import contextlib
import json
import os
import re
import select
import shutil
import signal
import socket
import stat
import struct
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import pytest

import peer
from drover import NO_SHELL, Result, result_ok, wait_until
from judge import Snapshot, assert_untouched
from lab import MIB, require
from peer import DIR, FILE, HELLO, LINK, PROBE, PULL, PUSH, SCAN, Ended, Peer, Raw, Sender, entry, listing, message, xattr
from trees import noise, plant

PEER = Path(peer.__file__)
SANITIZED = any(name.endswith("SAN_OPTIONS") for name in os.environ)
MEMORY_MOST_KIB = (1200 if SANITIZED else 300) * 1024
CONTROL = re.compile(rb"[\x00-\x09\x0b-\x1f\x7f\x80-\x9f]")
ESCAPES = "\x1b]0;owned\x07\x1b[31mred\nfake: line\r\x7f\x9b31m"
UNKNOWN = 999

pytestmark = pytest.mark.local


# ---- both sides of the stage -----------------------------------------------------------------


class Run:
    """A drover, and the peer that it talks to."""

    def __init__(self, command, environment, folder, **pipes):
        self.out, self.err = tempfile.TemporaryFile(), tempfile.TemporaryFile()
        self.command = command
        self.process = subprocess.Popen(command, stdin=pipes.get("stdin", subprocess.DEVNULL),
                                        stdout=pipes.get("stdout", self.out), stderr=self.err, env=environment, cwd=folder)
        self.peer = None
        self.closing = []
        self.peak_kib = 0

    def end(self, code=0, timeout_s=30):
        """Lets go of it; it has to end by itself, not too large, with nothing on the terminal that is not text."""
        if self.peer:
            self.peer.close()
        for one in self.closing:
            one.close()
        deadline = time.monotonic() + timeout_s
        while self.process.returncode is None:
            pid, status, usage = os.wait4(self.process.pid, os.WNOHANG)
            if pid:
                self.process.returncode = os.waitstatus_to_exitcode(status)
                self.peak_kib = usage.ru_maxrss
            elif time.monotonic() > deadline:
                self.process.kill()
                self.process.wait()
                raise AssertionError(f"it hangs: {self.command}")
            else:
                time.sleep(0.003)
        said = []
        for file in (self.out, self.err):
            file.seek(0)
            said.append(file.read())
            file.close()
        result = Result(self.command, self.process.returncode, said[0], os.fsdecode(said[1]))
        result_ok(result, code)
        assert self.peak_kib < MEMORY_MOST_KIB, f"{self.peak_kib} KiB\n{result}"
        if "--json" in self.command:
            said[0] = re.sub(rb"[\x7f-\xff]", b"", said[0])  # programs read it, and JSON may have them
        for text in said:
            assert not CONTROL.search(text), f"control characters: {result}"
        return result

    def refused(self, *words, code=5, timeout_s=30):
        result = self.end(code=code, timeout_s=timeout_s)
        said = result.err or f"drover: {self.peer.fatal or ''}"  # a server's reach its client
        assert said.startswith("drover: ") and len(said) > 12, f"without words\n{result}"
        assert not words or any(word in said for word in words), f"want {words}\n{result}"
        return result

    def kill(self):
        if self.process.returncode is None:
            self.process.kill()
            self.process.wait()


class Stage:
    def __init__(self, drover, folder):
        self.drover, self.folder = drover, folder
        self.runs = []
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(str(folder / "s"))
        self.socket.listen()

    def client(self, *arguments, hello=HELLO):
        """drover, as the client of a server that is the test."""
        run = Run([self.drover.binary, *arguments[:1], "-e", f"/usr/bin/python3 -B {PEER} {self.folder}/s", *arguments[1:]],
                  self.drover.environment, self.folder)
        self.runs.append(run)
        self.socket.settimeout(20)
        control, _ = self.socket.accept()
        _, ancillary, _, _ = control.recvmsg(1, 64)
        run.peer = Peer(*array.array("i", ancillary[0][2]))
        run.closing.append(control)
        if hello:
            run.peer.write(hello)
            run.peer.start()
        return run

    def pull(self, *arguments):
        run = self.client("sync", *arguments[:-1], "far:/x", arguments[-1])
        peer.opened(run.peer)
        return run

    def push(self, *arguments):
        """The rules and SYNC are in run.asked."""
        run = self.client("sync", *arguments, "far:/x")
        peer.opened(run.peer)
        run.asked = [run.peer.hear()]
        while run.asked[-1].type != "SYNC":
            run.asked.append(run.peer.hear())
        return run

    def server(self):
        """drover serve --stdio, and the test as its client."""
        run = Run([self.drover.binary, "serve", "--stdio"], self.drover.environment, self.folder,
                  stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.runs.append(run)
        run.peer = Peer(os.dup(run.process.stdout.fileno()), os.dup(run.process.stdin.fileno()))
        run.process.stdout.close()
        run.process.stdin.close()
        assert re.fullmatch(rb"drover \S+ protocol 1\n", run.peer.line())
        run.peer.start()
        return run

    def sender(self, root):
        """drover's sender of that directory, which has been asked to begin and to list it."""
        run = self.server()
        peer.open_session(run.peer, PULL, str(root))
        run.peer.say("BEGIN", what=20)
        run.peer.hear("ROOT")
        run.peer.say("LIST", dir=0, parent=0, name="")
        run.peer.hear("LISTING")
        return run

    def close(self):
        for run in self.runs:
            run.kill()
            if run.peer:
                run.peer.close()
            for one in run.closing:
                one.close()
        self.socket.close()


@pytest.fixture
def stage(drover, tmp_path_factory):
    made = Stage(drover, tmp_path_factory.mktemp("s"))
    yield made
    made.close()


@pytest.fixture
def outside(work):
    """Nothing may be changed here, and nothing of it be told."""
    return plant(work / "outside", {"secret": "precious", "sub/secret": "precious"})


def held(root):
    """All that is in a tree: names, types, content. The times of its directories do not count."""
    return {str(path.relative_to(root)): os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file()
            else stat.S_IFMT(path.lstat().st_mode) for path in root.rglob("*")}


@pytest.fixture
def kept(work, dst):
    """A destination with something in it, that --delete would take away if it believed in an empty source."""
    return plant(dst, {"kept": "kept", "dir/kept": "kept"})


def told(run, *messages, tree=None, instead=None):
    """As the sender, answers everything; the messages come after ROOT."""
    def begin(sender, ask):
        run.peer.send(sender.on_begin(ask))
        for one in messages:
            run.peer.send(one)
        return True
    sender = Sender(run.peer, {} if tree is None else tree, {"BEGIN": begin, **(instead or {})})
    sender.serve()
    run.peer.goodbye()
    return sender


def lists(*entries, **members):
    """In place of what the root has."""
    return {"LIST": lambda sender, ask: None if ask.dir else listing(0, *entries, **members)}


# ---- a sender: names --------------------------------------------------------------------------

BAD_NAMES = {
    "parent": Raw(peer.text("..")), "self": Raw(peer.text(".")), "slash": Raw(peer.text("a/b")),
    "climbs": Raw(peer.text("../outside/made")), "absolute": Raw(peer.text("/tmp/made")), "empty": Raw(peer.text("")),
    "nul": Raw(b"\x03a\0b\0"), "long": Raw(peer.text("x" * 256)), "endless": Raw(peer.number(2 ** 40) + b"x\0"),
    "unterminated": Raw(b"\x03abc"), "overlong number": Raw(b"\x81\x00a\0"),
}


@pytest.mark.parametrize("name", BAD_NAMES, ids=lambda name: name.replace(" ", "-"))
def test_names_that_are_none_are_refused_and_nothing_is_deleted_for_them(stage, work, kept, outside, name):
    """CVE-2024-12087, and path traversal."""
    mode = (DIR, FILE, LINK)[list(BAD_NAMES).index(name) % 3]
    before = held(work)
    run = stage.pull("--delete", kept)
    told(run, instead=lists(entry(BAD_NAMES[name], mode=mode, target="x" if mode == LINK else "")))
    run.refused(code=(1, 5))
    assert held(work) == before


@pytest.mark.parametrize("first", ["link", "dir", "file"])
@pytest.mark.parametrize("parts", [1, 2])
def test_a_name_that_is_link_and_directory_leads_nowhere(stage, work, dst, outside, first, parts):
    """CVE-2024-12087: a link first, then a directory of that name with files beneath it."""
    before = Snapshot(outside)
    names = [f"x{number}" for number in range(60)]
    links = [entry(name, mode=LINK, target=str(outside)) for name in names]
    dirs = [entry(name, mode=DIR) for name in names]
    files = [entry(name, mode=FILE, size=5) for name in names]
    order = {"link": (links, dirs), "dir": (dirs, links), "file": (links, files)}[first]

    def list_(sender, ask):
        if ask.dir:
            deeper = [] if ask.parent else [entry("sub", mode=DIR)]
            return listing(ask.dir, entry("secret", size=5), entry("made", size=5), *deeper)
        if parts == 1:
            return listing(0, *(one for pair in zip(*order) for one in pair))
        run.peer.send(listing(0, *order[0], parts=2))
        return listing(0, *order[1], parts=2)

    def fetch(sender, ask):
        return message("FILE", request=ask.request, meta={"mode": FILE, "size": 5}, content=b"owned",
                       digest=peer.digest(b"owned"))
    for options in ([], ["--delete"], ["--inplace"]):
        run = stage.pull(*options, dst)
        told(run, instead={"LIST": list_, "FETCH": fetch})
        run.end(code=(0, 1, 2, 5))
        assert_untouched(before, Snapshot(outside))


def test_names_of_drovers_own_files_do_not_take_their_place(stage, dst, outside):
    names = [".drover.run", ".drover.0123456789abcdef.0", ".drover.0123456789abcdef.1", ".drover.manifest", ".drover"]
    before = Snapshot(outside)
    for mode in (LINK, DIR, FILE):
        run = stage.pull("--delete", dst)
        told(run, tree={name: b"" if mode == FILE else {} for name in [*names, "good"]}, instead=lists(
            *(entry(name, mode=mode, target=str(outside) if mode == LINK else "") for name in names),
            entry("good", mode=FILE if mode == FILE else DIR),
            *([entry(".drover.run", mode=DIR)] if mode == LINK else [])))
        run.end(code=(0, 1, 5))
        assert_untouched(before, Snapshot(outside))


def test_a_link_of_the_destination_is_not_followed(stage, dst, outside):
    """CVE-2024-12747, with the sender's help."""
    plant(dst, {})
    (dst / "sub").symlink_to(outside)
    (dst / "file").symlink_to(outside / "secret")
    before = Snapshot(outside)
    run = stage.pull("--inplace", dst)
    told(run, tree={"sub": {"secret": b"owned"}, "file": b"owned", "big": noise(MIB)})
    run.end()
    assert_untouched(before, Snapshot(outside))
    assert (dst / "file").read_bytes() == b"owned" and not (dst / "sub").is_symlink()


# ---- a sender: answers ---------------------------------------------------------------------------

UNASKED = {
    "listing": listing(UNKNOWN), "listed": message("LISTED", dir=UNKNOWN, parts=1),
    "file": message("FILE", request=UNKNOWN, meta={"mode": FILE}, digest=peer.digest(b"")),
    "data": message("DATA", request=UNKNOWN, bytes=b"x"), "copy": message("COPY", request=UNKNOWN, len=1),
    "zero": message("ZERO", request=UNKNOWN, len=1), "end": message("END", request=UNKNOWN, meta={"mode": FILE}),
    "digested": message("DIGESTED", request=UNKNOWN, meta={"mode": FILE}),
    "statted": message("STATTED", request=UNKNOWN, meta={"mode": FILE}),
    "root again": message("ROOT", meta={"mode": DIR}), "opened again": message("OPENED", version=1),
    "join again": message("JOIN"), "open": message("OPEN", version=1, kind=1), "sync": message("SYNC", max_delete=-1),
    "list": message("LIST", dir=1, name="x"), "fetch": message("FETCH", request=1, name="passwd"),
    "read": message("READ", request=1, name="passwd", window=1 << 20), "stat": message("STAT", request=1, path="etc/passwd"),
    "begin": message("BEGIN"), "rule": message("RULE", pattern="x"), "note": message("NOTE", text="x"),
    "summary": message("SUMMARY", io="threads"), "manifest": message("MANIFEST", bytes=b"x"),
    "change": message("CHANGE", path="x", itemize="x" * 11), "stop": message("STOP", signal=9),
    "shown": message("SHOWN", bytes=1), "unknown type": struct.pack("<IB", 1, 99) + b"x",
    "type 0": struct.pack("<IB", 0, 0), "short": message("LISTED", bytes(7)), "long": message("TOTALS", bytes(26)),
    "longer than its members": message("LISTED", message("LISTED", dir=0, parts=1)[5:] + b"x"),
    "boolean 2": message("TOTALS", bytes(24) + b"\2"), "half a message": struct.pack("<IB", 100, 50) + b"x",
    "longer than allowed": struct.pack("<IB", 0xffffffff, 52) + b"x", "nothing but a length": b"\1\0",
}


@pytest.mark.parametrize("what", UNASKED, ids=lambda what: what.replace(" ", "-"))
def test_what_was_not_asked_ends_the_session(stage, kept, what):
    """CVE-2024-12086: a server makes no client send it anything."""
    before = held(kept)
    run = stage.pull("--delete", kept)
    asked = []
    silent = {"LIST": lambda sender, ask: asked.append(ask) or True}
    told(run, UNASKED[what], instead=silent)
    run.refused()
    assert held(kept) == before


LISTINGS = {
    "more entries than said": lambda p: [listing(0, entry("a", mode=DIR), entry("b", mode=DIR), n=1)],
    "less entries than said": lambda p: [listing(0, entry("a", mode=DIR), n=5)],
    "none where some are said": lambda p: [listing(0, n=5)],
    "too many": lambda p: [listing(0, *(entry(f"{n}", mode=DIR) for n in range(1025)))],
    "parts that change": lambda p: [listing(0, parts=7), listing(0, parts=8)],
    "more parts than granted": lambda p: [listing(0, parts=0) for n in range(2000)],
    "no part and no error": lambda p: [message("LISTED", dir=0)],
    "no meta": lambda p: [listing(0, entry("a", meta=Raw(b"\0\0")))],
    "a target of a file": lambda p: [listing(0, entry("a", target="x"))],
    "no target of a link": lambda p: [listing(0, entry("a", mode=LINK))],
    "type unknown": lambda p: [listing(0, entry("a", mode=0o170644))],
    "nanoseconds": lambda p: [listing(0, entry("a", mode=DIR, mtime_ns=10 ** 9 + 5))],
    "size": lambda p: [listing(0, entry("a", size=2 ** 63))],
    "number of 70 bits": lambda p: [listing(0, entry("a", meta=Raw(struct.pack("<H", FILE) + b"\xff" * 9 + b"\x7f")))],
    "user": lambda p: [listing(0, entry("a", mode=DIR, uid=2 ** 32))],
    "target too long": lambda p: [listing(0, entry("a", mode=LINK, target="x" * 4096))],
    "errno": lambda p: [listing(0, entry("a", error=5000))],
}


@pytest.mark.parametrize("what", LISTINGS, ids=lambda what: what.replace(" ", "-"))
def test_a_listing_that_lies_deletes_nothing(stage, kept, what):
    run = stage.pull("--delete", kept)

    def list_(sender, ask):
        for one in LISTINGS[what](None) if ask.dir == 0 else [listing(ask.dir)]:
            run.peer.send(one)
        return True
    told(run, instead={"LIST": list_})
    run.refused(code=(1, 5))
    assert (kept / "kept").read_text() == (kept / "dir/kept").read_text() == "kept"


ODD = {
    "times": {"mode": DIR, "mtime": -2 ** 62, "ctime": 2 ** 62}, "later": {"mode": DIR, "mtime": 2 ** 62},
    "nobody": {"mode": DIR, "uid": 2 ** 32 - 1, "gid": 2 ** 32 - 1}, "no links": {"mode": DIR, "nlink": 0},
    "device": {"mode": stat.S_IFCHR | 0o666, "rdev": 2 ** 64 - 1}, "blocks": {"mode": DIR, "blocks": 2 ** 64 - 1},
    "flags": {"mode": DIR, "flags": 2 ** 32 - 1}, "all bits": {"mode": stat.S_IFDIR | 0o7777, "size": 2 ** 63 - 1},
    "linked": {"mode": FILE, "nlink": 2 ** 32 - 1, "size": 0}, "fifo": {"mode": stat.S_IFIFO | 0o7777, "size": 2 ** 62},
}


def test_odd_metadata_is_held_or_reported(stage, dst):
    run = stage.pull(dst)
    told(run, tree={name: {"meta": values} for name, values in ODD.items()},
         instead={"LIST": lambda sender, ask: listing(ask.dir) if ask.dir else None,
                  "FETCH": lambda sender, ask: message("FILE", request=ask.request, meta=ODD[ask.name] | {"size": 0},
                                                       digest=peer.digest(b""))})
    run.end(code=(0, 1, 4))
    subprocess.run(["chattr", "-R", "-f", "-iau", dst], capture_output=True)


XATTRS = {
    "cut": xattr(b"user.a", b"value")[:-1], "short head": b"\4\6", "no name": xattr(b"", b"v"),
    "kind unknown": xattr(b"user.a", b"v", kind=9), "another kind": xattr(b"user.a", b"v", kind=2),
    "repeated": xattr(b"user.a", b"v") * 2, "unordered": xattr(b"user.b", b"v") + xattr(b"user.a", b"v"),
    "nul": xattr(b"user.a\0b", b"v"), "evm": xattr(b"security.evm", b"v"), "acl that is none": xattr(
        b"system.posix_acl_access", b"\xff" * 99, kind=2), "value too long": xattr(b"user.a", b"v" * 65537),
    "length": struct.pack("<BBI", 4, 6, 0xffffffff) + b"user.a", "many": b"".join(
        xattr(b"user.%07d" % n, b"") for n in range(30000)),
}


@pytest.mark.parametrize("where", ["entry", "file", "root"])
def test_attributes_that_are_none(stage, dst, where):
    """CVE-2024-12084: lengths that the peer chooses."""
    for what, packed in XATTRS.items():
        run = stage.pull(dst)

        def fetch(sender, ask, packed=packed):
            return message("FILE", request=ask.request, meta={"mode": FILE, "size": 1, "mtime": 5}, digest=peer.digest(b"x"),
                           content=b"x", xattrs=packed)
        instead = {"LIST": lambda sender, ask, packed=packed: listing(
            ask.dir, entry("f", size=1, mtime=5, xattrs=packed if where == "entry" else b""))}
        if where == "file":
            instead["FETCH"] = fetch
        if where == "root":
            instead["BEGIN"] = lambda sender, ask, packed=packed: message("ROOT", meta={"mode": DIR}, xattrs=packed)
        Sender(run.peer, {"f": b"x"}, {"FETCH": fetch, **instead}).serve()
        run.peer.goodbye()
        run.end(code=(0, 1, 4, 5))
        shutil.rmtree(dst, ignore_errors=True)


def a_file(request, content, **members):
    return message("FILE", **{"request": request, "meta": {"mode": FILE, "size": len(content)}, "content": content,
                              "digest": peer.digest(content), **members})


FILES = {
    "wrong digest": ((1,), lambda ask: [a_file(ask.request, b"owned", digest=bytes(16))]),
    "longer than said": ((5,), lambda ask: [a_file(ask.request, b"owned", meta={"mode": FILE, "size": 3})]),
    "a directory": ((5,), lambda ask: [a_file(ask.request, b"", meta={"mode": DIR})]),
    "a link": ((5,), lambda ask: [a_file(ask.request, b"", meta={"mode": LINK})]),
    "too long": ((5,), lambda ask: [a_file(ask.request, bytes(262145))]),
    "twice": ((0, 5), lambda ask: [a_file(ask.request, b"wanted") + a_file(ask.request, b"wanted")]),
    "unknown": ((5,), lambda ask: [a_file(UNKNOWN, b"owned")]),
    "data instead": ((5,), lambda ask: [message("DATA", request=ask.request, bytes=b"owned")]),
    "a listing instead": ((5,), lambda ask: [listing(ask.request)]),
    "end instead": ((5,), lambda ask: [message("END", request=ask.request, meta={"mode": FILE})]),
    "keeps changing": ((3,), lambda ask: [message("FILE", request=ask.request, error=11)]),
    "larger, it says": ((1,), lambda ask: [message("FILE", request=ask.request, error=27,
                                                     meta={"mode": FILE, "size": 2 ** 62})]),
    "larger, and is not": ((1,), lambda ask: [message("FILE", request=ask.request, error=27, meta={"mode": DIR})]),
}


@pytest.mark.parametrize("what", FILES, ids=lambda what: what.replace(" ", "-"))
def test_a_file_that_is_not_what_it_says(stage, dst, what):
    codes, answers = FILES[what]
    run = stage.pull(dst)

    def fetch(sender, ask):
        for one in answers(ask):
            run.peer.send(one)
        return True
    told(run, tree={"f": b"wanted"}, instead={
        "FETCH": fetch, "READ": lambda sender, ask: message("END", request=ask.request, error=5, operation="read")})
    run.end(code=codes)
    assert not (dst / "f").exists() or (dst / "f").read_bytes() == b"wanted"


OLD = noise(3 * MIB, 5)
NEW = noise(3 * MIB, 6)


def data(ask, offset, content):
    return message("DATA", request=ask.request, offset=offset, bytes=content)


READS = {
    "beyond the size": lambda ask: [data(ask, at * MIB, NEW[:MIB]) for at in range(3, 9)] + [
        peer.end(ask, NEW, 6)],
    "far beyond the size": lambda ask: [data(ask, 2 ** 62, b"x")],
    "twice": lambda ask: [data(ask, 0, NEW[:MIB])] * 2,
    "overlapping": lambda ask: [data(ask, 0, NEW[:1000]), data(ask, 999, NEW[:1000])],
    "across a border": lambda ask: [data(ask, MIB - 1, b"xx")],
    "nothing": lambda ask: [message("DATA", struct.pack("<QQI", ask.request, 0, 0))],
    "beyond the grant": lambda ask: [data(ask, at * MIB, NEW[:MIB]) for at in range(40)],
    "a copy outside": lambda ask: [message("COPY", request=ask.request, offset=0, old_offset=2 ** 40, len=10)],
    "a copy over the end": lambda ask: [message("COPY", request=ask.request, offset=0, old_offset=0, len=3 * MIB + 1)],
    "a copy of all there is": lambda ask: [message("COPY", request=ask.request, offset=2 ** 63 - 1, old_offset=0, len=2)],
    "a hole larger than all": lambda ask: [message("ZERO", request=ask.request, offset=0, len=2 ** 63 - 1)],
    "holes over each other": lambda ask: [message("ZERO", request=ask.request, offset=0, len=10)] * 2,
    "the end at once": lambda ask: [peer.end(ask, NEW, 0)],
    "the end with a gap": lambda ask: [data(ask, 0, NEW[:MIB]), peer.end(ask, NEW, 1)],
    "the end of more": lambda ask: [data(ask, 0, NEW[:MIB]), peer.end(ask, NEW, 2 ** 63)],
    "another digest": lambda ask: [data(ask, at * MIB, OLD[at * MIB:(at + 1) * MIB]) for at in range(3)] + [
        peer.end(ask, NEW, 3)],
    "wrong blocks": lambda ask: [message("COPY", request=ask.request, offset=0, old_offset=0, len=3 * MIB),
                                 peer.end(ask, NEW, 1)],
    "the end of a directory": lambda ask: [peer.end(ask, NEW, 0, meta={"mode": DIR})],
    "a file instead": lambda ask: [a_file(ask.request, b"x")],
    "one byte each": lambda ask: [b"".join(data(ask, at * 2, b"x") for at in range(20000))],
    "two ends": lambda ask: [peer.end(ask, NEW, 0, error=5), peer.end(ask, NEW, 0, error=5)],
    "it changes for ever": lambda ask: [message("END", request=ask.request, error=11)],
}


@pytest.mark.parametrize("old", [False, True], ids=["new", "delta"])
@pytest.mark.parametrize("what", READS, ids=lambda what: what.replace(" ", "-"))
def test_a_large_file_whose_parts_do_not_fit(stage, dst, what, old):
    if old:
        plant(dst, {"f": OLD})
    run = stage.pull(*(["--bwlimit", "1M"] if what == "beyond the grant" else []), dst)

    def read(sender, ask):
        for one in READS[what](ask):
            run.peer.send(one)
        return True
    told(run, tree={"f": NEW}, instead={"READ": read})
    run.end(code=(1, 3, 5))
    assert (dst / "f").exists() == old and (not old or (dst / "f").read_bytes() == OLD)


def test_a_hole_of_an_exabyte_costs_nothing(stage, on):
    """Time and memory do not go with sizes that are only said."""
    size = 2 ** 60
    dst = on("xfs") / "dst"
    run = stage.pull(dst)

    def read(sender, ask):
        run.peer.say("ZERO", request=ask.request, offset=0, len=size)
        zeros = peer.plain_digest(struct.pack("<Q", size) + bytes(16))
        return message("END", request=ask.request, meta={"mode": FILE, "size": size}, digest=zeros, messages=1)
    told(run, tree={"f": {"meta": {"mode": FILE, "size": size}}}, instead={
        "READ": read, "LIST": lambda sender, ask: None})
    run.end(code=(0, 1))


# ---- a sender: too much of it -------------------------------------------------------------------------


def stops(run, timeout_s=10):
    """It can be stopped, whatever the other side does or does not: the second signal waits for nobody."""
    run.process.send_signal(signal.SIGTERM)
    begin = time.monotonic()
    again = False
    while os.waitid(os.P_PID, run.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        took = time.monotonic() - begin
        assert took < timeout_s, "signals do not end it"
        if took > 0.5 and not again:
            again = True
            run.process.send_signal(signal.SIGTERM)
        time.sleep(0.01)
    return run.end(code=None)


def test_a_directory_without_a_bottom(stage, dst):
    run = stage.pull(dst)
    asked = []

    def list_(sender, ask):
        asked.append(ask)
        return listing(ask.dir, entry("d", mode=DIR))
    sender = Sender(run.peer, {}, {"LIST": list_})
    thread = threading.Thread(target=sender.serve)
    thread.start()
    wait_until(lambda: len(asked) > 3000 or run.process.poll() is not None, "it goes down", 20)
    stops(run)
    thread.join(20)
    subprocess.run(["rm", "-rf", dst])


def test_listings_without_an_end(stage, dst):
    run = stage.pull("--dry-run", dst)
    names = iter(range(10 ** 9))

    def more(sender, ask):
        for _ in range(16):
            run.peer.send(listing(0, *(entry(f"{next(names)}", mode=LINK, target="x") for _ in range(1000)), parts=0))
        return True
    sender = Sender(run.peer, {}, {"LIST": more, "GRANT": more})
    thread = threading.Thread(target=sender.serve)
    thread.start()
    wait_until(lambda: next(names) > 60000 or run.process.poll() is not None, "it lists", 20)
    stops(run)
    thread.join(20)


SILENT = {"root": "BEGIN", "listing": "LIST", "file": "FETCH", "large file": "READ"}


@pytest.mark.parametrize("what", SILENT, ids=lambda what: what.replace(" ", "-"))
def test_a_sender_that_never_answers_can_be_left(stage, dst, what):
    run = stage.pull(dst)
    reached = threading.Event()
    sender = Sender(run.peer, {"d": {"f": b"wanted"}, "g": NEW}, {SILENT[what]: lambda *_: reached.set() or True})
    thread = threading.Thread(target=sender.serve)
    thread.start()
    assert reached.wait(10)
    stops(run)
    thread.join(20)


def test_small_files_that_are_large_are_bounded(stage, dst):
    """Thousands are announced with a byte each, and come with as much as a message can hold."""
    run = stage.pull("--io=threads", dst)
    names = [f"{n:05}" for n in range(2000)]
    waiting, came = [], threading.Event()
    packed = b"".join(xattr(b"user.%02d" % n, b"v" * 60000) for n in range(8))
    big = bytes(262144)
    tail = message("FILE", request=0, meta={"mode": FILE, "size": len(big)}, digest=peer.digest(big), content=big,
                   xattrs=packed)[5 + 8:]

    def list_(sender, ask):
        for at in range(0, len(names), 1000):
            run.peer.send(listing(0, *(entry(name, size=1) for name in names[at:at + 1000]), parts=2))
        return True

    def fetch(sender, ask):
        waiting.append(ask.request)
        if len(waiting) == 1500:
            for request in waiting:
                run.peer.send(struct.pack("<IBQ", len(tail) + 8, 51, request) + tail)
            came.set()
        return True
    sender = Sender(run.peer, {}, {"LIST": list_, "FETCH": fetch, "READ": lambda *_: True})
    thread = threading.Thread(target=sender.serve)
    thread.start()
    assert came.wait(60)
    stops(run, 30)
    thread.join(20)


# ---- frames ---------------------------------------------------------------------------------------------


def _bomb(raw_bytes):
    payload = peer.compress(bytes(64 * MIB))
    return {"payload": payload, "flags": peer.FLAG_ZSTD, "raw_bytes": raw_bytes}


FRAMES = {
    "sum": dict(payload=message("TOTALS"), sum=1), "check": dict(payload=message("TOTALS"), check=1),
    "magic": dict(payload=message("TOTALS"), magic=0xde), "version": dict(payload=message("TOTALS"), version=2),
    "zero": dict(payload=message("TOTALS"), zero=1), "flags": dict(payload=message("TOTALS"), flags=4),
    "length": dict(payload=b"", wire_bytes=2 ** 32 - 1, raw_bytes=2 ** 32 - 1),
    "too long": dict(payload=bytes(peer.PAYLOAD_MOST + 1)), "lengths differ": dict(payload=message("TOTALS"), raw_bytes=4),
    "empty": dict(payload=b""), "no number": dict(payload=message("TOTALS"), sequence=0),
    "far ahead": dict(payload=message("TOTALS"), sequence=10 ** 6), "end of numbers": dict(
        payload=message("TOTALS"), sequence=2 ** 64 - 1),
    "acknowledges what was not sent": dict(payload=message("TOTALS"), acknowledged=10 ** 9),
    "bomb": _bomb(MIB), "smaller bomb": _bomb(64 * MIB), "no zstd": dict(payload=b"x" * 100, flags=1, raw_bytes=1000),
    "zstd that is longer": dict(payload=b"x" * 100, flags=1, raw_bytes=50),
}


def test_frames_that_are_none(stage, work):
    """All at the same time: each is a connection that is lost, for which there is no other."""
    runs = []
    for number, (what, wrong) in enumerate(FRAMES.items()):
        kept = plant(work / f"dst{number}", {"kept": "kept"})
        run = stage.pull("--delete", kept)
        run.peer.hear("BEGIN")
        run.peer.write(peer.frame(**{"sequence": run.peer.sequence + 1, "acknowledged": run.peer.heard, **wrong}))
        runs.append((what, kept, run))
    for what, _, run in runs:
        run.peer.until_closed()
        run.peer.close()
        run.closing.pop().close()
    for what, kept, run in runs:
        run.refused()
        assert held(kept) == {"kept": b"kept"}, what


def test_frames_ahead_are_bounded(stage, dst):
    run = stage.pull(dst)
    run.peer.hear("BEGIN")
    payload = listing(0, parts=1, entries=bytes(1000000), n=1)
    for ahead in range(2, 200):
        if not run.peer.write(peer.frame(payload, run.peer.sequence + ahead, run.peer.heard)):
            break
    run.peer.until_closed()
    run.refused("more than it may")


def test_frames_again_are_dropped(stage, dst):
    run = stage.pull(dst)
    asked = run.peer.hear("BEGIN")
    assert asked
    root = message("ROOT", meta={"mode": DIR}, path="/x", host="far")
    number = run.peer.sequence + 1
    for _ in range(3):
        run.peer.send(root, sequence=number)
    Sender(run.peer, {"f": b"wanted"}).serve()
    run.peer.goodbye()
    run.end()
    assert (dst / "f").read_bytes() == b"wanted"


# ---- before the session -------------------------------------------------------------------------------------

NOISE = {
    "one line": b"x" * 20000, "lines": b"Welcome\n" * 3000, "escapes": ESCAPES.encode() * 500, "nuls": bytes(20000),
    "protocol": b"drover 0.1.0 protocol 99999999999\n", "another protocol": b"drover 9.9 protocol 2\n",
    "version": b"drover \x1b[31m protocol 1\n" * 900, "long version": b"drover " + b"1" * 7000 + b" protocol 1\n" * 300,
    "a number": b"drover 1 protocol -1\n" * 999,
}


@pytest.mark.parametrize("what", NOISE, ids=lambda what: what.replace(" ", "-"))
def test_what_is_said_before_the_first_line(stage, dst, what):
    run = stage.client("sync", "far:/x", dst, hello=None)
    run.peer.write(NOISE[what])
    run.refused()
    assert not dst.exists()


def test_a_gigabyte_before_the_first_line(stage, dst):
    run = stage.client("sync", "far:/x", dst, hello=None)
    deadline = time.monotonic() + 10
    while run.peer.write(bytes(MIB)):
        assert time.monotonic() < deadline
    run.refused()


def test_a_server_that_says_nothing_at_all(stage, dst):
    run = stage.client("sync", "--timeout", "1", "far:/x", dst, hello=None)
    assert os.waitid(os.P_PID, run.process.pid, os.WEXITED | os.WNOWAIT)
    run.refused("no answer in time")


def test_a_version_that_is_another(stage, dst):
    run = stage.client("sync", "far:/x", dst)
    run.peer.hear("OPEN")
    run.peer.say("OPENED", struct.pack("<I", 7) + peer.text(ESCAPES) + b"whatever follows")
    run.refused("version 7")


# ---- JOIN -------------------------------------------------------------------------------------------------------

TOKEN = bytes(range(0x80, 0x90))


def test_join_leads_to_few_addresses_that_are_numbers(stage, dst):
    """And to nobody there whom the token could tell anything."""
    came = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        listener.settimeout(0.2)

        def count():
            while not done.is_set():
                with contextlib.suppress(TimeoutError):
                    one, _ = listener.accept()
                    one.settimeout(0.3)
                    with contextlib.suppress(OSError):
                        came.append(one.recv(64))
                    one.close()
        done = threading.Event()
        thread = threading.Thread(target=count)
        thread.start()
        for addresses, token, wanted in ((" ".join(["127.0.0.1"] * 300), TOKEN, True), ("localhost", TOKEN, False),
                                         ("127.1", TOKEN, False), ("127.0.0.1", b"GET / HTTP/1.0\r\n", False),
                                         ("127.0.0.1", bytes(16), False), (f"127.0.0.1:{port}", TOKEN, False),
                                         ("-oProxyCommand=x ::::: %s%n", TOKEN, False), ("127.0.0.1", TOKEN, True)):
            came.clear()
            run = stage.client("sync", "far:/x", dst)
            peer.opened(run.peer, token=token, key=bytes(32), port=port, addresses=addresses, most=65535)
            answered = threading.Event()
            sender = Sender(run.peer, {"f": b"wanted"})
            if wanted:
                sender.instead["LIST"] = lambda *_: wait_until(lambda: came, "somebody comes") or time.sleep(0.5)
            sender.serve()
            run.peer.goodbye()
            run.end()
            answered.set()
            time.sleep(0.05)
            assert len(came) <= 9 if wanted else not came, (addresses, came)
            assert all(one[:24] == b"drover1\n" + TOKEN or not one for one in came), came
        done.set()
        thread.join()


# ---- a receiver: what it tells ----------------------------------------------------------------------------------------


def summary(**members):
    return message("SUMMARY", **{"io": "threads", **members})


TELLS = {
    "fatal": [message("FATAL", error=-5, words=ESCAPES)], "note": [message("NOTE", text=ESCAPES), summary()],
    "failure": [message("FAILURE", path=ESCAPES, operation="read", side=ESCAPES, reason=ESCAPES), summary(outcome=1)],
    "failure without words": [message("FAILURE", path=ESCAPES, operation=ESCAPES, side="source", error=5)],
    "change": [message("CHANGE", path=ESCAPES, target=ESCAPES, moved_from=ESCAPES, itemize=">f+++++++++"), summary()],
    "itemize": [message("CHANGE", path="x", itemize=ESCAPES[:11]), summary()],
    "summary": [summary(outcome=5, error=-5, words=ESCAPES)], "io": [summary(io=ESCAPES)],
    "progress": [message("PROGRESS", Raw(b"\x40" + b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01" * 64 + b"\xff" * 8 + b"\1\1" +
                                         b"\xff" * 8 + b"\1" + peer.text(ESCAPES) + b"\xff" * 16)), summary()],
}


@pytest.mark.parametrize("options", [[], ["-i", "-v"], ["--json"]],
                         ids=["plain", "itemize", "json"])
@pytest.mark.parametrize("what", TELLS, ids=lambda what: what.replace(" ", "-"))
def test_what_a_server_tells_reaches_no_terminal_raw(stage, src, what, options):
    run = stage.push(*options, src)
    run.peer.send(*TELLS[what])
    with contextlib.suppress(Ended):
        while True:
            run.peer.hear()
    run.peer.goodbye()
    result = run.end(code=None)
    assert 0 <= result.code <= 7, result
    if options == ["--json"]:
        assert all(json.loads(line) for line in result.lines)


SUMMARIES = {
    "outcome": dict(outcome=8), "outcome 255": dict(outcome=255), "signal": dict(signal=65), "error": dict(error=5),
    "errno": dict(error=-2 ** 63, outcome=5), "fine, and failed": dict(error=-5), "signal to us": dict(signal=9),
}


@pytest.mark.parametrize("what", SUMMARIES, ids=lambda what: what.replace(" ", "-"))
def test_a_summary_that_makes_no_sense(stage, src, what):
    run = stage.push(src)
    run.peer.send(summary(**SUMMARIES[what]))
    with contextlib.suppress(Ended):
        while True:
            run.peer.hear()
    run.refused()


def test_a_server_that_tells_without_end_is_bounded(stage, src):
    run = stage.push("-v", src)
    text = message("NOTE", level=0, text="x" * 200000)
    deadline = time.monotonic() + 8
    run.process.send_signal(signal.SIGSTOP)
    sent = threading.Thread(target=lambda: [run.peer.send(text) for _ in range(2000) if time.monotonic() < deadline])
    sent.start()
    time.sleep(0.3)
    run.process.send_signal(signal.SIGCONT)
    sent.join(20)
    run.end(code=None)


def test_a_receiver_cannot_make_the_client_send_what_is_elsewhere(stage, src, outside):
    """CVE-2024-12086: by asking for it in a push."""
    (src / "link").symlink_to(outside)
    (src / "file").symlink_to(outside / "secret")
    plant(src, {"dir/f": "mine"})
    run = stage.push(src)
    run.peer.say("BEGIN")
    run.peer.hear("ROOT")
    run.peer.say("LIST", dir=0, name="")
    run.peer.hear("LISTING")
    run.peer.say("LIST", dir=1, name="link")
    assert run.peer.hear().error
    for number, path in enumerate(("link/secret", "file/secret")):
        run.peer.say("STAT", request=10 + number, path=path)
        assert run.peer.hear("STATTED").error
    run.peer.say("FETCH", request=20, dir=0, name="file")
    assert run.peer.hear("FILE").error
    run.peer.say("STAT", request=21, path=Raw(peer.text("../outside/secret")))
    with pytest.raises(Ended):
        run.peer.hear()
    run.refused()


# ---- a client of a sender ----------------------------------------------------------------------------------------------

ASKED = {
    "stat above": message("STAT", request=9, path="../../etc/passwd"), "stat absolute": message("STAT", request=9, path="/etc"),
    "stat dots": message("STAT", request=9, path="a/./b"), "stat slashes": message("STAT", request=9, path="a//b"),
    "list of nobody": message("LIST", dir=9, parent=UNKNOWN, name="x"), "list again": message("LIST", dir=0, name=""),
    "list above": message("LIST", dir=9, name=".."), "list slash": message("LIST", dir=9, name="a/b"),
    "list nothing": message("LIST", dir=9, name=""), "fetch above": message("FETCH", request=9, name=".."),
    "fetch slash": message("FETCH", request=9, name="dir/f"), "fetch of nobody": message("FETCH", request=9, dir=5, name="f"),
    "read slash": message("READ", request=9, name="../x", window=1 << 20), "digest above": message("DIGEST", request=9, name=".."),
    "block of 3": message("READ", request=9, name="big", window=1 << 20, block_bytes=3, old_bytes=9, n_blocks=3),
    "block of half a page": message("READ", request=9, name="big", window=1 << 20, block_bytes=4096, old_bytes=4096,
                                    n_blocks=1),
    "block too large": message("READ", request=9, name="big", window=1 << 20, block_bytes=2 ** 40),
    "blocks without end": message("READ", request=9, name="big", window=1 << 20, block_bytes=8192, old_bytes=2 ** 53,
                                  n_blocks=2 ** 40),
    "blocks that do not fit": message("READ", request=9, name="big", window=1 << 20, block_bytes=8192, old_bytes=8192,
                                      n_blocks=2),
    "blocks of nothing": message("READ", request=9, name="big", window=1 << 20, n_blocks=5),
    "grant too much": message("GRANT", request=9, bytes=2 ** 64 - 1), "begin again": message("BEGIN"),
    "a sender's message": message("FILE", request=9, meta={"mode": FILE}, digest=peer.digest(b"")),
    "rules of a pull": message("RULE", pattern="x"), "sync of a pull": message("SYNC", max_delete=-1, max_delete_percent=-1),
    "a message that is none": struct.pack("<IB", 3, 77) + b"abc",
}


@pytest.mark.parametrize("what", ASKED, ids=lambda what: what.replace(" ", "-"))
def test_what_may_not_be_asked_ends_the_session(stage, src, what):
    plant(src, {"dir/f": "x", "big": bytes(MIB)})
    run = stage.sender(src)
    run.peer.send(ASKED[what])
    with pytest.raises(Ended) as ended:
        while True:
            run.peer.hear()
    assert run.peer.fatal, ended
    run.refused()


def signature(request, first, n, weak=True, strong=None):
    return message("SIGNATURE", request=request, first=first, n=n, strong=bytes(8 * n) if strong is None else strong,
                   weak=bytes(4 * n) if weak else b"")


SIGNATURES = {
    "more than announced": [signature(9, 0, 5)], "not in order": [signature(9, 1, 1)], "again": [signature(9, 0, 3)] * 3,
    "no weak hashes": [signature(9, 0, 1, weak=False)], "none": [signature(9, 0, 0)],
    "shorter than it says": [signature(9, 0, 4, strong=bytes(8))], "far": [signature(9, 2 ** 63, 1)],
}


@pytest.mark.parametrize("what", SIGNATURES, ids=lambda what: what.replace(" ", "-"))
def test_signatures_that_do_not_fit(stage, src, what):
    """CVE-2024-12084."""
    plant(src, {"big": noise(MIB)})
    run = stage.sender(src)
    run.peer.say("READ", request=9, name="big", window=1 << 20, block_bytes=8192, old_bytes=4 * 8192, n_blocks=4, weak=True)
    for one in SIGNATURES[what]:
        run.peer.send(one)
    with pytest.raises(Ended):
        while True:
            run.peer.hear()
    run.refused()


def test_links_fifos_and_devices_are_not_opened(stage, src, outside):
    plant(src, {"dir/f": "x"})
    (src / "link").symlink_to(outside)
    (src / "file").symlink_to(outside / "secret")
    os.mkfifo(src / "fifo")
    os.mknod(src / "zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    os.mknod(src / "sock", stat.S_IFSOCK | 0o666)
    run = stage.sender(src)
    request = 100
    for name in ("link", "file", "fifo", "zero", "sock", "dir", "none"):
        for kind, answer, more in (("FETCH", "FILE", {}), ("DIGEST", "DIGESTED", {}), ("READ", "END", {"window": 1 << 20})):
            request += 1
            run.peer.say(kind, request=request, name=name, **more)
            assert run.peer.hear(timeout_s=10).error, (kind, name)
    for name in ("link", "file", "fifo", "zero", "none"):
        request += 1
        run.peer.say("LIST", dir=request, name=name)
        assert run.peer.hear("LISTED").error, name
    for path in ("link/secret", "file/x", "fifo/x", "link/sub/secret"):
        run.peer.say("STAT", request=request, path=path)
        assert run.peer.hear("STATTED").error, path
    run.peer.goodbye()
    run.end()


def test_a_racing_link_shows_nothing_outside(stage, helper, work, outside):
    """CVE-2024-12747, at the sender."""
    src = plant(work / "src", {"d/secret": "harmless", "d/sub/secret": "harmless", "e/secret": "harmless", "f": "harmless"})
    plant(outside, {"f": "precious"})
    (work / "trash").mkdir()
    run = stage.sender(src)
    racer = subprocess.Popen([helper("linkracer"), outside, work / "trash", src / "d", src / "e", src / "d/sub", src / "f"])
    deadline, request, answers = time.monotonic() + 3, 1000, 0
    try:
        while time.monotonic() < deadline:
            run.peer.send(*(message(*one, **more) for n in range(20) for one, more in (
                (("LIST",), dict(dir=request + 10 * n, parent=0, name="d" if n % 2 else "e")),
                (("FETCH",), dict(request=request + 10 * n + 1, dir=0, name="f")),
                (("STAT",), dict(request=request + 10 * n + 2, path="d/secret")),
                (("STAT",), dict(request=request + 10 * n + 3, path="d/sub/secret")))))
            listed = []
            for _ in range(80):
                one = run.peer.hear("LISTING", "LISTED", "FILE", "STATTED")
                if one.type == "FILE" and not one.error:
                    assert one.content == b"harmless", one
                if one.type == "STATTED" and not one.error:
                    assert one.meta["ino"] not in inodes(outside), one
                if one.type == "LISTING":
                    listed.append(one.dir)
            run.peer.send(*(message("FETCH", request=5 + 10 * n + request, dir=dir_, name="secret")
                            for n, dir_ in enumerate(listed)))
            for _ in listed:
                one = run.peer.hear("FILE")
                answers += not one.error
                assert one.error or one.content == b"harmless", one
            run.peer.send(*(message("FORGET", dir=dir_) for dir_ in listed))
            request += 1000
    finally:
        racer.kill()
        racer.wait()
    assert answers > 20
    run.peer.goodbye()
    run.end()


def inodes(root):
    return {path.lstat().st_ino for path in [root, *root.rglob("*")]}


def test_many_requests_at_once_are_bounded(stage, src):
    plant(src, {"big": noise(4 * MIB), "small": noise(200000)})
    run = stage.sender(src)
    for begin in range(0, 200000, 10000):
        if not run.peer.send(*(message("READ", request=begin + n, name="big", window=1, block_bytes=65536)
                               for n in range(1000, 11000))):
            break
    run.peer.until_closed(30)
    run.refused()


@pytest.mark.parametrize("name", ["small", "big"])
def test_answers_that_nobody_reads_are_bounded(stage, src, name):
    plant(src, {"big": noise(8 * MIB), "small": noise(262144)})
    run = stage.server()
    peer.open_session(run.peer, PULL, str(src))
    run.peer.say("BEGIN")
    run.peer.say("LIST", dir=0, name="")
    run.peer.hear("LISTING")
    held, run.peer._frame = run.peer._frame, lambda: time.sleep(0.05)
    for n in range(900):
        run.peer.say(*(("FETCH",) if name == "small" else ("READ",)), request=n + 10, name=name,
                     **({} if name == "small" else {"window": 2 ** 62}))
    time.sleep(1.5)
    rss = int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{run.process.pid}/status").read_text())[1])
    assert rss < MEMORY_MOST_KIB, rss
    run.process.kill()
    run.peer._frame = held


def test_announced_signatures_are_bounded(stage, src):
    plant(src, {"big": noise(MIB)})
    run = stage.sender(src)
    run.peer.send(*(message("READ", request=n, name="big", window=1 << 20, block_bytes=8192, old_bytes=2 ** 33,
                            n_blocks=2 ** 20, weak=True) for n in range(10, 1000)))
    for _ in range(900):
        assert run.peer.hear("END").error
    run.peer.goodbye()
    run.end()


def weak_of(block):
    total = 0
    for byte in block[:256]:
        total = (total * 0x93d765dd + byte + 1) & 0xffffffff
    return total


@pytest.mark.parametrize("what", ["one value", "another byte at the end", "strong the same"])
def test_weak_hashes_that_are_all_equal_take_no_time(stage, src, what):
    """Chains made long on purpose: a search has to be about as fast as reading."""
    size, block = 48 * MIB, 8192
    plant(src, {"big": b"A" * size if what != "another byte at the end" else (b"A" * (block - 1) + b"B") * (size // block)})
    run = stage.sender(src)
    n = 1 << 16
    begin = time.monotonic()
    run.peer.say("READ", request=9, name="big", window=2 ** 62, block_bytes=block, old_bytes=n * block, n_blocks=n, weak=True)
    strong = noise(8 * n, 3) if what != "strong the same" else struct.pack("<Q", 7) * n
    run.peer.say("SIGNATURE", request=9, n=n, strong=strong, weak=struct.pack("<I", weak_of(b"A" * 256)) * n)
    end = run.peer.hear("END", timeout_s=60)
    took = time.monotonic() - begin
    assert end.error == 0 and took < (60 if SANITIZED else 15), took
    run.peer.goodbye()
    run.end()


# ---- a client of a receiver ---------------------------------------------------------------------------------------------

SYNCS = {
    "jobs": dict(jobs=4000000000), "fsync": dict(fsync=9), "io": dict(io=9), "percent": dict(max_delete_percent=101),
    "max delete": dict(max_delete=-2), "usermap": dict(usermap="a:b:c,,::"), "chown": dict(chown="\x1b[31m:nobody at all"),
    "usermap long": dict(usermap="1:2," * 60000 + "x"), "manifest": dict(manifest="\x1b/\n/no/such/place"),
}


@pytest.mark.parametrize("what", SYNCS, ids=lambda what: what.replace(" ", "-"))
def test_wishes_that_make_no_sense(stage, dst, what):
    run = stage.server()
    peer.open_session(run.peer, PUSH, str(dst))
    run.peer.say("SYNC", **{"max_delete": -1, "max_delete_percent": -1, **SYNCS[what]})
    with contextlib.suppress(Ended):
        Sender(run.peer, {"f": b"wanted"}).serve()
    run.peer.close()
    result = run.end(code=(0, 5))
    assert what in ("usermap long", "manifest") or result.code == 5, result


def test_rules_without_end(stage, dst):
    run = stage.server()
    peer.open_session(run.peer, PUSH, str(dst))
    for _ in range(20):
        if not run.peer.send(*(message("RULE", pattern=f"*{n}") for n in range(10000))):
            break
    with pytest.raises(Ended):
        while True:
            run.peer.hear()
    run.refused()


def test_patterns_that_are_slow_to_match(stage, dst):
    run = stage.server()
    peer.open_session(run.peer, PUSH, str(dst))
    for pattern in ("*a" * 120 + "b", "**/a" * 900 + "b", "[a-z]*" * 600 + "!", "/" + "?*" * 1900 + "z"):
        run.peer.say("RULE", pattern=pattern)
    run.peer.say("SYNC", max_delete=-1, max_delete_percent=-1)
    begin = time.monotonic()

    def end_here(sender, ask):
        if ask.dir > 60:
            return listing(ask.dir)
        return listing(ask.dir, *(entry("a" * 250 + f"{n:02}", mode=DIR) for n in range(3)))
    server = Sender(run.peer, {}, {"LIST": end_here, "BEGIN": None})
    server.instead.pop("BEGIN")
    while True:
        one = run.peer.hear(timeout_s=60)
        if one.type == "SUMMARY":
            break
        server.answer(one)
    assert time.monotonic() - begin < 15
    run.peer.goodbye()
    run.end(code=None)


def test_a_push_that_escapes_by_names(stage, work, dst, outside):
    before = Snapshot(outside)
    for name in BAD_NAMES.values():
        run = stage.server()
        peer.open_session(run.peer, PUSH, str(dst))
        run.peer.say("SYNC", max_delete=-1, max_delete_percent=-1, **{"del": True})
        with contextlib.suppress(Ended):
            server = Sender(run.peer, {}, lists(entry(name, mode=DIR)))
            while (one := run.peer.hear()).type != "SUMMARY":
                server.answer(one)
            assert one.outcome not in (0, 3), one
            run.peer.goodbye()
        run.end(code=None)
        assert_untouched(before, Snapshot(outside))
    assert sorted(os.listdir(work)) in (["outside"], ["dst", "outside"], ["dst", "outside", "src"], ["outside", "src"])


# ---- a daemon ---------------------------------------------------------------------------------------------------------------


class PlainDaemon:
    """On a loopback address, where no TLS is needed."""

    def __init__(self, drover, folder, roots):
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        (folder / "state").mkdir()
        (folder / "keys").write_text("tester " + "ab" * 32 + "\n")
        (folder / "keys").chmod(0o600)
        text = f"[server]\nlisten = 127.0.0.1:{self.port}\nkeys = {folder}/keys\nstate = {folder}/state\n"
        for name, (path, mode, allow) in roots.items():
            text += f"[root {name}]\npath = {path}\nmode = {mode}\nallow = {allow}\n"
        (folder / "conf").write_text(text)
        self.log = folder / "log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen([drover.binary, "serve", "--config", folder / "conf"], stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log, env=drover.environment)
        wait_until(self.listens, "the daemon listens")
        self.peers = []

    def listens(self):
        assert self.process.poll() is None, self.log.read_text()
        with contextlib.suppress(OSError):
            self.connect().close()
            return True
        return False

    def connect(self, source="127.0.0.1"):
        return socket.create_connection(("127.0.0.1", self.port), timeout=20, source_address=(source, 0))

    def client(self, greeting=peer.GREETING):
        with self.connect() as plain:
            plain.sendall(greeting)
            plain.settimeout(None)
            fd = os.dup(plain.fileno())
        self.peers.append(Peer(fd, fd).start())
        return self.peers[-1]

    def close(self):
        for one in self.peers:
            one.close()
        for _ in range(2):  # the second does not wait for clients that are gone
            self.process.terminate()
            time.sleep(0.05)
        self.process.wait(20)
        log = self.log.read_bytes()
        assert not CONTROL.search(log), log
        assert b"Sanitizer" not in log, log.decode()


@pytest.fixture
def daemon(drover, work, tmp_path_factory):
    for name in ("share", "other", "shown"):
        (work / name).mkdir()
    made = PlainDaemon(drover, tmp_path_factory.mktemp("d"), {
        "share": (work / "share", "read-write", "plain"), "other": (work / "other", "read-write", "tester"),
        "shown": (work / "shown", "read-only", "plain")})
    yield made
    made.close()


def refusal(one, *arguments, **members):
    with pytest.raises(Ended):
        peer.open_session(one, *arguments, **members)
    assert one.fatal
    return one.fatal


def test_roots_that_are_not_for_this_client(daemon, work, outside):
    (work / "share/link").symlink_to("../outside")
    (work / "share/up").symlink_to("/")
    (work / "share/dir").mkdir()
    (work / "share/dir/back").symlink_to("../../outside")
    nobodys = refusal(daemon.client(), PULL, "other/x")
    assert nobodys == refusal(daemon.client(), PULL, "nowhere/x").replace("nowhere", "other")
    for root in ("..", "", "/", ".", "/etc", "share/..", "share/../outside", "share/dir/../../outside", "share/link",
                 "share/link/sub", "share/up/etc", "share/dir/back", "share//../outside", "share/./../outside", "../share",
                 "share/" + "../" * 60 + "etc", ESCAPES, "share/" + ESCAPES, "share/" + "x/" * 2000, "share\\..\\outside"):
        for kind in (PULL, PUSH, SCAN):
            one = daemon.client()
            with contextlib.suppress(Ended):
                answer = peer.open_session(one, kind, root, client=ESCAPES, program=ESCAPES)
                assert kind == PUSH and answer.root.startswith(str(work / "share/")) and ".." not in answer.root, (root, answer)
            one.close()
    refusal(daemon.client(), PUSH, "shown")
    refusal(daemon.client(), PROBE, "share")
    assert sorted(os.listdir(outside)) == ["secret", "sub"]


def test_a_manifest_elsewhere_is_not_for_clients_of_a_daemon(daemon, work):
    for path in ("/etc/drover-made", "made", "../made"):
        one = daemon.client()
        peer.open_session(one, PUSH, "share")
        one.say("SYNC", max_delete=-1, max_delete_percent=-1, manifest=path)
        with pytest.raises(Ended):
            one.hear()
        assert "manifest" in one.fatal
    assert not os.path.exists("/etc/drover-made")


def test_a_daemon_gives_links_and_nothing_behind_them(daemon, work, outside):
    share = plant(work / "share", {"d/f": "harmless"})
    (share / "out").symlink_to(outside)
    one = daemon.client()
    peer.open_session(one, PULL, "share")
    one.say("BEGIN")
    one.hear("ROOT")
    one.say("LIST", name="")
    assert {e["name"]: e["target"] for e in peer.entries_of(one.hear("LISTING"))}["out"] == str(outside)
    for request, path in enumerate(("out/secret", "out", "d/f")):
        one.say("STAT", request=request + 5, path=path)
        assert bool(one.hear("STATTED").error) == (path == "out/secret")
    one.say("LIST", dir=50, name="out")
    assert one.hear("LISTED").error


def test_a_push_to_a_daemon_while_links_race_writes_nothing_outside(daemon, helper, work, outside):
    share = plant(work / "share", {"top/d/secret": "old", "top/e/sub/secret": "old"})
    (work / "trash").mkdir()
    before = Snapshot(outside)
    racer = subprocess.Popen([helper("linkracer"), outside, work / "trash", share / "top", share / "top/d", share / "top/e"])
    deadline = time.monotonic() + 3
    runs = 0
    try:
        while time.monotonic() < deadline:
            one = daemon.client()
            with contextlib.suppress(Ended):
                peer.open_session(one, PUSH, "share/top")
                one.say("SYNC", max_delete=-1, max_delete_percent=-1, **{"del": True})
                content = b"owned %d" % runs
                server = Sender(one, {"d": {"secret": content, "made": content}, "e": {"sub": {"secret": content}}})
                while (heard := one.hear()).type != "SUMMARY":
                    server.answer(heard)
                one.goodbye()
                runs += 1
            one.close()
    finally:
        racer.kill()
        racer.wait()
    assert_untouched(before, Snapshot(outside))
    assert runs > 3


def test_greetings_that_are_none_are_closed_without_a_word(daemon):
    for greeting in (b"GET / HTTP/1.0\r\n\r\n" + b"x" * 100, bytes(24), b"drover2\n" + bytes(16), b"drover1\n" + b"\x81" * 16,
                     b"drover1\n" + b"a" * 16, b"\x16\x03\x01" + b"x" * 100, os.urandom(4096)):
        with daemon.connect() as plain:
            plain.sendall(greeting)
            with contextlib.suppress(ConnectionResetError):
                assert plain.recv(100) == b""
    for rest in (b"\x16" + b"x" * 1000, b"\x16\x03\x01\xff\xff" + bytes(70000), b"x", b"\xdf" + os.urandom(1000)):
        with daemon.connect() as plain:
            with contextlib.suppress(OSError):
                plain.sendall(peer.GREETING + rest)
                plain.shutdown(socket.SHUT_WR)
                while plain.recv(4096):
                    pass
    one = daemon.client()
    peer.open_session(one, PULL, "share")


def test_connections_that_say_nothing_do_not_keep_others_out(daemon, stage, dst):
    """And a handshake has a deadline, at either side: all that is silent, at the same time."""
    begin = time.monotonic()
    quiet = [daemon.connect("127.0.0.2") for _ in range(200)]
    half = [daemon.connect("127.0.0.3") for _ in range(10)]
    for one in half:
        with contextlib.suppress(OSError):
            one.sendall(peer.GREETING + b"\x16\x03")
    good = daemon.client()
    peer.open_session(good, PULL, "share")
    silent = daemon.client()        # greets, and says no OPEN
    server = stage.server()         # the same behind ssh
    client = stage.client("sync", "far:/x", dst)  # its server says its line only
    client.peer.hear("OPEN")
    for one in quiet + half:
        one.settimeout(max(0.1, begin + 13 - time.monotonic()))
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            while one.recv(1000):
                pass
        one.close()
    took = time.monotonic() - begin
    assert took < 13, took
    silent.until_closed(5)
    server.peer.until_closed(5)
    server.refused(timeout_s=5)
    good.say("BEGIN")
    good.hear("ROOT")
    stops(client)


def test_a_server_must_prove_itself(drover, work, src, tmp_path):
    """Without the key, or with a certificate that nobody asked for."""
    require("openssl")
    (src / "file").write_text("x")
    key = tmp_path / "key"
    key.write_text("tester " + "ab" * 32 + "\n")
    key.chmod(0o600)
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", tmp_path / "k", "-out",
                    tmp_path / "c", "-days", "9", "-subj", "/CN=127.0.0.1"], check=True, capture_output=True)
    for words in (["-psk", "cd" * 32, "-psk_identity", "tester", "-nocert", "-tls1_3"], ["-cert", "c", "-key", "k", "-tls1_3"],
                  ["-cert", "c", "-key", "k", "-tls1_2"]):
        with socket.create_server(("127.0.0.1", 0)) as front, socket.create_server(("127.0.0.1", 0)) as back:
            port = back.getsockname()[1]
            back.close()
            server = subprocess.Popen(["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-quiet", *words], cwd=tmp_path,
                                      stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            thread = threading.Thread(target=_behind_greeting, args=(front, port), daemon=True)
            thread.start()
            try:
                lost = drover.sync("--key", key, src, f"drover://127.0.0.1:{front.getsockname()[1]}/share", code=5)
                assert lost.err.startswith("drover: ") and not CONTROL.search(lost.err.encode()), lost
            finally:
                server.kill()
                server.wait()
                thread.join(10)


def _behind_greeting(front, port):
    """Takes the greeting off, and passes on the rest."""
    near, _ = front.accept()
    assert near.recv(24, socket.MSG_WAITALL) == peer.GREETING
    far = None
    while far is None:
        with contextlib.suppress(OSError):
            far = socket.create_connection(("127.0.0.1", port), timeout=5)
    with near, far:
        while True:
            ready, _, _ = select.select([near, far], [], [], 10)
            for one in ready:
                got = b""
                with contextlib.suppress(OSError):
                    got = one.recv(65536)
                if not got:
                    return
                with contextlib.suppress(OSError):
                    (far if one is near else near).sendall(got)
            if not ready:
                return


# ---- what is told beside what was asked -----------------------------------------------------------------------------------


def recorded(stage, src):
    """All that a sender says of a tree, asked in the same way."""
    run = stage.sender(src)
    said = []
    for kind, answer, members in (
            ("LIST", "LISTING", dict(dir=1, name="dir")), ("FETCH", "FILE", dict(request=2, name="small")),
            ("READ", "END", dict(request=3, name="big", window=1 << 30, block_bytes=65536)),
            ("DIGEST", "DIGESTED", dict(request=4, name="big")), ("FETCH", "FILE", dict(request=5, name="none")),
            ("STAT", "STATTED", dict(request=6, path="dir/one")), ("LIST", "LISTED", dict(dir=7, name="no"))):
        run.peer.say(kind, **members)
        said.append(run.peer.hear())
        while said[-1].type != answer:
            said.append(run.peer.hear())
    run.peer.goodbye()
    run.end()
    return sorted((one.type, one.body) for one in said)


def test_nothing_is_told_that_was_not_asked(stage, src):
    """CVE-2024-12085: memory that was never written is never sent, so that the same question has the same answer."""
    plant(src, {"dir/one": "1", "dir/two": "22", "small": noise(5000), "big": noise(3 * MIB), "name" * 60: ""})
    (src / "dir/link").symlink_to("x" * 300)
    os.utime(src / "dir/one", ns=(1, 10 ** 18 + 1))
    first = recorded(stage, src)
    for _ in range(3):
        assert recorded(stage, src) == first


@pytest.mark.parametrize("direction", ["pull", "push"])
def test_no_byte_that_was_not_written_is_sent(stage, drover, work, src, dst, direction):
    require("valgrind")
    if b"__asan_init" in Path(drover.binary).read_bytes():
        pytest.skip("valgrind does not run what sanitizers watch")
    plant(src, {"dir/one": "1", "small": noise(5000), "big": noise(700000)})
    words = ["valgrind", "-q", "--error-exitcode=99", "--undef-value-errors=yes", "--leak-check=no",
             f"--log-file={work}/valgrind.%p", drover.binary]
    program = work / "drover-in-valgrind"
    program.write_text("#!/bin/sh\nexec " + " ".join(map(str, words)) + ' "$@"\n')
    program.chmod(0o755)
    sides = (src, f"far:{dst}") if direction == "push" else (f"far:{src}", dst)
    drover.run("sync", "-e", NO_SHELL, "--remote-drover", program, "--io=threads", *sides, code=None, timeout_s=100)
    logs = "".join(path.read_text() for path in work.glob("valgrind.*"))
    # Of the others, ioctl() of inode flags is one that valgrind takes for longer than it is.
    assert not re.search(r"Syscall param (write|writev|send\w*)\(", logs), logs
    assert (dst / "small").read_bytes() == (src / "small").read_bytes()
