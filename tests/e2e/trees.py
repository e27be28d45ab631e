# SPDX-License-Identifier: Apache-2.0
"""Makes trees: small ones from a description (`plant`), and the nasty one that holds everything."""
import os
import random
import shutil
import socket
import stat
import struct
from dataclasses import dataclass
from pathlib import Path

from judge import FLAG_APPEND, FLAG_IMMUTABLE, FLAG_NOATIME, FLAG_NODUMP, XFS_ACL, set_flags
from lab import run

OLD_NS = 1_500_000_000_123_456_789  # a moment long ago, so that planted entries never look recent


@dataclass(frozen=True)
class Link:
    """A symbolic link to a target."""
    target: str


@dataclass(frozen=True)
class Hard:
    """Another name of an entry planted before."""
    path: str


@dataclass(frozen=True)
class Special:
    """A fifo, socket or device."""
    type: int
    rdev: int = 0


FIFO = Special(stat.S_IFIFO)


def plant(root, entries):
    """Makes entries under root: text or bytes is a file, None a directory, else one of the above.
    Parents are made as needed; everything gets one old mtime, deepest first."""
    root = Path(root)
    root.mkdir(exist_ok=True)
    made = {root}
    for name, what in entries.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if what is None:
            path.mkdir(exist_ok=True)
        elif isinstance(what, Link):
            path.symlink_to(what.target)
        elif isinstance(what, Hard):
            os.link(root / what.path, path, follow_symlinks=False)
        elif isinstance(what, Special):
            os.mknod(path, what.type | 0o640, what.rdev)
        else:
            path.write_bytes(what.encode() if isinstance(what, str) else what)
        made.add(path)
        made.update(parent for parent in path.parents if parent.is_relative_to(root))
    age(*made)
    return root


def age(*paths, mtime_ns=OLD_NS):
    for path in sorted(paths, key=lambda path: len(path.parts), reverse=True):
        os.utime(path, ns=(mtime_ns, mtime_ns), follow_symlinks=False)


def replace_by(path, what):
    """Removes what is at path, of any type, and plants something else there."""
    path = Path(path)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
    name = path.name
    made = {name: what}
    if what is None:
        path.mkdir()
    else:
        keep = path.parent.stat().st_mtime_ns
        plant(path.parent, made)
        age(path.parent, mtime_ns=keep)


def noise(size_bytes, seed=0):
    """Bytes that neither repeat nor compress."""
    return random.Random(seed).randbytes(size_bytes)


def many_files(root, count, size_bytes=200, per_directory=50, seed=0):
    """A plain tree of small files of about that size, each with content of its own."""
    root = Path(root)
    chance = random.Random(seed)
    root.mkdir(exist_ok=True)
    for number in range(count):
        folder = root / f"d{number // per_directory}"
        if number % per_directory == 0:
            folder.mkdir()
        path = folder / f"f{number}"
        path.write_bytes(b"%d %d\n" % (seed, number) + chance.randbytes(chance.randrange(2 * size_bytes)))
    return root


def deep_path(root, levels=30, name=b"d" * 200):
    """A chain of directories whose path is far longer than PATH_MAX, with files along it."""
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    for level in range(levels):
        os.mkdir(name, 0o750, dir_fd=fd)
        inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = inner
        leaf = os.open(b"leaf", os.O_WRONLY | os.O_CREAT, 0o640, dir_fd=fd)
        os.write(leaf, b"level %d" % level)
        os.close(leaf)
        os.symlink(b"leaf", b"link", dir_fd=fd)
    os.close(fd)


def _sockets(root):
    endpoint = socket.socket(socket.AF_UNIX)
    here = os.open(".", os.O_RDONLY)
    try:
        os.chdir(root)  # a socket's path is limited to 108 bytes
        endpoint.bind("socket")
    finally:
        os.fchdir(here)
        os.close(here)
        endpoint.close()
    os.chown(root / "socket", 12, 34)


def _names(root):
    """Names that trip over quoting, encoding, length or option parsing."""
    folder = root / "names"
    folder.mkdir()
    for name in (b"new\nline", b"tab\there", b"\xff\xfe not utf-8", b"-rf", b"--delete", b"x" * 255, b" lead",
                 b"trail ", b"*", b"?[a-z]", b"back\\slash", b"quote'\"`$(id)", b"...", b"\x01\x7f",
                 "ünïcödé ☃".encode(), b".drover", b".drover-notes", b"~", b"a=b", b"c:d", b"%s%n"):
        (folder / os.fsdecode(name)).write_bytes(name)
    (folder / os.fsdecode(b"dir\xff\n")).mkdir()
    (folder / os.fsdecode(b"dir\xff\n") / "inner").write_text("inner")
    os.symlink(b"to \xff\n nowhere", bytes(folder / "odd target"))
    os.symlink("t" * 1000, folder / "long target")


def _modes(root):
    folder = root / "modes"
    folder.mkdir()
    for mode in (0o000, 0o400, 0o200, 0o644, 0o777, 0o4755, 0o2755, 0o2745, 0o6711, 0o1644, 0o7777):
        path = folder / f"{mode:o}"
        path.write_text(f"{mode:o}")
        os.chown(path, 1000 + mode % 7, 2000 + mode % 5)
        path.chmod(mode)
    for mode in (0o000, 0o500, 0o555, 0o1777, 0o2775, 0o3700):
        path = folder / f"dir{mode:o}"
        path.mkdir()
        (path / "inner").write_text("inner")
        os.chown(path, 1, 2)
        path.chmod(mode)
    os.chown(folder / "644", 4_000_000_000, 4_100_000_000)
    os.symlink("644", folder / "link")
    os.chown(folder / "link", 77, 88, follow_symlinks=False)


def _specials(root):
    folder = root / "specials"
    folder.mkdir()
    os.mknod(folder / "fifo", stat.S_IFIFO | 0o604)
    os.mknod(folder / "char", stat.S_IFCHR | 0o620, os.makedev(5, 1))
    os.mknod(folder / "block", stat.S_IFBLK | 0o660, os.makedev(259, 70_000))
    os.chown(folder / "fifo", 3, 4)
    os.chown(folder / "char", 5, 6)
    _sockets(folder)


def _hard_links(root):
    for folder in ("links/a", "links/b/c"):
        (root / folder).mkdir(parents=True)
    (root / "links/a/file").write_text("one inode")
    os.symlink("file", root / "links/a/symlink")
    os.mkfifo(root / "links/a/fifo")
    os.mknod(root / "links/a/device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    for kind in ("file", "symlink", "fifo", "device"):
        for name in (f"links/b/{kind}", f"links/b/c/{kind}", f"links/another {kind}"):
            os.link(root / "links/a" / kind, root / name, follow_symlinks=False)
    (root / "links/empty").write_bytes(b"")
    os.link(root / "links/empty", root / "links/empty too")


def _sparse(root):
    folder = root / "sparse"
    folder.mkdir()
    for name, size, pieces in (
            ("lead", 3 << 20, [(2 << 20, 70_000)]), ("trail", 3 << 20, [(0, 70_000)]), ("hole", 5 << 20, []),
            ("many", 4 << 20, [(at << 18, 4096) for at in range(16)]), ("odd", (1 << 20) + 1, [(1 << 20, 1)]),
            ("full", 100_000, [(0, 100_000)])):
        with open(folder / name, "wb") as file:
            file.truncate(size)
            for position, length in pieces:
                file.seek(position)
                file.write(noise(length, position))
    (folder / "empty").write_bytes(b"")
    (folder / "zeros").write_bytes(bytes(300_000))


def _acls(root):
    folder = root / "acl"
    folder.mkdir()
    (folder / "file").write_text("acl")
    (folder / "dir").mkdir()
    (folder / "both").mkdir()
    (folder / "masked").write_text("masked")
    run("setfacl", "-m", "u:1234:rwx,g:55:r,m::rx", folder / "file")
    run("setfacl", "-d", "-m", "u:1234:rwx,g:55:r-x,o::-", folder / "dir")
    run("setfacl", "-m", "u:7:rwx", "-d", "-m", "u:8:r", folder / "both")
    run("setfacl", "-m", "u:1:rw,m::-", folder / "masked")
    (folder / "dir/inherits").write_text("has what it inherited")
    (folder / "dir/plain").write_text("has none although the directory would give it one")
    run("setfacl", "-b", folder / "dir/plain")
    (folder / "dir/sub").mkdir()
    run("setfacl", "-b", folder / "dir/sub")


def _xattrs(root, traits):
    folder = root / "xattr"
    folder.mkdir()
    for name in ("few", "many", "large", "empty value", "capable", "security"):
        (folder / name).write_text(name)
    (folder / "dir").mkdir()
    os.symlink("few", folder / "symlink")
    os.mkfifo(folder / "fifo")
    if "user" in traits:
        os.setxattr(folder / "few", "user.one", b"\0binary\xff")
        for number in range(30):
            os.setxattr(folder / "many", f"user.number.{number}", b"%d" % number)
        os.setxattr(folder / "large", "user.large", noise(3000))
        os.setxattr(folder / "empty value", "user.empty", b"")
        os.setxattr(folder / "dir", "user.dir", b"of a directory")
        (folder / "few").chmod(0o444)
    if "trusted" in traits:
        for name in ("few", "dir", "symlink", "fifo"):
            os.setxattr(folder / name, "trusted.t", name.encode(), follow_symlinks=False)
    if "security" in traits:
        net_raw = 1 << 13
        os.chown(folder / "capable", 1000, 1000)
        os.setxattr(folder / "capable", "security.capability",
                    struct.pack("<5I", 0x02000001, net_raw, 0, 0, 0))
        os.setxattr(folder / "security", "security.drover", b"s")


def _times(root):
    folder = root / "times"
    folder.mkdir()
    moments = {"1950": -631_000_000_000_000_001, "epoch": 0, "before": -1, "2040": 2_208_988_800_999_999_999,
               "2100": 4_102_444_800_000_000_001, "now": 1_700_000_000_000_000_007}
    for name, mtime_ns in moments.items():
        (folder / f"file{name}").write_text(name)
        (folder / f"dir{name}").mkdir()
        (folder / f"dir{name}" / "inner").write_text("inner")
        os.symlink("nowhere", folder / f"link{name}")
        os.mkfifo(folder / f"fifo{name}")
        age(*(folder / f"{kind}{name}" for kind in ("file", "dir", "link", "fifo")), mtime_ns=mtime_ns)
    age(folder, mtime_ns=moments["1950"])


def _flags(root):
    folder = root / "flags"
    (folder / "immutable dir" / "sub").mkdir(parents=True)
    (folder / "append dir").mkdir()
    (folder / "plain dir").mkdir()
    (folder / "immutable dir" / "inner").write_text("inner")
    (folder / "immutable dir" / "sub" / "inner").write_text("inner")
    (folder / "append dir" / "inner").write_text("inner")
    for name, flags in (("immutable", FLAG_IMMUTABLE), ("append", FLAG_APPEND), ("nodump", FLAG_NODUMP),
                        ("noatime", FLAG_NOATIME), ("immutable dir", FLAG_IMMUTABLE), ("append dir", FLAG_APPEND),
                        ("plain dir", FLAG_NODUMP | FLAG_NOATIME), ("all", 0xF0)):
        path = folder / name
        if not path.is_dir():
            path.write_text(name)
            path.chmod(0o440)
        set_flags(path, flags)


def nasty(root, traits):
    """Everything a Linux tree can hold, as far as the file system has the traits for it."""
    root = Path(root)
    root.mkdir(exist_ok=True)
    (root / "empty dir").mkdir()
    (root / "empty file").write_bytes(b"")
    (root / "plain").write_text("plain")
    (root / "crowd").mkdir()
    for number in range(1000):
        (root / "crowd" / f"entry {number}").write_bytes(b"%d" % number)
    nested = root / "nested"
    for level in range(60):
        nested.mkdir()
        (nested / "leaf").write_text(str(level))
        nested = nested / f"level {level}"
    _names(root)
    _modes(root)
    _specials(root)
    _hard_links(root)
    _sparse(root)
    _xattrs(root, traits)
    _times(root)
    if "acl" in traits:
        _acls(root)
    if "flags" in traits:
        _flags(root)
    os.chown(root, 11, 22)
    root.chmod(0o751)
    age(root)
    return root


def replicate(src, dst):
    """An equal copy, by another tool. Without the filter rsync removes what xfs shows of ACLs, and thereby the ACLs."""
    run("rsync", "-aHAXS", "--numeric-ids", "--modify-window=-1", f"--filter=-x {XFS_ACL}*", f"{src}/", f"{dst}/")
    return dst


def two_versions(old, new, count=200):
    """A tree and a later version of it: contents, metadata, types, names and links changed all over."""
    many_files(old, count, per_directory=20, seed=1)
    plant(old / "more", {"turns/into/a file": "x", "file": "turns into a directory", "one": "one",
                         "one too": Hard("one"), "two": "another", "symlink": Link("one"),
                         "big": noise(3 << 20, seed=2)})
    run("rsync", "-aHAX", f"{old}/", f"{new}/")
    for number, path in enumerate(sorted(new.glob("d*/f*"))):
        kind = number % 7
        if kind == 0:
            path.write_bytes(b"new %d\n" % number + noise(500, seed=number))
            os.chown(path, 1000, 2000)
            path.chmod(0o4711)
            os.setxattr(path, "user.version", b"new")
        elif kind == 1:
            path.unlink()
        elif kind == 2:
            path.unlink()
            path.symlink_to("elsewhere")
        elif kind == 3:
            age(path, mtime_ns=OLD_NS + number)
        elif kind == 4:
            path.chmod(0o600)
        elif kind == 5:
            path.rename(path.with_name(path.name + " renamed"))
    replace_by(new / "more/turns", "a file now")
    replace_by(new / "more/file", None)
    plant(new / "more/file", {"inner": "inner"})
    replace_by(new / "more/symlink", Link("two"))
    replace_by(new / "more/big", noise(3 << 20, seed=3))
    age(new / "more/big", mtime_ns=OLD_NS + 1)
    (new / "more/one too").unlink()
    os.link(new / "more/two", new / "more/one too")
    plant(new / "added", {f"d{number}/file": "added" for number in range(10)})
