# SPDX-License-Identifier: Apache-2.0
"""The trees the checks copy, made on the server's own file system."""
import os
import random
import stat

from lab import sh

OLD_NS = 1_000_000_007_123_456_789
MIB = 1 << 20


def write(path, data, mode=0o644, owner=(0, 0)):
    path.write_bytes(data)
    os.chown(path, *owner)
    path.chmod(mode)


def plain(root, folders, files, size, owner=(0, 0), seed=1):
    """folders x files regular files of one size, contents and times all different."""
    noise = random.Random(seed)
    for folder in range(folders):
        place = root / f'dir{folder:03}'
        place.mkdir(exist_ok=True)
        for file in range(files):
            path = place / f'file{file:04}'
            write(path, noise.randbytes(size), owner=owner)
            os.utime(path, ns=(OLD_NS, OLD_NS + folder * 1_000_003 + file))
        os.utime(place, ns=(OLD_NS, OLD_NS + folder))


def names(root):
    """Names that break programs: every byte but / and NUL, full length, and text that looks like something else."""
    place = root / 'names'
    place.mkdir()
    awkward = [b'-rf', b' ', b'new\nline', b'tab\there', b'back\\slash', b'*?[a]', b'quote\'"', b'\xff\xfe not utf-8',
               'été'.encode(), b'~tilde', b'...', b'#hash', b'a' * 255, b'\xc3\xa9' * 127 + b'x', b'.hidden']
    for number, name in enumerate(awkward):
        with open(os.path.join(os.fsencode(place), name), 'wb') as file:
            file.write(b'%d' % number)
    deep = place
    for level in range(12):
        deep = deep / (f'{level}' + 'd' * 200)
        deep.mkdir()
    write(deep / 'bottom', b'deep')


def special(root):
    """Links, fifos, sockets, devices, modes, owners and times."""
    write(root / 'one', b'one file, three names', owner=(1000, 1001))
    os.mkdir(root / 'linked')
    os.link(root / 'one', root / 'linked' / 'two')
    os.link(root / 'one', root / 'linked' / 'three')
    os.symlink('one', root / 'to-one')
    os.symlink('/does/not/exist', root / 'dangling')
    os.symlink('x' * 1000, root / 'long-link')
    os.link(root / 'dangling', root / 'linked' / 'dangling-too', follow_symlinks=False)
    os.lchown(root / 'dangling', 1234, 4321)
    os.utime(root / 'dangling', ns=(OLD_NS, OLD_NS + 5), follow_symlinks=False)
    os.mkfifo(root / 'fifo', 0o640)
    os.mknod(root / 'socket', stat.S_IFSOCK | 0o600)
    os.mknod(root / 'null', stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(root / 'disk', stat.S_IFBLK | 0o660, os.makedev(259, 70000))
    write(root / 'empty', b'')
    for mode in (0o000, 0o400, 0o444, 0o755, 0o2755, 0o4711, 0o6755, 0o1644):
        write(root / f'mode-{mode:o}', b'mode', mode, owner=(1000, 100))
    write(root / 'large-ids', b'ids', owner=(4_000_000_000, 3_999_999_999))
    for name, mode in (('read-only', 0o555), ('sticky', 0o1777), ('inherits', 0o2775), ('closed', 0o700)):
        place = root / name
        place.mkdir()
        write(place / 'inside', name.encode(), owner=(1000, 1000))
        os.chown(place, 1000, 50)
        place.chmod(mode)
    for name, moment in (('ns', OLD_NS), ('epoch', 0), ('past-2038', 4_200_000_000_987_654_321)):
        write(root / f'time-{name}', b'time')
        os.utime(root / f'time-{name}', ns=(moment, moment))


def sparse(root):
    """Data at the start, in the middle and nowhere."""
    with open(root / 'holes', 'wb') as file:
        file.write(os.urandom(MIB))
        file.seek(40 * MIB)
        file.write(os.urandom(MIB + 3))
        file.truncate(64 * MIB)
    with open(root / 'all-hole', 'wb') as file:
        file.truncate(16 * MIB + 1)
    # Longer than one read or write of the mounts, and no multiple of anything.
    write(root / 'large', os.urandom(9 * MIB + 4321))


def posix_acls(root):
    """Access and default ACLs: what NFSv3 shows as they are and NFSv4 as its own kind."""
    place = root / 'acl'
    place.mkdir()
    write(place / 'file', b'acl', 0o640, owner=(1000, 1000))
    sh('setfacl', '-m', 'u:1005:rw,g:1006:r,m::rw', place / 'file')
    (place / 'folder').mkdir()
    write(place / 'folder' / 'without', b'made before there was anything to inherit')
    sh('setfacl', '-m', 'u:1005:rwx,d:u:1005:rx,d:g:1007:rwx,d:m::rwx', place / 'folder')


def masked_acl(root):
    """Rights that the mask takes away: NFSv4 shows only what is left of them, so no copy over it can have them."""
    write(root / 'acl' / 'folder' / 'inherited', b'u:1005:r-x with a mask of r--')


def user_xattrs(root):
    place = root / 'xattr'
    place.mkdir()
    write(place / 'file', b'xattr')
    os.setxattr(place / 'file', 'user.binary', bytes(range(256)))
    os.setxattr(place / 'file', 'user.empty', b'')
    os.setxattr(place / 'file', 'user.large', b'v' * 2000)
    os.setxattr(place, 'user.on-folder', b'yes')
    write(place / 'read-only', b'xattr', 0o444)
    os.setxattr(place / 'read-only', 'user.kept', b'1')


def settle(root):
    """Gives directories old times, deepest first, now that nothing is made in them any more."""
    for number, (folder, _, _) in enumerate(os.walk(root, topdown=False)):
        os.utime(folder, ns=(OLD_NS, OLD_NS + number))


def nasty(root, version):
    """All that an NFS mount of this version can hold."""
    names(root)
    special(root)
    sparse(root)
    posix_acls(root)
    if version == '3':
        masked_acl(root)
    else:
        user_xattrs(root)
        write(root / 'time-1960', b'before the epoch: NFSv3 has no such time')
        os.utime(root / 'time-1960', ns=(-300_000_000_000_000_001, -300_000_000_000_000_001))
    plain(root, 4, 10, 3000)
    settle(root)
