# SPDX-License-Identifier: Apache-2.0
"""The other side, started by what stands in for ssh: words for all that can go wrong, and that it goes right."""
import json
import os
import re
import signal
import subprocess
import time

import pytest

# The place of ssh: drops "[-l USER] HOST" and lets a shell have the rest, as sshd does. $HOME there is another.
SHELL = """#!/bin/sh
echo "$@" >>{log}
[ "$1" = -l ] && shift 2
shift
{before}
HOME={home}; export HOME
cd "$HOME" && exec sh -c "$*"
"""


@pytest.fixture
def ssh(tmp_path, binary):
    """Makes such a program; returns the options that use it. `before` are lines of shell that it runs first."""

    def make(before="", program=binary):
        path = tmp_path / "ssh"
        (tmp_path / "home").mkdir(exist_ok=True)
        path.write_text(SHELL.format(before=before, home=tmp_path / "home", log=tmp_path / "log"))
        path.chmod(0o755)
        return [f"--rsh={path}", f"--remote-drover={program}"]

    return make


@pytest.fixture
def tree(tmp_path):
    """A small tree in the home directory over there."""
    tree = tmp_path / "home/tree"
    (tree / "dir").mkdir(parents=True)
    for number in range(20):
        (tree / f"dir/file {number}").write_text(f"content {number}")
    (tree / "large").write_bytes(os.urandom(3 << 20))
    (tree / "link").symlink_to("large")
    return tree


def listing(tree):
    return {path.relative_to(tree): path.is_symlink() or path.is_dir() or path.read_bytes()
            for path in tree.rglob("*")}


# ---- the command line


@pytest.mark.parametrize("option", ["--bwlimit-schedule=08:00,1M", "--max-latency=5", "--max-load=4", "--explain-tuning"])
def test_what_steers_workers_is_refused_where_all_work_is_elsewhere(drover, option):
    for arguments in (["manifest", "create", "-o", "m", "h:a"], ["manifest", "check", "m", "h:a"], ["verify", "--against=m", "h:a"]):
        result = drover(*arguments, option)
        assert result.returncode == 2
        assert f"{option.split('=')[0]}: the tree is read on another machine" in result.stderr


@pytest.mark.parametrize("arguments, words", [
    (["a:b", "c:d"], "one side must be on this machine"),
    (["drover://h/r", "c:d"], "one side must be on this machine"),
    ([":x", "b"], "no host before the ':'"),
    (["--", "-oProxyCommand=x:y", "b"], "not the name of a host"),
    (["u@-oProxyCommand=x:y", "b"], "not the name of a host"),
    (["$(reboot):y", "b"], "not the name of a host"),
    (["h::m", "b"], "two colons"),
    (["drover://h", "b"], "which root"),
    (["drover://h:0/r", "b"], "no port from 1 to 65535"),
    (["-e", "ssh", "a", "b"], "--rsh: everything is on this machine"),
    (["--remote-drover=x", "a", "b"], "--remote-drover: everything is on this machine"),
    (["--via-ssh", "a", "b"], "--via-ssh: everything is on this machine"),
    (["--key=k", "a", "b"], "--key: everything is on this machine"),
    (["--insecure-plain", "a", "b"], "--insecure-plain: everything is on this machine"),
    (["--connections=2", "a", "b"], "--connections: everything is on this machine"),
    (["-z", "a", "b"], "--compress: everything is on this machine"),
    (["--no-compress", "a", "b"], "--no-compress: everything is on this machine"),
    (["--timeout=5", "a", "b"], "--timeout: everything is on this machine"),
    (["--key=k", "h:a", "b"], "--key: is for drover://"),
    (["-e", "ssh", "drover://h/r", "b"], "--rsh: is for host:path"),
    (["-e", "ssh 'x", "h:a", "b"], "a quote is not closed"),
    (["-z", "--no-compress", "h:a", "b"], "exclude each other"),
    (["--compress-level=20", "h:a", "b"], "--compress-level"),
    (["--connections=0", "h:a", "b"], "--connections"),
    (["--connections=65", "h:a", "b"], "--connections"),
    (["--via-ssh", "--connections=2", "h:a", "b"], "exclude each other"),
    (["--certificate=c", "drover://h/r", "b"], "belong together"),
    (["--usermap=nobody-here:nor-here", "h:a", "b"], "--usermap"),
    (["--chown=a,b", "a", "h:b"], "one user and one group"),
], ids=lambda value: value if isinstance(value, str) else " ".join(value))
def test_a_wrong_command_line_is_one_clear_line(drover, arguments, words):
    result = drover("sync", *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert re.fullmatch(r"drover: sync: .*" + re.escape(words) + r".* \(see drover sync --help\)\n", result.stderr), result


@pytest.mark.parametrize("command, arguments, words", [
    ("verify", ["a:b", "c:d"], "one side must be on this machine"),
    ("verify", ["-z", "a", "b"], "everything is on this machine"),
    ("manifest create", ["-o", "m", "--update", "h:a"], "everything is read"),
    ("manifest create", ["-o", "m", "--restart", "h:a"], "everything is read"),
    ("manifest create", ["-o", "m", "--resume", "h:a"], "everything is read"),
    ("manifest check", ["--timeout=4", "m"], "everything is on this machine"),
    ("serve", [], "--config=FILE or --stdio"),
    ("serve", ["--check"], "--config=FILE or --stdio"),
    ("serve", ["--stdio", "--config=x"], "--stdio goes alone"),
    ("serve", ["--stdio", "x"], "too many arguments"),
    ("keygen", [], "too few arguments: it takes FILE"),
    ("keygen", ["--certificate=x", "h"], "belong together"),
    ("keygen", ["--certificate=x", "--private-key=y", "--name=n", "h"], "--name"),
])
def test_so_it_is_for_other_commands(drover, command, arguments, words):
    result = drover(*command.split(), *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert words in result.stderr and result.stderr.count("\n") == 1, result


# ---- what can go wrong before the session


def test_ssh_that_is_not_there_is_named(drover, tmp_path):
    result = drover("sync", "-e", "/nowhere/ssh", "host:x", tmp_path / "dst")
    assert (result.returncode, result.stderr) == (5, "drover: sync: /nowhere/ssh: No such file or directory\n")


def test_a_host_that_ssh_cannot_reach_is_named(drover, ssh, tmp_path):
    result = drover("sync", *ssh("exit 255"), "host:x", tmp_path / "dst")
    assert result.returncode == 5
    assert re.search(r"^drover: sync: host: .* could not connect", result.stderr, re.MULTILINE), result
    assert not (tmp_path / "dst").exists()


def test_drover_that_is_missing_there_has_a_clear_answer(drover, ssh, tmp_path):
    result = drover("sync", *ssh(program="no-such-drover"), "host:x", tmp_path / "dst")
    assert result.returncode == 5
    assert "not installed" in result.stderr and "--remote-drover" in result.stderr, result


def test_another_protocol_has_a_clear_answer(drover, ssh, tmp_path):
    result = drover("sync", *ssh("echo 'drover 9.9.9 protocol 4711'; exec cat"), "host:x", tmp_path / "dst")
    assert result.returncode == 5
    assert "drover 9.9.9 there speaks version 4711 of the protocol" in result.stderr, result


def test_a_drover_that_is_too_old_has_a_clear_answer(drover, ssh, tmp_path):
    result = drover("sync", *ssh("echo 'unknown command serve' >&2; exit 2"), "host:x", tmp_path / "dst")
    assert result.returncode == 5 and "too old" in result.stderr, result


@pytest.mark.parametrize("noise", ["yes 'Welcome to \033[31mhost'", "echo 'Welcome to \033[31mhost'; exit 0"])
def test_a_shell_that_talks_too_much_is_quoted_without_its_escape_codes(drover, ssh, tmp_path, noise):
    result = drover("sync", *ssh(noise), "host:x", tmp_path / "dst")
    assert result.returncode == 5
    assert r"its shell prints something" in result.stderr and r"Welcome to \#033[31mhost" in result.stderr, result
    assert "\033" not in result.stderr


def test_a_host_that_says_nothing_is_given_up(drover, ssh, tmp_path):
    began = time.monotonic()
    result = drover("sync", "--timeout=1", *ssh("exec sleep 100"), "host:x", tmp_path / "dst")
    assert result.returncode == 5 and "no answer in time" in result.stderr, result
    assert time.monotonic() - began < 20


def test_a_signal_ends_the_wait_for_the_other_side(binary, ssh, tmp_path):
    process = subprocess.Popen([binary, "sync", *ssh("exec sleep 100"), "host:x", tmp_path / "dst"],
                               stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "log").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    assert "SIGINT" in process.stderr.read()


def test_nobody_listening_is_named_with_the_port(drover, tmp_path):
    result = drover("sync", "--insecure-plain", "drover://127.0.0.1:1/root", tmp_path / "dst")
    assert result.returncode == 5
    assert "127.0.0.1 port 1: Connection refused" in result.stderr, result


def test_without_a_key_it_is_told_how_to_have_one(drover, tmp_path):
    result = drover("sync", "drover://127.0.0.1:1/root", tmp_path / "dst")
    assert result.returncode == 5 and "drover keygen" in result.stderr, result


# ---- the command that ssh is given


def test_neither_path_nor_key_is_on_a_command_line(drover, ssh, tree, tmp_path):
    drover("sync", *ssh(), "ann@host:tree", tmp_path / "dst")
    words = (tmp_path / "log").read_text().split()
    assert words[:3] == ["-l", "ann", "host"] and words[-2:] == ["serve", "--stdio"]
    assert "tree" not in words and len(words) == 6


# ---- and right


@pytest.mark.parametrize("options", [[], ["--via-ssh"], ["-z"], ["--no-compress", "--connections=3"]], ids=" ".join)
def test_a_tree_is_pulled_and_pushed(drover, ssh, tree, tmp_path, options):
    result = drover("sync", *options, *ssh("echo Welcome"), "host:tree", tmp_path / "dst")
    assert result.returncode == 0, result
    assert listing(tmp_path / "dst") == listing(tree)
    assert re.search(r"; \S+ \S+ sent, \S+ \S+ received over ", result.stderr), result
    (tmp_path / "dst/new").write_text("new")
    (tmp_path / "dst/link").unlink()
    result = drover("sync", "--delete", *options, *ssh(), tmp_path / "dst", "host:tree")
    assert result.returncode == 0, result
    assert listing(tmp_path / "dst") == listing(tree)


def test_the_summary_tells_the_traffic(drover, ssh, tree, tmp_path, root):
    result = drover("sync", "--json", "--via-ssh", *ssh(), "host:tree", tmp_path / "dst")
    network = json.loads(result.stdout.splitlines()[-1])["network"]
    assert network["way"] == "ssh"
    assert network["bytes_received"] > 3 << 20 and network["raw_bytes_received"] > 3 << 20
    text = (root / "docs/json.md").read_text()
    assert all(f"`{name}`" in text for name in network)


def test_rules_and_owners_go_to_the_other_side(drover, ssh, tree, tmp_path):
    rules = tmp_path / "rules"
    rules.write_text("# a comment\n+ /dir/file 1\n/dir/*\n")
    result = drover("sync", f"--exclude-from={rules}", *ssh(), tree, "host:copy")
    assert result.returncode == 0, result
    assert {str(path) for path in listing(tree.parent / "copy")} == {"dir", "dir/file 1", "large", "link"}
    result = drover("sync", "--usermap=*:no-such-user", *ssh(), tree, "host:copy")
    assert result.returncode == 5 and "no-such-user" in result.stderr, result


@pytest.mark.parametrize("there", ["src", "dst"])
def test_trees_on_two_machines_are_compared(drover, ssh, tree, tmp_path, there):
    other = tmp_path / "other"
    drover("sync", tree, other)
    places = ["host:tree", other] if there == "src" else [other, "host:tree"]
    result = drover("verify", *ssh(), *places)
    assert (result.returncode, result.stdout) == (0, ""), result
    (other / "dir/file 3").write_text("another")
    (other / "dir/file 4").unlink()
    result = drover("verify", *ssh(), *places)
    assert result.returncode == 6, result
    assert sorted(line.split()[0] for line in result.stdout.splitlines()) == \
        sorted(["edited", "missing" if there == "src" else "extra"])
    assert not list((tmp_path / "state/drover").glob("compare.*"))


def test_a_manifest_of_another_machine_is_made_and_checked(drover, ssh, tree, tmp_path):
    manifest = tmp_path / "manifest"
    result = drover("manifest", "create", "--block-size=128K", "-o", manifest, *ssh(), "host:tree")
    assert result.returncode == 0 and "root digest" in result.stderr, result
    here = drover("manifest", "info", "--json", manifest).stdout
    assert json.loads(here)["state"] == "complete"
    assert drover("manifest", "check", *ssh(), manifest, "host:tree").returncode == 0
    result = drover("manifest", "create", "-o", manifest, *ssh(), "host:tree")
    assert result.returncode == 5 and "--full" in result.stderr, result
    (tree / "dir/file 3").write_text("another")
    result = drover("manifest", "check", *ssh(), manifest, "host:tree")
    assert result.returncode == 6 and result.stdout.startswith("edited"), result
    result = drover("manifest", "check", "--exclude=file 3", *ssh(), manifest, "host:tree")
    assert (result.returncode, result.stdout) == (0, ""), result
    assert drover("manifest", "create", "--full", "-o", manifest, *ssh(), "host:tree").returncode == 0
    assert drover("manifest", "check", manifest, tree).returncode == 0


def test_what_is_not_there_is_named(drover, ssh, tmp_path):
    result = drover("sync", *ssh(), "host:nothing", tmp_path / "dst")
    assert result.returncode == 5 and "nothing" in result.stderr and "No such file" in result.stderr, result
