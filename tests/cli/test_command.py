# SPDX-License-Identifier: Apache-2.0
"""What the command line itself answers, before and after the engine runs."""
import base64
import json
import os
import re
import signal
import subprocess

import pytest


@pytest.fixture
def tree(tmp_path):
    """A small source; its destination is tmp_path / "dst"."""
    (tmp_path / "src/dir").mkdir(parents=True)
    for number in range(20):
        (tmp_path / f"src/dir/file {number}").write_text("content")
    return tmp_path / "src"


@pytest.mark.parametrize("arguments, words", [
    (["--foo", "a", "b"], "unknown option --foo"),
    (["-a", "a", "b"], "unknown option -a"),
    (["--del", "a", "b"], "unknown option --del: is --delete meant?"),
    (["--bwlimit=5x", "a", "b"], '--bwlimit: "5x": '),
    (["--bwlimit"], "--bwlimit: needs a value"),
    (["--bwlimit-schedule=8:00,1M", "a", "b"], '--bwlimit-schedule: "8:00,1M": not [DAY-]HH:MM,RATE'),
    (["--bwlimit=1M", "--bwlimit-schedule=08:00,1M", "a", "b"], "--bwlimit and --bwlimit-schedule exclude each other"),
    (["-j0", "a", "b"], '--jobs: "0": not from 1 to 1024'),
    (["--max-latency=fast", "a", "b"], '--max-latency: "fast": not a number'),
    (["--max-load=-1", "a", "b"], '--max-load: "-1": not a number'),
    (["--job=4711", "a", "b"], '--job: "4711": not a name'),
    (["--explain-tuning", "-q", "a", "b"], "--explain-tuning and --quiet exclude each other"),
    (["--delete=yes", "a", "b"], "--delete: takes no value"),
    (["--io=magic", "a", "b"], '--io: "magic": not one of auto, uring, threads'),
    (["--exclude-from=/nowhere", "a", "b"], "--exclude-from: /nowhere: No such file or directory"),
    (["--log-file=/nowhere/log", "a", "b"], "--log-file: /nowhere/log: open: No such file or directory"),
    (["--checksum", "--size-only", "a", "b"], "exclude each other"),
    (["--manifest=f", "--no-manifest", "a", "b"], "--manifest and --no-manifest exclude each other"),
    (["--manifest=", "a", "b"], "--manifest: must not be empty"),
    (["-v", "-q", "a", "b"], "exclude each other"),
    (["--max-delete=5%%", "a", "b"], '--max-delete: "5%%": '),
    (["a"], "too few arguments"),
    (["a", "b", "c"], "too many arguments"),
    (["", "b"], "must not be empty"),
    (["--foo\033[31m\n", "a", "b"], "unknown option --foo\\#033[31m\\#012"),
], ids=lambda value: value if isinstance(value, str) else " ".join(value))
def test_a_wrong_command_line_is_one_clear_line(drover, arguments, words):
    result = drover("sync", *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert re.fullmatch(r"drover: sync: .*" + re.escape(words) + r".* \(see drover sync --help\)\n", result.stderr), result


@pytest.mark.parametrize("arguments, words", [
    (["4711", "stop"], '"stop": all that can be done is `set`'),
    (["4711", "set"], "set what?"),
    (["4711", "set", "speed=9"], '"speed=9": not jobs=, bwlimit=, max-latency= or max-load='),
    (["4711", "set", "jobs=4", "jobs"], '"jobs": not jobs='),
    (["4711", "set", "jobs=off"], 'jobs: "off": not a number'),
    (["4711", "set", "bwlimit=5x"], 'bwlimit: "5x": '),
    (["0"], '"0": not from 1'),
    (["99999999999"], '"99999999999": not from 1'),
    (["a/b"], '"a/b": not of letters, digits'),
    ([""], '"": not a name'),
], ids=lambda value: value if isinstance(value, str) else " ".join(value))
def test_a_wrong_command_line_of_ctl_is_one_clear_line(drover, arguments, words):
    result = drover("ctl", *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert re.fullmatch(r"drover: ctl: .*" + re.escape(words) + r".* \(see drover ctl --help\)\n", result.stderr), result


@pytest.mark.parametrize("arguments", [["frobnicate"], ["help", "frobnicate"], ["--frobnicate"]], ids=" ".join)
def test_an_unknown_command_is_one_clear_line(drover, arguments):
    result = drover(*arguments)
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1)


def test_help_that_nobody_can_read_is_a_failure(drover, binary):
    with open("/dev/full", "w") as full:
        result = subprocess.run([binary, "sync", "--help"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert result.returncode == 1
    assert result.stderr == "drover: stdout: write: No space left on device\n"


def test_names_that_cannot_be_written_are_a_failure_and_the_copy_is_done(binary, tree, tmp_path):
    with open("/dev/full", "w") as full:
        result = subprocess.run([binary, "sync", "-v", tree, tmp_path / "dst"], stdout=full, stderr=subprocess.PIPE,
                                text=True)
    assert result.returncode == 1
    assert "drover: stdout: write: No space left on device\n" in result.stderr
    assert sorted(os.listdir(tmp_path / "dst/dir")) == sorted(os.listdir(tree / "dir"))


def test_a_log_that_cannot_be_written_is_a_failure(drover, tree, tmp_path):
    result = drover("sync", "--log-file=/dev/full", "-q", tree, tmp_path / "dst")
    assert (result.returncode, result.stderr) == (1, "drover: log file: write: No space left on device\n")


def test_names_go_to_stdout_and_the_last_line_to_stderr(drover, tree, tmp_path):
    result = drover("sync", "-i", tree, tmp_path / "dst")
    assert result.returncode == 0
    assert all(re.match(r"[<>ch.*][fdLDS].{9} ", line) for line in result.stdout.splitlines())
    assert result.stderr.startswith("20 files, ")
    result = drover("sync", "-i", tree, tmp_path / "dst")
    assert result.stdout == ""
    assert re.fullmatch(r"nothing changed; 20 files, \S+ B looked at in .*\n", result.stderr)


def test_names_cannot_command_a_terminal(drover, tree, tmp_path):
    (tree / "red\033[31m\nline").write_text("")
    (tree / "no text \udcff").write_text("")
    (tree / "\\#012").write_text("")
    for option in ("-i", "-v"):
        lines = drover("sync", "-n", option, tree, tmp_path / "dst").stdout.splitlines()
        names = {line.split(" ", 1)[1] if option == "-i" else line for line in lines}
        assert {r"red\#033[31m\#012line", r"no text \#377", r"\#134#012"} <= names


def test_json_has_every_name(drover, tree, tmp_path):
    names = ["plain", "wörld 映画", "quote\" back\\slash", "line\nbreak", "no text \udcff", "half \udce6\udc98"]
    for name in names:
        (tree / name).write_text("")
    result = drover("sync", "--json", tree, tmp_path / "dst")
    changes = [event for event in map(json.loads, result.stdout.splitlines()) if event["event"] == "change"]
    told = {base64.b64decode(event["path_bytes"]) if "path_bytes" in event else event["path"].encode()
            for event in changes}
    assert {os.fsencode(name) for name in names} <= told
    assert {"no text \ufffd", "half \ufffd\ufffd"} <= {event["path"] for event in changes}


def test_json_needs_no_log_on_stderr(drover, tree, tmp_path):
    result = drover("sync", "--json", tree, tmp_path / "dst")
    assert (result.returncode, result.stderr) == (0, "")
    result = drover("sync", "--json", tmp_path / "nowhere", tmp_path / "dst2")
    summary = json.loads(result.stdout.splitlines()[-1])
    assert (result.returncode, summary["exit_code"], summary["outcome"]) == (5, 5, "fatal")
    assert summary["error"] in result.stderr


def test_the_log_has_a_line_for_each_thing_with_its_time(drover, tree, tmp_path):
    (tree / "line\nbreak").write_text("")
    log = tmp_path / "log"
    for _ in range(2):
        drover("sync", f"--log-file={log}", tree, tmp_path / "dst")
    lines = log.read_text().splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d{4} \[\d+\] [a-z-]+ ", line) for line in lines)
    assert sum(" start " in line for line in lines) == sum(" end " in line for line in lines) == 2
    assert sum(r" change >f+++++++++ line\#012break" in line for line in lines) == 1


def test_nohup_is_respected(binary, tree, tmp_path):
    """A signal that is ignored at the start does not stop the run."""
    (tree / "large").write_bytes(os.urandom(4 << 20))
    process = subprocess.Popen([binary, "sync", "-q", "--bwlimit=2M", tree, tmp_path / "dst"],
                               preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    while not (tmp_path / "dst").exists() and process.poll() is None:
        pass
    process.send_signal(signal.SIGHUP)
    assert process.wait(60) == 0
