# SPDX-License-Identifier: Apache-2.0
"""Says whether two trees are equal. drover has no part in it.

Two judges that know nothing of each other: `Snapshot` reads a tree through directory descriptors (so
it follows no link and no path is too long for it), and `assert_tools_agree` asks rsync, find, getfacl and getfattr.
"""
import array
import errno
import fcntl
import hashlib
import os
import stat
import subprocess
from dataclasses import dataclass, fields, replace

FLAG_IMMUTABLE, FLAG_APPEND, FLAG_NODUMP, FLAG_NOATIME = 0x10, 0x20, 0x40, 0x80
XFS_ACL = "trusted.SGI_ACL_"  # xfs shows ACLs a second time, as attributes of its own
FLAGS_JUDGED = FLAG_IMMUTABLE | FLAG_APPEND | FLAG_NODUMP | FLAG_NOATIME
_FS_IOC_GETFLAGS, _FS_IOC_SETFLAGS = 0x80086601, 0x40086602

_BLOCK = 1 << 16
_ZEROS = bytes(_BLOCK)


def get_flags(fd):
    """Inode flags of an open file, 0 where the file system has none."""
    value = array.array("L", [0])
    try:
        fcntl.ioctl(fd, _FS_IOC_GETFLAGS, value)
    except OSError as error:
        if error.errno not in (errno.ENOTTY, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            raise
    return value[0]


def set_flags(path, add=0, remove=0):
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    try:
        value = array.array("L", [0])
        fcntl.ioctl(fd, _FS_IOC_GETFLAGS, value)
        value[0] = (value[0] | add) & ~remove
        fcntl.ioctl(fd, _FS_IOC_SETFLAGS, value)
    finally:
        os.close(fd)


def data_map(fd):
    """The (start, end) ranges of a file that are not holes."""
    ranges, position, size = [], 0, os.fstat(fd).st_size
    while position < size:
        try:
            start = os.lseek(fd, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                break
            raise
        position = os.lseek(fd, start, os.SEEK_HOLE)
        ranges.append((start, position))
    return ranges


def map_of(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        return data_map(fd)
    finally:
        os.close(fd)


def content_digest(fd):
    """SHA-256 over the blocks that are not zero, each with its offset: the same however holes lie."""
    digest, done = hashlib.sha256(), 0
    for start, end in data_map(fd):
        for position in range(max(done, start & -_BLOCK), end, _BLOCK):
            block = os.pread(fd, _BLOCK, position)
            if block != _ZEROS[:len(block)]:
                digest.update(b"%d:%d:" % (position, len(block)))
                digest.update(block)
            done = position + _BLOCK
    return digest.hexdigest()


def digest_of(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        return content_digest(fd)
    finally:
        os.close(fd)


@dataclass(frozen=True)
class Record:
    """What has to be equal of one entry. None where its type has no such thing."""
    type: str
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    size: int | None = None
    rdev: int | None = None
    target: bytes | None = None
    content: str | None = None
    flags: int = 0
    xattrs: tuple = ()
    links: tuple = ()  # every path of the tree that leads to the same inode, when there are several

    def differs_from(self, other, ignore=()):
        return [f"{field.name}: {getattr(self, field.name)!r} != {getattr(other, field.name)!r}"
                for field in fields(Record)
                if field.name not in ignore and getattr(self, field.name) != getattr(other, field.name)]


_TYPES = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink", stat.S_IFIFO: "fifo",
          stat.S_IFSOCK: "socket", stat.S_IFCHR: "char", stat.S_IFBLK: "block"}


class Snapshot:
    """A tree as it is now: `records` by path (bytes, b"." is the root) and, in `touched`, what any
    write to an entry would change (device, inode, ctime)."""

    def __init__(self, root, content=True):
        self.records, self.touched = {}, {}
        self._content = content
        self._groups = {}
        fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self._note(b".", fd, b".", os.fstat(fd))
            self._walk(fd, b"")
        finally:
            os.close(fd)
        for paths in self._groups.values():
            if len(paths) > 1:
                for path in paths:
                    self.records[path] = replace(self.records[path], links=tuple(sorted(paths)))

    def _walk(self, fd, prefix):
        for name in os.listdir(fd):
            name = os.fsencode(name)
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
            self._note(prefix + name, fd, name, status)
            if stat.S_ISDIR(status.st_mode):
                child = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=fd)
                try:
                    self._walk(child, prefix + name + b"/")
                finally:
                    os.close(child)
            elif status.st_nlink > 1:
                self._groups.setdefault((status.st_dev, status.st_ino), []).append(prefix + name)

    def _note(self, path, dir_fd, name, status):
        kind = _TYPES[stat.S_IFMT(status.st_mode)]
        facts = {}
        if kind == "symlink":
            facts["target"] = os.readlink(name, dir_fd=dir_fd)
        elif kind in ("char", "block"):
            facts["rdev"] = status.st_rdev
        elif kind in ("file", "directory"):
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=dir_fd)
            try:
                facts["flags"] = get_flags(fd) & FLAGS_JUDGED
                if kind == "file":
                    facts["size"] = status.st_size
                    facts["content"] = content_digest(fd) if self._content else None
            finally:
                os.close(fd)
        held = b"/proc/self/fd/%d/%s" % (dir_fd, name)
        self.records[path] = Record(
            type=kind, mode=stat.S_IMODE(status.st_mode), uid=status.st_uid, gid=status.st_gid,
            mtime_ns=status.st_mtime_ns, xattrs=_xattrs(held), **facts)
        self.touched[path] = (status.st_dev, status.st_ino, status.st_ctime_ns)

    def differences(self, other, ignore=()):
        """One line for each entry in which the two trees differ."""
        lines = []
        for path in sorted(self.records.keys() | other.records.keys()):
            mine, theirs = self.records.get(path), other.records.get(path)
            if mine is None or theirs is None:
                lines.append(f"{path!r}: {'extra' if mine is None else 'missing'} at the destination")
            else:
                lines += [f"{path!r}: {words}" for words in mine.differs_from(theirs, ignore)]
        return lines


def _xattrs(path):
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            return ()
        raise
    return tuple((name, os.getxattr(path, name, follow_symlinks=False)) for name in sorted(names)
                 if not name.startswith(XFS_ACL))


def _fail_if(lines, words):
    assert not lines, f"{words}:\n  " + "\n  ".join(lines[:30])


def assert_equal(src, dst, ignore=(), but=()):
    """Both trees hold the same, but for the ignored fields and the paths in `but`."""
    source, destination = Snapshot(src), Snapshot(dst)
    for path in but:
        source.records.pop(os.fsencode(path), None)
        destination.records.pop(os.fsencode(path), None)
    _fail_if(source.differences(destination, ignore), f"{src} and {dst} differ")


def assert_untouched(before, after, but=()):
    """Nobody wrote to the tree between two snapshots; `but` names entries (bytes) that may have been."""
    lines = [f"{path!r} was touched" for path in sorted(before.touched.keys() | after.touched.keys())
             if path not in but and before.touched.get(path) != after.touched.get(path)]
    _fail_if(lines, "entries were written to that need not be")


def assert_least_touched(before, after):
    """Between two snapshots of a destination, only what differs was written to, and the directories it is in."""
    changed = {path for path in before.records.keys() | after.records.keys()
               if before.records.get(path) != after.records.get(path)}
    parents = {os.path.dirname(path) or b"." for path in changed}
    assert_untouched(before, after, but=changed | parents | {b"."})


def rsync_itemize(src, dst, *options, dry_run=True):
    """What rsync would change to make DST equal SRC (times compared to the nanosecond), as its own lines."""
    command = ["rsync", "-aHAX", "--numeric-ids", "--modify-window=-1", "--filter=-x system.*",
               f"--filter=-x {XFS_ACL}*", "-i", *(["-n"] if dry_run else []), *options, f"{src}/", f"{dst}/"]
    result = subprocess.run(command, capture_output=True)
    assert result.returncode == 0, f"{command}: {result.stderr.decode(errors='replace')}"
    return [line for line in result.stdout.splitlines() if not line.startswith(b"created directory ")]


def assert_tools_agree(src, dst):
    """rsync, find, getfattr and getfacl see no difference either."""
    lines = rsync_itemize(src, dst, "--delete", "--checksum")
    _fail_if([repr(line) for line in lines], "rsync sees differences")
    form = "%y %m %U %G %s %T@ %n %l %P\\0"
    for command, separator in (
            (["find", ".", "-not", "-type", "d", "-printf", form], b"\0"),
            (["find", ".", "-type", "d", "-printf", "%y %m %U %G %T@ %P\\0"], b"\0"),
            (["getfattr", "-Rhd", "-m", "-", "-e", "hex", "."], b"\n\n"),
            (["getfacl", "-Rn", "."], b"\n\n")):
        source, destination = (_dump(command, separator, root) for root in (src, dst))
        _fail_if([repr(line) for line in sorted(source ^ destination)], f"{command[0]} sees differences")


def _dump(command, separator, root):
    result = subprocess.run(command, cwd=root, capture_output=True)
    assert result.returncode == 0, f"{command}: {result.stderr.decode(errors='replace')}"
    return {b"\n".join(line for line in part.split(b"\n") if not line.startswith(XFS_ACL.encode()))
            for part in result.stdout.split(separator)}


def litter(dst):
    """Names that drover should have cleaned away. May be asked while it runs."""
    return subprocess.run(["find", dst, "-name", ".drover.*"], capture_output=True).stdout.splitlines()
