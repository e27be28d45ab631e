# SPDX-License-Identifier: Apache-2.0
"""The trees that are copied, the same on every machine (but for their bytes' worth), and how they change."""
import os
import random
import subprocess

MIB, GIB = 1 << 20, 1 << 30
YEAR_NS = 365 * 86400 * 10**9
EPOCH_NS = 1_500_000_000_000_000_000
# Contents are slices of one block of noise: no two files are equal, nothing compresses, and making them is cheap.
NOISE = random.Random(4).randbytes(4 * MIB)


class Maker:
    def __init__(self, seed):
        self.random = random.Random(seed)

    def file(self, path, size, owner=0):
        with open(path, 'wb', buffering=0) as stream:
            left = size
            while left > 0:
                start = self.random.randrange(len(NOISE) // 2)
                left -= stream.write(NOISE[start:start + min(left, len(NOISE) - start)])
            if owner:
                os.fchown(stream.fileno(), owner, owner)
        self.age(path)

    def age(self, path, follow=True):
        moment = EPOCH_NS + self.random.randrange(5 * YEAR_NS)
        os.utime(path, ns=(moment, moment), follow_symlinks=follow)

    def age_directories(self, root):
        for folder, _, _ in os.walk(root, topdown=False):
            self.age(folder)


def small(root, scale):
    """100,000 files of 1 to 16 KiB in 5,000 directories."""
    make = Maker(1)
    tops, subs, files = 50, max(1, round(99 * scale)), 20
    for top in range(tops):
        for sub in range(-1, subs):
            folder = root / f'top{top:02}' / (f'sub{sub:02}' if sub >= 0 else '')
            folder.mkdir(parents=True, exist_ok=True)
            for file in range(files):
                make.file(folder / f'file{file:02}.dat', make.random.randint(1 << 10, 16 << 10))
    make.age_directories(root)


def home_sizes(make, count, total):
    """Log-normal sizes, as home directories have them, none beyond 1 GiB, that sum up to about the total."""
    raw = [min(make.random.lognormvariate(9.7, 2.4), 300 * MIB) for _ in range(count)]
    factor = total / sum(raw)
    return [min(int(size * factor), GIB) for size in raw]


def home(root, scale):
    """Home directories: 20,000 files, 7 GiB, with hard and symbolic links, sparse files, ACLs, xattrs, many owners."""
    make = Maker(2)
    homes, folders = 40, 25
    per_folder = max(1, round(20 * scale))
    sizes = home_sizes(make, homes * folders * per_folder, round(7 * GIB * scale))
    made, with_acl = [], []
    for user in range(homes):
        for folder in range(folders):
            place = root / f'user{user:02}' / f'project{folder % 5}' / f'part{folder // 5}'
            place.mkdir(parents=True, exist_ok=True)
            os.chown(place, 1000 + user, 1000 + user)
            for number in range(per_folder):
                path = place / f'document-{number:03}.bin'
                make.file(path, sizes.pop(), owner=1000 + user)
                made.append(path)
                odd_one(make, path, made, with_acl)
    give_acls(with_acl, root)
    make.age_directories(root)


def odd_one(make, path, made, with_acl):
    """Gives one file in some what makes it more than a plain file."""
    dice = make.random.random()
    if dice < 0.02:  # to a file anywhere, or of the same home
        anywhere, near = make.random.randrange(len(made)), -make.random.randint(1, min(9, len(made)))
        os.link(made[anywhere if dice < 0.005 else near], path.with_suffix('.linked'))
    elif dice < 0.05:
        link = path.with_suffix('.link')
        os.symlink('../part0/' + path.name, link)
        make.age(link, follow=False)
    elif dice < 0.053:
        hollow = path.with_suffix('.sparse')
        with open(hollow, 'wb') as stream:
            for place in range(4):
                stream.seek(place * 16 * MIB)
                stream.write(NOISE[:64 << 10])
            stream.truncate(80 * MIB)
        make.age(hollow)
    elif dice < 0.073:
        os.setxattr(path, 'user.comment', b'kept by whoever keeps everything')
        os.setxattr(path, 'user.checksum', NOISE[:32])
    elif dice < 0.083:
        with_acl.append(path)


def give_acls(paths, root):
    text = '\0'.join(str(path) for path in paths)
    subprocess.run(['xargs', '-0', '-r', 'setfacl', '-m', 'u:1100:rw,g:1200:r'], input=text, text=True, check=True)
    subprocess.run(['setfacl', '-m', 'd:g:1200:rx', root / 'user00/project0'], check=True)


def large(root, scale):
    """Four files of 1 GiB."""
    make = Maker(3)
    for number in range(4):
        make.file(root / f'large{number}', round(GIB * scale))
    make.age(root)


def sparse(root, scale):
    """One file of 20 GiB that holds 16 MiB in 16 places."""
    size = round(20 * GIB * scale)
    with open(root / 'disk.img', 'wb') as stream:
        for place in range(16):
            stream.seek(place * (size // 16) // 4096 * 4096)
            stream.write(NOISE[:MIB])
        stream.truncate(size)


def database(root, scale):
    """One file of 2 GiB."""
    make = Maker(6)
    make.file(root / 'database', round(2 * GIB * scale))
    make.age(root)


def rewrite_pages(path, share, seed):
    """New content for that share of a file's pages of 8 KiB, in place."""
    chance = random.Random(seed)
    count = os.path.getsize(path) // 8192
    with open(path, 'r+b', buffering=0) as stream:
        for page in sorted(chance.sample(range(count), max(1, int(count * share)))):
            stream.seek(page * 8192)
            stream.write(chance.randbytes(8192))
    moment = EPOCH_NS + seed * 86400 * 10**9  # rsync looks at seconds only
    os.utime(path, ns=(moment, moment))


def million(root, scale):
    """A million files of up to 200 bytes in 1,000 directories."""
    make = Maker(7)
    for folder in range(max(1, round(1000 * scale))):
        place = root / f'top{folder // 100}' / f'dir{folder:04}'
        place.mkdir(parents=True)
        for file in range(1000):
            (place / f'file{file:04}').write_bytes(NOISE[file:file + make.random.randrange(200)])


def latency(root, scale):
    """2,000 files of 1 to 16 KiB in 100 directories, for the file system with latency."""
    make = Maker(5)
    for folder in range(max(1, round(100 * scale))):
        place = root / f'top{folder % 10}' / f'dir{folder:03}'
        place.mkdir(parents=True)
        for file in range(20):
            make.file(place / f'file{file:02}', make.random.randint(1 << 10, 16 << 10))
    make.age_directories(root)


def change(root, seed):
    """Rewrites 1 % of the files, each with another size and time; how many."""
    make = Maker(seed)
    paths = sorted(os.path.join(folder, name) for folder, _, names in os.walk(root) for name in names)
    chosen = make.random.sample(paths, max(1, len(paths) // 100))
    for path in chosen:
        make.file(path, os.path.getsize(path) + make.random.randint(1, 999))
    return len(chosen)


def count_files(root):
    return sum(len(names) for _, _, names in os.walk(root))
