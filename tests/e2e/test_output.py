# SPDX-License-Identifier: Apache-2.0
"""What drover says, where, and in which form."""
import base64
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios

import pytest

from judge import assert_equal, litter
from lab import MIB, require, run
from trees import Hard, Link, many_files, noise, plant


@pytest.fixture
def tree(src):
    return plant(src, {"dir/file": "content", "link": Link("dir/file"), "big": noise(3 * MIB), "pair": Hard("big"),
                       os.fsdecode(b"odd \xff\n\"\\"): "x", os.fsdecode(b"odd \xfe\n\"\\"): "y"})


def test_quiet_says_nothing(drover, tree, dst):
    result = drover.sync("-q", tree, dst)
    assert (result.out, result.err) == (b"", "")


def test_quiet_still_says_errors(drover, tree, dst, faulty):
    (tree / "pair").unlink()
    result = drover.sync("-q", faulty(tree, "open:/big:EACCES"), dst, code=1)
    assert result.failed("big")[2:] == ("open", "Permission denied")


def test_verbose_names_what_changed_and_the_io_in_use(drover, tree, dst):
    result = drover.sync("-v", tree, dst)
    said = result.out.decode(errors="replace") + result.err
    assert "dir/file" in said and "link" in said
    assert re.search("io_uring|threads", said), str(result)


def test_itemize_tells_links_and_their_targets(drover, tree, dst):
    lines = drover.sync("-i", tree, dst).lines
    assert b"cL+++++++++ link -> dir/file" in lines
    assert any(line in lines for line in (b"hf+++++++++ pair => big", b"hf+++++++++ big => pair"))


def test_stats_count_what_was_done(drover, src, dst):
    many_files(src, 60, per_directory=20)
    result = drover.sync("--stats", src, dst)
    said = result.out.decode() + result.err
    assert re.search(r"\b60\b", said) and re.search(r"\b[34]\b", said), said


def test_every_line_of_json_is_an_object_with_an_event(drover, tree, dst):
    result = drover.sync("--json", tree, dst)
    events = result.events()
    assert events[0]["event"] == "start" and events[-1]["event"] == "summary"
    assert {one["event"] for one in events} <= {"start", "change", "error", "note", "progress", "tuning", "summary"}


def _path(event):
    """The name itself: base64 where it is no text."""
    return base64.b64decode(event["path_bytes"]) if "path_bytes" in event else event["path"].encode()


def test_json_reports_every_change_under_a_name_of_its_own(drover, tree, dst):
    changes = drover.sync("--json", tree, dst).events("change")
    paths = [_path(one) for one in changes]
    assert len(paths) == len(set(paths))
    assert set(paths) - {b"./"} == {b"dir/", b"dir/file", b"link", b"big", b"pair", b"odd \xff\n\"\\",
                                    b"odd \xfe\n\"\\"}
    assert all(len(one["itemize"]) == 11 for one in changes)


def test_json_tells_the_digest_of_what_was_copied(drover, src, dst):
    require("xxh128sum")
    plant(src, {"small": "content", "large": noise(9 * MIB)})
    changes = {one["path"]: one for one in drover.sync("--json", src, dst).events("change")}
    assert run("xxh128sum", src / "small").split()[0].decode() == changes["small"]["xxh3_128"]
    assert "xxh3_128_pages" in changes["large"]


def _xxh128(folder, parts):
    """Of many byte strings, by xxh128sum."""
    names = [f"{number:06}" for number in range(len(parts))]
    for name, part in zip(names, parts):
        (folder / name).write_bytes(part)
    return [bytes.fromhex(line.split()[0].decode()) for line in run("xxh128sum", *names, cwd=folder).splitlines()]


def test_json_tells_the_digest_of_pages_as_the_manual_defines_it(drover, src, dst, tmp_path):
    require("xxh128sum")
    content = noise(MIB) + bytes(3 * 8192) + noise(MIB // 2 + 100, seed=2)
    plant(src, {"large": content})
    change = next(one for one in drover.sync("--json", src, dst).events("change") if one["path"] == "large")
    pages = [content[at:at + 8192] for at in range(0, len(content), 8192)]
    numbered = [number.to_bytes(8, "little") + digest
                for number, (page, digest) in enumerate(zip(pages, _xxh128(tmp_path, pages))) if any(page)]
    total = sum(int.from_bytes(digest, "big") for digest in _xxh128(tmp_path, numbered)) % (1 << 128)
    end = len(content).to_bytes(8, "little") + total.to_bytes(16, "little")
    assert change["xxh3_128_pages"] == _xxh128(tmp_path, [end])[0].hex()


def test_json_names_path_operation_and_reason_of_an_error(drover, tree, dst, faulty):
    (tree / "pair").unlink()
    errors = drover.sync("--json", faulty(tree, "open:/big:EACCES"), dst, code=1).events("error")
    assert errors == [{"event": "error", "side": "source", "path": "big", "operation": "open", "errno": "EACCES",
                       "reason": "Permission denied", "in_motion": False}]


def test_json_summary_agrees_with_the_exit_code(drover, tree, dst, faulty):
    summary = drover.sync("--json", tree, dst).events("summary")[0]
    assert summary["exit_code"] == 0
    assert summary["counts"]["files_copied"] + summary["counts"]["linked"] >= 4
    summary = drover.sync("--json", faulty(tree, "getattr:/big:EIO"), dst, code=1).events("summary")[0]
    assert summary["exit_code"] == 1 and summary["counts"]["failed"] == 1


def test_the_log_file_holds_changes_and_errors(drover, tree, dst, work, faulty):
    log = work / "log"
    drover.sync(f"--log-file={log}", "-q", faulty(tree, "open:/big:EACCES", "open:/pair:EACCES"), dst, code=1)
    text = log.read_text(errors="replace")
    assert "dir/file" in text and "big" in text and "Permission denied" in text


def test_a_log_file_that_cannot_be_made_stops_before_anything_is_done(drover, tree, dst):
    result = drover.sync("--log-file=/nowhere/log", tree, dst, code=(2, 5))
    assert "/nowhere/log" in result.err and "No such file" in result.err
    assert not dst.exists()


def test_a_reader_that_goes_away_does_not_break_the_copy(drover, src, dst):
    """`drover sync -i | head -1`: either the copy is finished, or the exit code says that it is not."""
    many_files(src, 3000, size_bytes=50)
    with subprocess.Popen([drover.binary, "sync", "-i", src, dst], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          env=drover.environment, restore_signals=True) as process:
        process.stdout.readline()
        process.stdout.close()
        process.stderr.read()
    assert process.returncode >= 0, "died of a signal"
    assert litter(dst) == []
    if process.returncode == 0:
        assert_equal(src, dst)
    drover.sync(src, dst)
    assert_equal(src, dst)


def test_a_closed_stdout_is_no_file_of_the_tree(drover, src, dst):
    """Descriptors 0-2 closed at the start: output must not land in a file opened under these numbers."""
    many_files(src, 50)
    command = f"'{drover.binary}' sync -v -i '{src}' '{dst}' <&- >&- 2>&-"
    subprocess.run(["sh", "-c", command], env=drover.environment, timeout=60)
    drover.sync("--checksum", src, dst)
    assert_equal(src, dst)


def _on_terminal(drover, columns, *arguments):
    """Runs on a terminal of that width; returns everything that was written to it."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 25, columns, 0, 0))
    process = subprocess.Popen([drover.binary, "sync", *arguments], stdin=slave, stdout=slave, stderr=slave,
                               env=drover.environment | {"TERM": "xterm"})
    os.close(slave)
    screen = b""
    while True:
        select.select([master], [], [], 60)
        try:
            chunk = os.read(master, 65536)
        except OSError:  # EIO: the last writer is gone
            break
        if not chunk:
            break
        screen += chunk
    os.close(master)
    assert process.wait(60) == 0, screen
    return screen


@pytest.mark.parametrize("columns", [20, 80, 200])
def test_progress_fits_the_terminal_at_any_width(drover, src, dst, columns):
    plant(src, {"a rather long file name that would not fit everywhere": noise(3 * MIB),
                **{f"s{number}": noise(20_000) for number in range(30)}})
    screen = _on_terminal(drover, columns, "--bwlimit=2M", src, dst)
    plain = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", screen)
    drawn = [part for line in plain.split(b"\n") for part in line.split(b"\r")]
    redrawn = screen.count(b"\r") + screen.count(b"\x1b[")
    assert redrawn > 2, "no progress was drawn"
    # The last lines are the summary; what is redrawn in place must not wrap.
    assert all(len(part.decode(errors="replace")) <= columns for part in drawn[:-8]), drawn


def test_no_progress_on_a_terminal_when_quiet(drover, src, dst):
    plant(src, {"file": noise(MIB)})
    assert _on_terminal(drover, 80, "-q", src, dst) == b""


@pytest.mark.parametrize("arguments", [["--help"], ["help"], ["help", "sync"], ["sync", "--help"]], ids=" ".join)
def test_help_goes_to_stdout(drover, arguments):
    result = drover.run(*arguments)
    assert b"sync" in result.out and result.err == ""


def test_version_is_one_line(drover):
    assert re.fullmatch(rb"drover \d+\.\d+\.\d+\S*\n", drover.run("--version").out)


def test_sync_help_names_every_option(drover):
    said = drover.run("sync", "--help").out.decode()
    for option in """dry-run itemize delete max-delete force exclude include exclude-from one-file-system checksum
                     size-only ignore-existing update inplace chown usermap groupmap numeric-ids no-owner no-perms
                     no-times no-acl no-xattr no-hard-links best-effort bwlimit fsync jobs io verbose quiet stats
                     json log-file""".split():
        assert f"--{option}" in said, option
