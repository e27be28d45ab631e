# SPDX-License-Identifier: Apache-2.0
"""Two hosts: over ssh with direct connections and without, to a daemon, in both directions. The tests that go through a
sync's features run over a session as well (tests/run e2e-push e2e-pull); this is about how the two sides meet."""
import os
import re
import signal
import time

import pytest

from drover import wait_until
from judge import Snapshot, assert_equal, assert_tools_agree, assert_untouched
from lab import MIB
from netlab import FAR, FAR6, PORT, Daemon, Hosts, run_near, ssh_words
from trees import many_files, nasty, noise, plant, two_versions


@pytest.fixture(scope="module")
def hosts(lab):
    made = Hosts()
    yield made
    made.close()


@pytest.fixture(scope="module")
def shell(hosts, lab):
    """ssh from the near host to the far one, as words for -e."""
    server, words = ssh_words(hosts, lab.folder("sshd"))
    yield words
    server.close()


@pytest.fixture
def daemon(hosts, drover, work, tmp_path):
    """A daemon that has work/far, read-write, as root `far`, and work/shown, read-only, as `shown`."""
    for name in ("far", "shown"):
        (work / name).mkdir()
    made = Daemon(hosts, drover, tmp_path, {"far": (work / "far", "read-write"), "shown": (work / "shown", "read-only")},
                  server="timeout = 10")
    yield made
    made.close()


@pytest.fixture
def near(drover, hosts):
    """near(ARGUMENT...): runs drover on the near host."""
    return lambda *arguments, **options: run_near(drover, hosts, *arguments, **options)


def url(path, host=FAR):
    return f"drover://{host}:{PORT}/{path}"


WAYS = {"direct": [], "inside ssh": ["--via-ssh"], "one connection": ["--connections", "1"]}


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.replace(" ", "-"))
@pytest.mark.parametrize("direction", ["push", "pull"])
def test_over_ssh_everything_arrives(near, drover, shell, lab, src, dst, way, direction):
    nasty(src, lab.volume("ext4").traits)
    plant(src, {"large": noise(20 * MIB)})
    sides = (src, f"{FAR}:{dst}") if direction == "push" else (f"{FAR}:{src}", dst)
    options = ["-e", shell, "--remote-drover", drover.binary, *WAYS[way]]

    near("sync", *options, *sides)
    assert_equal(src, dst)
    assert_tools_agree(src, dst)
    before = Snapshot(dst)
    assert near("sync", *options, "-i", "--delete", *sides).out == b""
    assert_untouched(before, Snapshot(dst), but=[b"."])


def test_direct_connections_carry_the_bytes_and_ssh_only_the_beginning(near, drover, shell, src, dst):
    plant(src, {"large": noise(30 * MIB)})
    options = ["-e", shell, "--remote-drover", drover.binary, "--json"]
    link = near("sync", *options, src, f"{FAR}:{dst}").events("summary")[0]["network"]
    assert link["connections"] >= 1 and link["way"] == "TLS", link
    link = near("sync", *options, "--via-ssh", "--delete", src, f"{FAR}:{dst}").events("summary")[0]["network"]
    assert link["way"] == "ssh", link


def test_the_key_is_on_no_command_line(near, drover, shell, hosts, src, dst):
    """What runs on either host while a sync does is read from /proc."""
    many_files(src, 3000)
    plant(src, {"large": noise(64 * MIB)})
    with drover.launch("sync", "-e", shell, "--remote-drover", drover.binary, "--bwlimit", "40M", src, f"{FAR}:{dst}",
                       prefix=hosts.prefix("near")) as run:
        run.until(lambda: dst.exists() and any(dst.iterdir()), "something arrives")
        lines = []
        for process in os.listdir("/proc"):
            if process.isdigit():
                try:
                    with open(f"/proc/{process}/cmdline", "rb") as file:
                        lines.append(file.read().replace(b"\0", b" "))
                except OSError:
                    pass
        run.end()
    ours = [line for line in lines if b"drover" in line and b"serve" in line]
    assert ours and not any(re.search(rb"[0-9a-f]{32}", line) for line in ours), ours


def test_what_is_missing_there_is_said_clearly(near, drover, shell, src, dst):
    src.joinpath("file").write_text("x")
    lost = near("sync", "-e", shell, "--remote-drover", "/nowhere/drover", src, f"{FAR}:{dst}", code=5)
    assert "drover is not installed" in lost.err and FAR in lost.err, lost
    lost = near("sync", "-e", shell, "--remote-drover", drover.binary, f"{FAR}:/nowhere", dst, code=5)
    assert "/nowhere" in lost.err and "No such file" in lost.err, lost
    lost = near("sync", "-e", "ssh -o ConnectTimeout=3", src, "10.77.0.99:x", code=5)
    assert "10.77.0.99" in lost.err, lost
    lost = near("sync", "-e", "sh -c 'echo Welcome to our server; exec cat >/dev/null </dev/null' sh", src, "h:x", code=5)
    assert "Welcome" in lost.err, lost


@pytest.mark.parametrize("place", ["-oProxyCommand=touch${IFS}pwned:/x", "drover://-x/far", ":x", "drover://h:99999/x"])
def test_places_that_are_none(near, src, place):
    refused = near("sync", "--", src, place, code=2)
    assert refused.err.startswith("drover"), refused


@pytest.mark.parametrize("host", [FAR, f"[{FAR6}]"], ids=["ipv4", "ipv6"])
def test_a_daemon_gives_and_takes(near, lab, daemon, work, src, host):
    nasty(src, lab.volume("ext4").traits)
    key = ["--key", daemon.key]
    near("sync", *key, src, url("far/sub", host))
    assert_equal(src, work / "far/sub")
    near("sync", *key, url("far/sub", host), work / "back")
    assert_equal(src, work / "back")
    assert near("sync", *key, "-i", "--delete", src, url("far/sub", host)).out == b""
    assert "tester" in daemon.text() and "far" in daemon.text()


def test_deltas_deletions_and_moves_travel(near, daemon, work, src):
    old, new = work / "old", work / "new"
    two_versions(old, new)
    plant(old, {"image": noise(24 * MIB, 1)})
    data = bytearray(noise(24 * MIB, 1))
    data[5 * MIB:5 * MIB + 9] = b"different"
    (new / "image").write_bytes(data)
    key = ["--key", daemon.key, "--json"]
    near("sync", *key, old, url("far/x"))
    link = near("sync", *key, "--delete", new, url("far/x")).events("summary")[0]
    assert_equal(new, work / "far/x")
    assert link["network"]["raw_bytes_sent"] < 6 * MIB, link["network"]
    (new / "image").rename(new / "renamed")
    moved = near("sync", *key, "--delete", new, url("far/x")).events("summary")[0]
    assert moved["counts"]["moved"] == 1 and moved["network"]["raw_bytes_sent"] < MIB, moved
    assert_equal(new, work / "far/x")


def test_verify_and_manifests_read_each_side_where_it_is(near, daemon, work, src, tmp_path):
    many_files(src, 400)
    plant(src, {"large": noise(9 * MIB)})
    key = ["--key", daemon.key]
    near("sync", *key, src, url("far/x"))
    near("verify", *key, src, url("far/x"))
    near("manifest", "create", *key, url("far/x"), "-o", tmp_path / "m")
    near("manifest", "check", tmp_path / "m", src)
    near("manifest", "check", *key, tmp_path / "m", url("far/x"))
    rotten = work / "far/x/large"
    times = rotten.stat()
    with open(rotten, "r+b") as file:
        file.seek(5 * MIB)
        file.write(b"rot")
    os.utime(rotten, ns=(times.st_atime_ns, times.st_mtime_ns))
    for command in (["verify", *key, src, url("far/x")], ["verify", *key, url("far/x"), src],
                    ["manifest", "check", *key, tmp_path / "m", url("far/x")]):
        found = near(*command, code=7).findings
        assert [(one[0], one[1]) for one in found] == [("corrupt", "large")], found


def test_a_daemon_refuses_what_is_not_allowed(near, daemon, work, src, tmp_path):
    (src / "file").write_text("x")
    (work / "secret").mkdir()
    (work / "secret/file").write_text("secret")
    key = ["--key", daemon.key]
    refused = [near("sync", *key, src, url("shown/x"), code=5), near("sync", *key, src, url("nowhere/x"), code=5),
               near("sync", *key, src, url("far/../secret"), code=(2, 5)),
               near("sync", *key, url("far/../secret"), work / "got", code=(2, 5))]
    (work / "far/link").symlink_to("../secret")
    refused += [near("sync", *key, url("far/link"), work / "got", code=5), near("sync", *key, src, url("far/link"), code=5)]
    for one in refused:
        assert one.err.startswith("drover: "), one
    assert not (work / "got/file").exists()
    assert sorted(os.listdir(work / "secret")) == ["file"] and not any((work / "shown").iterdir())
    other = tmp_path / "other"
    other.write_text("tester " + "ab" * 32 + "\n")
    other.chmod(0o600)
    stranger = near("sync", "--key", other, src, url("far/x"), code=5)
    assert "key" in stranger.err, stranger
    other.write_text("nobody " + "ab" * 32 + "\n")
    unknown = near("sync", "--key", other, src, url("far/x"), code=5)
    assert unknown.err.replace("nobody", "tester") == stranger.err
    other.chmod(0o644)
    assert "mode" in near("sync", "--key", other, src, url("far/x"), code=(2, 5)).err
    assert not (work / "far/x").exists()


def test_a_daemon_reads_its_configuration_again_and_ends_gracefully(near, drover, daemon, work, src):
    (src / "file").write_text("x")
    key = ["--key", daemon.key]
    conf = daemon.folder / "serve.conf"
    conf.write_text(conf.read_text() + f"\n[root new]\npath = {work}/new\nmode = read-write\nallow = tester\n")
    (work / "new").mkdir()
    near("sync", *key, src, url("new/x"), code=5)
    daemon.stop(signal.SIGHUP, wait=False)
    wait_until(lambda: near("sync", *key, src, url("new/x"), code=None).code == 0, "the new root is there")
    good = conf.read_text()
    conf.write_text("nonsense\n")
    daemon.stop(signal.SIGHUP, wait=False)
    wait_until(lambda: "serve.conf:1" in daemon.text(), "it says what is wrong")
    near("sync", *key, src, url("new/y"))
    conf.write_text(good)
    daemon.stop()
    assert daemon.process.returncode == 0
    assert_equal(src, work / "new/y")


def test_a_sync_survives_a_cable_that_is_out_for_a_while(drover, hosts, daemon, work, src):
    many_files(src, 2000)
    plant(src, {"large": noise(80 * MIB)})
    hosts.shape("200mbit")
    try:
        with drover.launch("sync", "--json", "--key", daemon.key, "--no-compress", src, url("far/x"),
                           prefix=hosts.prefix("near")) as run:
            run.until(lambda: (work / "far/x").exists(), "it has begun")
            for _ in range(2):
                time.sleep(0.5)
                hosts.cut()
                time.sleep(1)
                hosts.cut(False)
            run.end()
    finally:
        hosts.shape(None)
    assert_equal(src, work / "far/x")


def test_the_other_side_gone_for_good_is_an_error_and_the_same_command_goes_on(drover, hosts, near, daemon, work, src):
    """A large file goes on at the block that it had reached."""
    plant(src, {"large": noise(96 * MIB)})
    command = ["sync", "--json", "--key", daemon.key, "--no-compress", "--timeout", "2", src, url("far/x")]
    hosts.shape("300mbit")
    try:
        with drover.launch(*command, prefix=hosts.prefix("near")) as run:
            run.until(lambda: any(os.stat(entry).st_size > 30 * MIB for entry in _files(work / "far")),
                      "a third of it is there")
            hosts.cut()
            lost = run.end(code=5, timeout_s=60)
            assert "same command" in lost.err, lost
            hosts.cut(False)
    finally:
        hosts.shape(None)
    wait_until(lambda: not _sessions(daemon), "the daemon gives the session up", 60)
    again = near(*command)
    assert_equal(src, work / "far/x")
    assert again.events("summary")[0]["network"]["raw_bytes_sent"] < 75 * MIB, again


def test_a_killed_client_leaves_a_server_that_ends(drover, hosts, daemon, work, src):
    many_files(src, 3000)
    with drover.launch("sync", "--key", daemon.key, src, url("far/x"), prefix=hosts.prefix("near")) as run:
        run.until(lambda: (work / "far/x").exists(), "it has begun")
        run.kill()
    wait_until(lambda: not _sessions(daemon), "the session has ended", 90)


def test_a_signal_ends_both_sides(drover, hosts, near, daemon, work, src):
    many_files(src, 20000)
    key = ["--key", daemon.key]
    with drover.launch("sync", *key, "--bwlimit", "1M", src, url("far/x"), prefix=hosts.prefix("near")) as run:
        run.until(lambda: (work / "far/x").exists(), "it has begun")
        run.process.send_signal(signal.SIGINT)
        run.end(code=130, timeout_s=20)
    near("sync", *key, src, url("far/x"))
    assert_equal(src, work / "far/x")


def test_network_options_want_a_network(drover, src, dst):
    refused = drover.sync("-e", "ssh", src, dst, code=2)
    assert "everything is on this machine" in refused.err, refused
    refused = drover.sync("a:x", "b:y", code=2)
    assert "machine" in refused.err, refused


def _files(top):
    return [os.path.join(folder, name) for folder, _, names in os.walk(top) for name in names]


def _sessions(daemon):
    """The session processes of a daemon."""
    children = f"/proc/{daemon.process.pid}/task/{daemon.process.pid}/children"
    with open(children, encoding="ascii") as file:
        return file.read().split()


