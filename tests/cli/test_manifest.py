# SPDX-License-Identifier: Apache-2.0
"""Manifests and comparisons, as the command line tells them. What is compared, and how well, is for tests/e2e."""
import csv
import hashlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import time

import pytest


@pytest.fixture
def tree(tmp_path):
    """Some entries of most types, of an old time."""
    tree = tmp_path / "tree"
    (tree / "dir/deep").mkdir(parents=True)
    (tree / "file").write_bytes(os.urandom(200_000))
    for number in range(5):
        (tree / f"dir/file {number}").write_text(f"content {number}")
    (tree / "dir/deep/empty").touch()
    (tree / "link").symlink_to("file")
    os.mkfifo(tree / "fifo")
    for path in sorted(tree.rglob("*"), reverse=True):
        os.utime(path, (1_000_000_000, 1_000_000_000), follow_symlinks=False)
    return tree


@pytest.fixture
def manifest(drover, tree, tmp_path):
    path = tmp_path / "manifest"
    assert drover("manifest", "create", "-o", path, tree).returncode == 0
    return path


def change_silently(path):
    """One byte becomes another, and nobody was it."""
    status = path.stat()
    with path.open("r+b") as file:
        file.seek(100_000)
        byte = file.read(1)[0]
        file.seek(100_000)
        file.write(bytes([byte ^ 1]))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def root_digest(result):
    return re.search(r"root digest:? ([0-9a-f]+)", result.stdout + result.stderr)[1]


# ---- command lines


@pytest.mark.parametrize("command, arguments, words", [
    ("manifest create", ["tree"], "--output=FILE is missing"),
    ("manifest create", ["-o", "f"], "too few arguments: it takes TREE"),
    ("manifest create", ["-o", "f", "a", "b"], "too many arguments: it takes TREE"),
    ("manifest create", ["-o", "", "a"], "--output: must not be empty"),
    ("manifest create", ["-o", "f", ""], "names must not be empty"),
    ("manifest create", ["-o", "f", "--update", "--full", "a"], "--update and --full exclude each other"),
    ("manifest create", ["-o", "f", "--resume", "--restart", "a"], "--resume and --restart exclude each other"),
    ("manifest create", ["-o", "f", "--digest=md5", "a"], '--digest: "md5": not one of xxh128, sha256, blake2b'),
    ("manifest create", ["-o", "f", "--root=content,size", "a"],
     '--root: "size": not one of content, mode, owner, times, acl, xattr, all'),
    ("manifest create", ["-o", "f", "--root=", "a"], '--root: "": not one of content'),
    ("manifest create", ["-o", "f", "--block-size=100K", "a"], '--block-size: "100K": not a power of two from 8K to 16M'),
    ("manifest create", ["-o", "f", "--block-size=4K", "a"], "not a power of two from 8K to 16M"),
    ("manifest create", ["-o", "f", "--block-size=32M", "a"], "not a power of two from 8K to 16M"),
    ("manifest create", ["-o", "f", "--block-size=large", "a"], '--block-size: "large": not a size'),
    ("manifest create", ["-o", "f", "--delete", "a"], "unknown option --delete"),
    ("manifest create", ["-o", "f", "-v", "-q", "a"], "--verbose and --quiet exclude each other"),
    ("manifest check", [], "too few arguments: it takes FILE and perhaps TREE"),
    ("manifest check", ["f", "a", "b"], "too many arguments: it takes FILE and perhaps TREE"),
    ("manifest check", ["--ignore=owner,size", "f"], '--ignore: "size": not one of owner, mode, times, acl, xattr, flags'),
    ("manifest check", ["--jobs=0", "f"], '--jobs: "0": not from 1 to 1024'),
    ("manifest diff", ["a"], "too few arguments: it takes A and B"),
    ("manifest diff", ["a", "b", "c"], "too many arguments: it takes A and B"),
    ("manifest info", [], "too few arguments: it takes FILE"),
    ("manifest info", ["--root=all,", "f"], '--root: "": not one of'),
    ("manifest export", ["f"], "--format=KIND is missing"),
    ("manifest export", ["--format=xml", "f"], '--format: "xml": not one of xxhsum, jsonl, sqlite, csv'),
    ("manifest export", ["--format=sqlite", "f"], "--format=sqlite needs --output=FILE"),
    ("manifest export", ["--format=csv"], "too few arguments: it takes FILE"),
    ("verify", ["a"], "too few arguments: it takes SRC and DST, or --against=FILE"),
    ("verify", ["a", "b", "c"], "too many arguments: it takes SRC and DST, or --against=FILE"),
    ("verify", ["--against=f", "a", "b"], "too many arguments: it takes no more than TREE with --against"),
    ("verify", ["--against=", "a"], "--against: must not be empty"),
    ("verify", ["--log-file=/nowhere/log", "a", "b"], "--log-file: /nowhere/log: open: No such file or directory"),
], ids=lambda value: value if isinstance(value, str) else " ".join(value))
def test_a_wrong_command_line_is_one_clear_line(drover, command, arguments, words):
    result = drover(*command.split(), *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert re.fullmatch(rf"drover: {command}: .*{re.escape(words)}.* \(see drover {command} --help\)\n", result.stderr), result


@pytest.mark.parametrize("arguments", [["manifest", "frobnicate"], ["help", "manifest", "frobnicate"]], ids=" ".join)
def test_an_unknown_command_is_one_clear_line(drover, arguments):
    result = drover(*arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "drover: unknown command manifest frobnicate (see drover manifest --help)\n"


def test_a_group_without_a_command_shows_its_help(drover):
    result = drover("manifest")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == drover("manifest", "--help").stdout


@pytest.mark.parametrize("arguments, words", [
    (["manifest", "check", "{}/none"], "No such file or directory"),
    (["manifest", "check", "{}/tree/file", "{}/tree"], "not a drover manifest"),
    (["manifest", "check", "{}/manifest", "{}/none"], "No such file or directory"),
    (["manifest", "create", "-o", "{}/none/m", "{}/tree"], "No such file or directory"),
    (["manifest", "create", "-o", "{}/m", "{}/none"], "No such file or directory"),
    (["manifest", "create", "-o", "{}/manifest", "{}/tree"], "--update"),
    (["manifest", "create", "-o", "{}/manifest", "{}/tree"], "--full"),
    (["manifest", "diff", "{}/manifest", "{}/none"], "No such file or directory"),
    (["manifest", "info", "{}/none"], "No such file or directory"),
    (["manifest", "info", "{}/tree"], "Is a directory"),
    (["manifest", "export", "--format=csv", "{}/none"], "No such file or directory"),
    (["manifest", "export", "--format=csv", "-o", "{}/manifest", "{}/manifest"], "there is such a file"),
    (["manifest", "export", "--format=sqlite", "-o", "{}/none/db", "{}/manifest"], "No such file or directory"),
    (["verify", "{}/tree", "{}/none"], "No such file or directory"),
    (["verify", "--against={}/none", "{}/tree"], "No such file or directory"),
], ids=lambda value: value if isinstance(value, str) else " ".join(value))
def test_what_cannot_begin_is_one_clear_line(drover, manifest, tmp_path, arguments, words):
    result = drover(*[argument.format(tmp_path) for argument in arguments])
    command = " ".join(arguments[:2 if arguments[0] == "manifest" else 1])
    assert (result.returncode, result.stdout) == (5, "")
    assert result.stderr.startswith(f"drover: {command}: ") and result.stderr.count("\n") == 1
    assert words in result.stderr


# ---- create


def test_create_sums_up_in_a_line(drover, tree, tmp_path):
    result = drover("manifest", "create", "-o", tmp_path / "m", tree)
    assert (result.returncode, result.stdout) == (0, "")
    assert re.fullmatch(r"7 files, 195 KiB read in \S+ s; root digest [0-9a-f]{32}\n", result.stderr), result.stderr
    assert not (tmp_path / "m.part").exists()
    assert drover("manifest", "create", "-q", "-o", tmp_path / "m2", tree).stderr == ""


def test_update_says_what_it_trusted(drover, tree, manifest):
    (tree / "dir/file 1").write_text("other")
    result = drover("manifest", "create", "--update", "-o", manifest, tree)
    assert result.returncode == 0
    assert re.match(r"1 file, 5 B read in \S+ s; 6 files, 195 KiB trusted as recorded; root digest ", result.stderr)
    summary = json.loads(drover("manifest", "create", "--full", "--json", "-o", manifest, tree).stdout.splitlines()[-1])
    assert (summary["trusted_files"], summary["trusted_bytes"], summary["resumed"]) == (0, 0, False)
    assert summary["root_digest"] == root_digest(result)


def test_an_interrupted_one_is_unfinished_and_goes_on(drover, binary, tree, tmp_path):
    (tree / "large").write_bytes(bytes(range(256)) * (4 << 12))
    path, part = tmp_path / "m", tmp_path / "m.part"
    command = ["manifest", "create", "-o", path, tree]
    process = subprocess.Popen([binary, *command, "--bwlimit=1M"], stderr=subprocess.PIPE, text=True)
    while not (part.exists() and part.stat().st_size) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.startswith("stopped by SIGINT: ") and said.endswith("; the same command continues it\n")
    assert part.exists() and not path.exists()

    info = drover("manifest", "info", path)
    assert info.returncode == 1
    assert re.search(r"^state: +unfinished$", info.stdout, re.MULTILINE) and "root digest" not in info.stdout
    assert info.stderr.endswith(": unfinished; the same `drover manifest create` goes on with it\n")
    for arguments in (["diff", part, part], ["export", "--format=csv", part]):
        result = drover("manifest", *arguments)
        assert (result.returncode, "unfinished" in result.stderr) == (5, True)

    result = drover(*command)
    assert result.returncode == 0 and result.stderr.startswith("resumed: ")
    assert drover("manifest", "info", path).returncode == 0


# ---- info and the root digest


def test_info_tells_what_a_manifest_is_of(drover, tree, manifest):
    result = drover("manifest", "info", manifest)
    assert (result.returncode, result.stderr) == (0, "")
    lines = dict(re.match(r"([a-z ]+): +(.*)", line).groups() for line in result.stdout.splitlines())
    assert len({re.match(r"[a-z ]+: +", line).end() for line in result.stdout.splitlines()}) == 1, "not aligned"
    assert (lines["tree"], lines["state"], lines["digest"]) == (str(tree), "complete", "xxh128")
    assert (lines["entries"], lines["directories"], lines["files"], lines["unread"]) == ("12", "3", "7", "0")
    assert lines["bytes"] == f"195 KiB ({200_000 + 5 * 9:,} B)"
    assert re.fullmatch(r"[0-9a-f]{32} \(content, mode, owner, times\)", lines["root digest"])

    told = json.loads(drover("manifest", "info", "--json", manifest).stdout)
    assert (told["tree"], told["entries"], told["state"]) == (str(tree), 12, "complete")
    assert told["root_digest"] == root_digest(result)
    assert told["root_parts"] == ["content", "mode", "owner", "times"]


def test_info_tells_damage(drover, manifest):
    content = bytearray(manifest.read_bytes())
    at = content.index(b"file 3")
    content[at + 20] ^= 1
    manifest.write_bytes(content)
    result = drover("manifest", "info", manifest)
    assert result.returncode == 1
    assert re.search(r"^state: +damaged$", result.stdout, re.MULTILINE) and "root digest" not in result.stdout
    assert result.stderr.startswith(f"drover: manifest info: {manifest}: damaged")
    for arguments in (["diff", manifest, manifest], ["export", "--format=csv", manifest], ["check", manifest]):
        result = drover("manifest", *arguments)
        assert (result.returncode, "damaged" in result.stderr) == (5, True), result


def test_the_root_digest_is_that_of_a_copy_elsewhere(drover, tree, manifest, tmp_path):
    subprocess.run(["cp", "-a", tree, tmp_path / "copy"], check=True)
    (tmp_path / "copy/dir/file 2").chmod(0o600)
    drover("manifest", "create", "-o", tmp_path / "m", tmp_path / "copy")

    def digest(path, parts):
        return root_digest(drover("manifest", "info", f"--root={parts}", path))

    assert digest(manifest, "content,owner,times") == digest(tmp_path / "m", "content,owner,times")
    assert digest(manifest, "content,mode") != digest(tmp_path / "m", "content,mode")
    (tmp_path / "copy/dir/file 2").chmod((tree / "dir/file 2").stat().st_mode)
    drover("manifest", "create", "--full", "-o", tmp_path / "m", tmp_path / "copy")
    assert digest(manifest, "all") == digest(tmp_path / "m", "all")


@pytest.mark.parametrize("kind", ["xxh128", "sha256", "blake2b"])
def test_digests_are_those_of_other_tools(drover, tree, tmp_path, kind):
    assert drover("manifest", "create", f"--digest={kind}", "-o", tmp_path / "m", tree).returncode == 0
    rows = map(json.loads, drover("manifest", "export", "--format=jsonl", tmp_path / "m").stdout.splitlines())
    digests = {row["path"]: row["digest"] for row in rows if row["type"] == "file"}
    assert len(digests) == 7
    for path, digest in digests.items():
        if kind == "xxh128":
            said = subprocess.run(["xxhsum", "-H128", tree / path], text=True, capture_output=True, check=True).stdout
            assert digest == said.split()[0]
        else:
            assert digest == hashlib.new(kind, (tree / path).read_bytes()).hexdigest()


# ---- comparisons


@pytest.fixture
def changed(tree, tmp_path):
    """A copy of the tree with a difference of every class that needs no faults."""
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-a", tree, copy], check=True)
    change_silently(copy / "file")
    (copy / "dir/file 0").write_text("a new content")
    (copy / "dir/file 1").chmod(0o600)
    (copy / "dir/file 2").unlink()
    (copy / "dir/new\n").write_text("new")
    (copy / "dir/file 3").rename(copy / "dir/deep/moved")
    return copy


FINDINGS = """\
corrupt     file  bytes 65536-131071
edited      dir/file 0  size, content, mtime
extra       dir/new\\#012
metadata    dir/file 1  mode
missing     dir/file 2
moved       dir/deep/moved  from dir/file 3
"""


def comparisons(drover, tree, manifest, changed, *options):
    yield drover("manifest", "check", *options, manifest, changed)
    yield drover("verify", *options, "--against", manifest, changed)
    yield drover("verify", *options, tree, changed)
    other = changed.with_name("changed.manifest")
    drover("manifest", "create", "--full", "-o", other, changed)
    yield drover("manifest", "diff", *options, manifest, other)


def test_every_comparison_finds_the_same(drover, tree, manifest, changed):
    for result in comparisons(drover, tree, manifest, changed):
        assert "".join(sorted(result.stdout.splitlines(keepends=True))) == FINDINGS
        assert result.returncode == 7
        assert re.fullmatch(r"(\d files, 195 KiB )?compared in \S+ s: 1 corrupt, 1 edited, 1 metadata, 1 missing, "
                            r"1 extra, 1 moved\n", result.stderr), result.stderr


def test_quiet_leaves_the_findings(drover, tree, manifest, changed):
    for result in comparisons(drover, tree, manifest, changed, "-q"):
        assert (len(result.stdout.splitlines()), result.stderr) == (6, "")


def test_json_tells_the_findings(drover, tree, manifest, changed):
    for result in comparisons(drover, tree, manifest, changed, "--json"):
        events = list(map(json.loads, result.stdout.splitlines()))
        findings = {event["class"]: event for event in events if event["event"] == "finding"}
        assert findings["corrupt"]["ranges"] == [[65536, 65536]] and not findings["corrupt"]["more_ranges"]
        assert findings["edited"]["fields"] == ["size", "content", "mtime"]
        assert findings["metadata"]["fields"] == ["mode"]
        assert findings["extra"]["path"] == "dir/new\n"
        assert (findings["moved"]["path"], findings["moved"]["from"]) == ("dir/deep/moved", "dir/file 3")
        summary = events[-1]
        assert (summary["outcome"], summary["exit_code"]) == ("corrupt", 7)
        assert summary["classes"] == {name: int(name in findings) for name in summary["classes"]}
        assert result.stderr == ""


def test_exit_codes(drover, tree, manifest, tmp_path):
    for number in range(2):
        subprocess.run(["cp", "-a", tree, tmp_path / f"copy {number}"], check=True)
    other = tmp_path / "copy 0"
    for result in comparisons(drover, tree, manifest, tmp_path / "copy 1"):
        assert (result.returncode, result.stdout) == (0, "")
        assert result.stderr.endswith(": equal\n")
    (other / "dir/file 0").chmod(0o600)
    for result in comparisons(drover, tree, manifest, other):
        assert (result.returncode, result.stdout) == (6, "metadata    dir/file 0  mode\n")
    for result in comparisons(drover, tree, manifest, other, "--ignore=mode"):
        assert (result.returncode, result.stdout) == (0, "")
    for result in comparisons(drover, tree, manifest, other, "--no-perms"):
        assert (result.returncode, result.stdout) == (0, "")


def test_the_tree_of_a_manifest_is_known(drover, tree, manifest):
    assert drover("manifest", "check", manifest).returncode == 0
    (tree / "dir/file 0").write_text("a new content")
    for arguments in (["manifest", "check", manifest], ["verify", "--against", manifest]):
        result = drover(*arguments)
        assert (result.returncode, result.stdout) == (6, "edited      dir/file 0  size, content, mtime\n")


def test_stats_and_log(drover, tree, manifest, changed, tmp_path):
    result = drover("manifest", "check", "--stats", f"--log-file={tmp_path}/log", manifest, changed)
    figures = dict(re.findall(r"^(\S.*?)  +(\S.*)$", result.stdout, re.MULTILINE))
    assert (figures["corrupt"], figures["files"], figures["errors"]) == ("1", "7", "0")
    log = (tmp_path / "log").read_text()
    assert f" start drover 0.1.0 manifest check: {manifest} -> {changed}\n" in log
    for finding in FINDINGS.splitlines():
        assert f" finding {finding}\n" in log
    assert log.endswith("; exit code 7\n")


def test_findings_that_cannot_be_written_are_a_failure(binary, tree, manifest):
    (tree / "dir/file 0").write_text("a new content")
    with open("/dev/full", "w") as full:
        result = subprocess.run([binary, "manifest", "check", manifest], stdout=full, stderr=subprocess.PIPE, text=True)
    assert result.returncode == 1
    assert "drover: stdout: write: No space left on device\n" in result.stderr


# ---- export


ODD_NAMES = ["new\nline", "cr\r", "comma,", 'quote"', "back\\slash", "\\#012", "no text \udcff", "wörld 映画", " ", "stdin", "-"]


@pytest.fixture
def odd(drover, tmp_path):
    """A manifest of files whose names are trouble."""
    (tmp_path / "odd").mkdir()
    for name in ODD_NAMES:
        (tmp_path / "odd" / name).write_text(name, errors="surrogateescape")
    drover("manifest", "create", "-o", tmp_path / "odd.manifest", tmp_path / "odd")
    return tmp_path / "odd.manifest"


def xxhsum(folder, listing):
    return subprocess.run(["xxhsum", "-c", listing], cwd=folder, text=True, errors="surrogateescape",
                          stdin=subprocess.DEVNULL, capture_output=True)


def test_xxhsum_checks_its_export(drover, tree, manifest, tmp_path):
    listing = tmp_path / "listing"
    assert drover("manifest", "export", "--format=xxhsum", "-o", listing, manifest).returncode == 0
    result = xxhsum(tree, listing)
    assert (result.returncode, result.stdout.count(": OK"), "improperly" in result.stderr) == (0, 7, False), result
    change_silently(tree / "file")
    assert xxhsum(tree, listing).returncode == 1


def test_xxhsum_export_of_odd_names(drover, odd, tmp_path):
    result = drover("manifest", "export", "--format=xxhsum", "-o", tmp_path / "listing", odd)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("drover: manifest export: 1 file left out: ")
    checked = xxhsum(tmp_path / "odd", tmp_path / "listing")
    assert (checked.returncode, checked.stdout.count(": OK")) == (0, len(ODD_NAMES) - 1), checked


def test_xxhsum_does_not_know_other_digests(drover, tree, tmp_path):
    drover("manifest", "create", "--digest=sha256", "-o", tmp_path / "m", tree)
    result = drover("manifest", "export", "--format=xxhsum", tmp_path / "m")
    assert (result.returncode, result.stdout) == (5, "")
    assert "its digests are sha256, which xxhsum does not know" in result.stderr


def unescaped(name):
    """What drover's output for people says, as bytes."""
    return re.sub(rb"\\#([0-7]{3})", lambda match: bytes([int(match[1], 8)]), name.encode())


def test_csv_export(drover, tree, manifest, odd, tmp_path):
    rows = list(csv.DictReader(drover("manifest", "export", "--format=csv", manifest).stdout.splitlines()))
    assert len(rows) == 12
    by_path = {row["path"]: row for row in rows}
    file, status = by_path["file"], (tree / "file").stat()
    assert (file["type"], int(file["size"]), int(file["mtime_s"])) == ("file", 200_000, 1_000_000_000)
    assert int(file["mode"], 8) == status.st_mode & 0o7777 and int(file["inode"]) == status.st_ino
    assert by_path["link"]["target"] == "file" and by_path["fifo"]["type"] == "fifo"
    assert by_path["."]["type"] == "directory"

    drover("manifest", "export", "--format=csv", "-o", tmp_path / "csv", odd)
    text = (tmp_path / "csv").read_bytes().decode()
    assert {character for character in text if not character.isprintable()} == {"\r", "\n"}
    assert text.count("\n") == text.count("\r\n") == 2 + len(ODD_NAMES)
    names = {unescaped(row["path"]) for row in csv.DictReader(text.splitlines())}
    assert names == {b"."} | set(map(os.fsencode, ODD_NAMES))


def test_jsonl_export(drover, odd):
    lines = drover("manifest", "export", "--format=jsonl", odd).stdout.splitlines()
    assert {json.loads(line)["path"] for line in lines} == \
        {"."} | {name.replace("\udcff", "\ufffd") for name in ODD_NAMES}


def test_sqlite_export(drover, tree, manifest, odd, tmp_path):
    assert drover("manifest", "export", "--format=sqlite", "-o", tmp_path / "db", manifest).returncode == 0
    with sqlite3.connect(tmp_path / "db") as database:
        paths = {path: (parent, name) for path, parent, name in database.execute(
            "SELECT entry.path, parent.path, entry.name FROM entry LEFT JOIN entry AS parent ON parent.id = entry.parent")}
        assert paths.pop(".") == (None, ".")
        assert paths == {str(path.relative_to(tree)): (str(path.parent.relative_to(tree)), path.name)
                         for path in tree.rglob("*")}
        size, mode = database.execute("SELECT size, mode FROM entry WHERE path = 'file'").fetchone()
        assert (size, mode) == (200_000, (tree / "file").stat().st_mode & 0o7777)
        root, entries = database.execute("SELECT root_digest, entries FROM manifest").fetchone()
        assert (root, entries) == (root_digest(drover("manifest", "info", manifest)), 12)
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    drover("manifest", "export", "--format=sqlite", "-o", tmp_path / "odd.db", odd)
    with sqlite3.connect(tmp_path / "odd.db") as database:
        names = {os.fsencode(name) if isinstance(name, str) else name
                 for name, in database.execute("SELECT name FROM entry WHERE type = 'file'")}
        assert names == set(map(os.fsencode, ODD_NAMES))


@pytest.mark.parametrize("kind", ["xxhsum", "jsonl", "csv", "sqlite"])
def test_an_export_leaves_alone_what_is_there(drover, manifest, tmp_path, kind):
    out = tmp_path / "out"
    out.write_text("precious")
    result = drover("manifest", "export", f"--format={kind}", "-o", out, manifest)
    assert (result.returncode, out.read_text()) == (5, "precious")
    assert sorted(os.listdir(tmp_path)) == ["manifest", "out", "tree"]


def test_an_export_that_cannot_be_written_is_a_failure(binary, manifest):
    with open("/dev/full", "w") as full:
        result = subprocess.run([binary, "manifest", "export", "--format=csv", manifest], stdout=full,
                                stderr=subprocess.PIPE, text=True)
    assert (result.returncode, result.stderr) == (5, "drover: manifest export: stdout: write: No space left on device\n")


def test_exports_to_a_file_and_to_stdout_are_the_same(drover, manifest, tmp_path):
    for kind in ("xxhsum", "jsonl", "csv"):
        drover("manifest", "export", f"--format={kind}", "-o", tmp_path / kind, manifest)
        assert (tmp_path / kind).read_text() == drover("manifest", "export", f"--format={kind}", manifest).stdout
