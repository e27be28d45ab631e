# SPDX-License-Identifier: Apache-2.0
"""Runs are found, told about and adjusted while they go on; nobody else can do so, and no client holds them up."""
import json
import os
import re
import signal
import socket
import stat
import subprocess

import pytest

from drover import NO_SHELL, Drover, Running
from judge import assert_equal
from lab import MIB, require
from trees import many_files, noise, plant

USER = 1234
AS_USER = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"]
SLOW = "--bwlimit=64K"  # hours, unless that is changed


@pytest.fixture
def runtime(work):
    """$XDG_RUNTIME_DIR of this test alone."""
    path = work / "runtime"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture
def drover(drover, runtime):
    own = Drover(drover.binary, drover.folder)
    own.environment["XDG_RUNTIME_DIR"] = str(runtime)
    return own


@pytest.fixture
def tree(src):
    """32 MiB in a large file, and some small ones."""
    many_files(src, 100)
    return plant(src, {"large": noise(32 * MIB)})


def place_of(runtime):
    return runtime / "drover"


def names_in(runtime):
    return sorted(path.name for path in place_of(runtime).glob("*"))


def told(drover, *arguments):
    """What `drover ctl --json` prints."""
    return [json.loads(line) for line in drover.run("ctl", "--json", *arguments).lines]


def at_work(drover, running):
    """Waits until that run can be adjusted, and returns its state."""
    def state():
        return next((one for one in told(drover) if one["pid"] == running.process.pid and "tuning" in one), None)
    running.until(state, "it can be adjusted")
    return state()


def elapsed_s(drover, name):
    return told(drover, name)[0].get("progress", {"elapsed_s": 0})["elapsed_s"]


def connect(runtime, running):
    client = socket.socket(socket.AF_UNIX)
    client.connect(str(place_of(runtime) / f"{running.process.pid}.sock"))
    return client


def everything_from(client):
    client.settimeout(30)
    parts = []
    while part := client.recv(65536):
        parts.append(part)
    return b"".join(parts)


def stop(running):
    running.process.send_signal(signal.SIGTERM)
    running.end(code=143)


# ---- finding


def test_runs_are_listed_while_they_go_on(drover, tree, dst, runtime, work):
    with drover.launch("sync", "--job=move", SLOW, tree, dst) as sync, \
            drover.launch("manifest", "create", SLOW, "-o", work / "manifest", tree) as create, \
            drover.launch("verify", SLOW, tree, tree) as verify:
        runs = [sync, create, verify]
        for run in runs:
            at_work(drover, run)
        by_pid = {one["pid"]: one for one in told(drover)}
        assert {run.process.pid for run in runs} <= set(by_pid)
        one, two, three = (by_pid[run.process.pid] for run in runs)
        assert (one["command"], one["job"], one["src"], one["dst"]) == ("sync", "move", str(tree), str(dst))
        assert (two["command"], two["tree"], two["manifest"]) == ("manifest create", str(tree), str(work / "manifest"))
        assert three["command"] == "verify" and "job" not in three
        lines = drover.run("ctl").out.decode().splitlines()
        assert re.fullmatch(r" *PID +JOB +SINCE +COMMAND", lines[0])
        assert any(re.fullmatch(rf" *{one['pid']}  move +\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d  sync {tree} -> {dst}", line)
                   for line in lines), lines
        for run in runs:
            stop(run)
    assert names_in(runtime) == []
    assert not {one["pid"] for one in told(drover)} & {run.process.pid for run in runs}


def test_a_run_is_shown_by_its_number_and_by_its_name(drover, tree, dst):
    with drover.launch("sync", "--job=move", "-j3", SLOW, tree, dst) as running:
        at_work(drover, running)
        for name in (str(running.process.pid), "move"):
            state, = told(drover, name)
            assert state["pid"] == running.process.pid
            tuning = state["tuning"]
            assert (tuning["workers"], tuning["fixed"], tuning["bwlimit_bytes_per_s"]) == (3, True, 64 << 10)
            assert set(tuning["lanes"]) == {"source_metadata", "reads", "destination_metadata", "writes", "hashing"}
            shown = drover.run("ctl", name).out.decode()
            assert re.search(r"^jobs +3$", shown, re.MULTILINE) and re.search(r"^bwlimit +64.0 KiB/s$", shown, re.MULTILINE)
        running.until(lambda: "progress" in told(drover, "move")[0], "progress is told")
        assert told(drover, "move")[0]["progress"]["files_done"] <= 101
        stop(running)


def test_names_of_the_tree_do_not_command_the_terminal(drover, src, dst):
    odd = src.parent / "red\033[31m\n"
    src.rename(odd)
    plant(odd, {"large": noise(4 * MIB)})
    with drover.launch("sync", SLOW, odd, dst) as running:
        at_work(drover, running)
        for arguments in ([], [str(running.process.pid)]):
            out = drover.run("ctl", *arguments).out
            assert b"\033" not in out and rb"red\#033[31m\#012 -> " in out
        stop(running)


@pytest.mark.parametrize("name", ["2147483647", "nobody"])
def test_who_does_not_run_is_not_found(drover, name):
    result = drover.run("ctl", name, code=5)
    assert re.fullmatch(rf"drover: ctl: {name}: no drover of yours is running under this (PID|name)\n", result.err)
    assert drover.run("ctl", name, "set", "jobs=4", code=5).err == result.err


def test_where_nothing_runs_that_is_said(drover, runtime):
    result = drover.run("ctl")
    if not result.lines:  # others may run drover as this user
        assert result.err == "drover: ctl: none of your drovers is running\n"
    assert not place_of(runtime).exists()


# ---- adjusting


def test_a_bandwidth_limit_is_lifted(drover, tree, dst):
    with drover.launch("sync", SLOW, tree, dst) as running:
        at_work(drover, running)
        state, = told(drover, str(running.process.pid), "set", "bwlimit=off")
        assert state["tuning"]["bwlimit_bytes_per_s"] == 0
        running.end()
    assert_equal(tree, dst)


def test_a_timetable_holds_until_another_limit_is_set(drover, tree, dst):
    with drover.launch("sync", "--bwlimit-schedule=00:00,64K 12:00,64K", tree, dst) as running:
        assert at_work(drover, running)["tuning"]["bwlimit_bytes_per_s"] == 64 << 10
        state, = told(drover, str(running.process.pid), "set", "bwlimit=1G")
        assert state["tuning"]["bwlimit_bytes_per_s"] == 1024 * MIB
        running.end()
    assert_equal(tree, dst)


def test_the_number_of_workers_is_set_and_found_again(drover, tree, dst):
    with drover.launch("sync", "--job=move", SLOW, tree, dst) as running:
        assert at_work(drover, running)["tuning"]["fixed"] is False
        state, = told(drover, "move", "set", "jobs=2")
        assert (state["tuning"]["workers"], state["tuning"]["fixed"]) == (2, True)
        state, = told(drover, "move", "set", "jobs=auto")
        assert state["tuning"]["fixed"] is False
        too_many = drover.run("ctl", "move", "set", "jobs=1024")
        assert re.search(r"^drover: ctl: jobs=1024: \d+ are at work", too_many.err)
        drover.run("ctl", "move", "set", "bwlimit=off", "jobs=3")
        running.end()
    assert_equal(tree, dst)


def test_limits_of_latency_and_load_are_set_and_lifted(drover, tree, dst):
    with drover.launch("sync", "--job=move", "--max-load=100", SLOW, tree, dst) as running:
        assert at_work(drover, running)["tuning"]["max_load"] == 100
        tuning = told(drover, "move", "set", "max-latency=2.5", "max-load=off")[0]["tuning"]
        assert (tuning["max_latency_ms"], tuning["max_load"]) == (2.5, 0)
        tuning = told(drover, "move", "set", "max-latency=off", "bwlimit=off")[0]["tuning"]
        assert (tuning["max_latency_ms"], tuning["bwlimit_bytes_per_s"]) == (0, 0)
        running.end()


def test_an_order_is_in_the_log(drover, tree, dst, work):
    with drover.launch("sync", "--job=move", f"--log-file={work}/log", "--explain-tuning", SLOW, tree, dst) as running:
        at_work(drover, running)
        drover.run("ctl", "move", "set", "jobs=2")
        running.until(lambda: re.search(r"\] tuning .*workers \d+ -> 2, as ordered", (work / "log").read_text()), "it is told")
        drover.run("ctl", "move", "set", "bwlimit=off")
        result = running.end()
    assert re.search(r"^drover: \d+\.\d s: workers \d+ -> 2, as ordered", result.err, re.MULTILINE), str(result)
    assert re.search(r"\] start drover \S+ sync \(job move\): ", (work / "log").read_text())


def test_json_tells_decisions_and_how_the_run_is_steered(drover, tree, dst, work):
    log = work / "log"
    with drover.launch("sync", "--json", f"--log-file={log}", "--job=move", SLOW, tree, dst) as running:
        at_work(drover, running)
        drover.run("ctl", "move", "set", "jobs=2")
        running.until(lambda: "as ordered" in log.read_text(), "it is told")
        seen_s = elapsed_s(drover, "move")
        running.until(lambda: elapsed_s(drover, "move") > seen_s, "there was progress since")
        drover.run("ctl", "move", "set", "bwlimit=off")
        result = running.end()
    assert result.events("start")[0]["job"] == "move"
    decisions = result.events("tuning")
    assert {"start", "order"} <= {one["why"] for one in decisions}
    order = next(one for one in decisions if one["why"] == "order")
    assert (order["what"], order["to"]) == ("workers", 2)
    assert any("tuning" in one for one in result.events("progress"))


# ---- names


def test_a_name_belongs_to_one_run_at_a_time(drover, tree, dst, work):
    with drover.launch("sync", "--job=move", SLOW, tree, dst) as running:
        at_work(drover, running)
        second = drover.run("sync", "--job=move", tree, work / "other", code=5)
        assert second.err == (f"drover: sync: job move: another run has this name: process {running.process.pid}\n")
        assert not (work / "other").exists()
        summary = drover.run("sync", "--json", "--job=move", tree, work / "other", code=5).events("summary")[0]
        assert summary["outcome"] == "fatal" and "another run has this name" in summary["error"]
        drover.run("sync", "--job=other", tree, work / "other")
        stop(running)
    drover.run("sync", "--job=move", tree, dst)


def test_what_a_killed_run_left_is_in_nobodys_way(drover, tree, dst, runtime):
    with drover.launch("sync", "--job=move", SLOW, tree, dst) as running:
        at_work(drover, running)
        running.process.kill()
        running.process.wait()
        pid = running.process.pid
    assert names_in(runtime) == sorted([f"{pid}.sock", "move.job"])
    drover.run("ctl", "move", code=5)
    assert all(one["pid"] != pid for one in told(drover))
    assert f"{pid}.sock" not in names_in(runtime)
    drover.run("sync", "--job=move", tree, dst)
    assert names_in(runtime) == []


# ---- who may


def test_only_its_owner_can_enter(drover, tree, dst, runtime):
    with drover.launch("sync", SLOW, tree, dst) as running:
        at_work(drover, running)
        assert stat.S_IMODE(place_of(runtime).stat().st_mode) == 0o700
        assert stat.S_IMODE((place_of(runtime) / f"{running.process.pid}.sock").stat().st_mode) == 0o600
        stop(running)


def test_another_user_gets_no_answer_even_where_the_way_is_open(drover, tree, dst, runtime, work):
    require("setpriv")
    with drover.launch("sync", SLOW, tree, dst) as running:
        at_work(drover, running)
        path = place_of(runtime) / f"{running.process.pid}.sock"
        for folder in (work, runtime, place_of(runtime)):
            folder.chmod(0o755)
        path.chmod(0o666)
        script = ("import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n"
                  "try: s.sendall(b'{\"do\":\"tell\"}\\n'); print(s.recv(99))\n"
                  "except (BrokenPipeError, ConnectionResetError): print(b'')")
        asked = subprocess.run([*AS_USER, "/usr/bin/python3", "-c", script, str(path)], capture_output=True, text=True,
                               timeout=60)
        assert asked.stdout == "b''\n", asked
        assert everything_from(_asked(connect(runtime, running)))
        stop(running)


def _asked(client):
    client.sendall(b'{"do":"tell"}\n')
    return client


def test_root_can_talk_to_the_run_of_another_user(drover, tree, work):
    require("setpriv")
    work.chmod(0o755)
    place = work / "of the user"
    place.mkdir()
    os.chown(place, USER, USER)
    environment = drover.environment | {"HOME": str(place), "XDG_STATE_HOME": str(place)}
    del environment["XDG_RUNTIME_DIR"]
    with Running([*AS_USER, drover.binary, "sync", SLOW, tree, place / "dst"], environment, place) as running:
        def state():
            found = drover.run("ctl", "--json", str(running.process.pid), code=(0, 5))
            return found.code == 0 and "tuning" in json.loads(found.out)
        running.until(state, "it can be adjusted")
        assert running.process.pid not in {one["pid"] for one in told(drover)}, "not one of root's own"
        drover.run("ctl", str(running.process.pid), "set", "bwlimit=off")
        running.end(code=(0, 4))


@pytest.mark.parametrize("wrong", ["others may enter", "somebody else's", "a link", "a file"])
def test_a_place_that_others_could_reach_is_not_used(drover, src, dst, runtime, work, wrong):
    plant(src, {"file": "content"})
    place = place_of(runtime)
    if wrong == "a link":
        (work / "elsewhere").mkdir(mode=0o700)
        place.symlink_to(work / "elsewhere")
    elif wrong == "a file":
        place.write_text("")
    else:
        place.mkdir(mode=0o700)
        if wrong == "others may enter":
            place.chmod(0o710)
        else:
            os.chown(place, USER, USER)
    assert "ctl" not in drover.run("sync", src, dst).err
    assert f"drover ctl cannot reach this run: {place}: " in drover.run("sync", "-v", src, dst).err
    assert "drover ctl cannot reach this run: " in drover.run("sync", "--job=move", src, dst).err
    if wrong != "a file":
        assert list(place.iterdir()) == []


# ---- clients that behave badly


@pytest.mark.parametrize("request_", [b"", b'{"do":"te', b"nonsense\n", b"[" * 500 + b"\n", b"\0\xff\n", b"x" * 100000,
                                      b'{"do":"set","jobs":1e9}\n', b'{"do":"set","src":"/"}\n'], ids=repr)
def test_a_request_that_is_none_changes_nothing(drover, tree, dst, runtime, request_):
    with drover.launch("sync", "-j2", SLOW, tree, dst) as running:
        before = at_work(drover, running)["tuning"]
        client = connect(runtime, running)
        try:
            client.sendall(request_)
            client.shutdown(socket.SHUT_WR)
            answer = everything_from(client)
        except (BrokenPipeError, ConnectionResetError):
            answer = b""
        assert answer == b"" or json.loads(answer)["error"]
        assert answer or not request_.endswith(b"\n")
        after, = told(drover, str(running.process.pid))
        assert {**after["tuning"], "lanes": 0} .items() >= {"workers": 2, "fixed": True, "max_load": 0}.items()
        assert after["tuning"]["bwlimit_bytes_per_s"] == before["bwlimit_bytes_per_s"]
        stop(running)


def test_a_client_that_says_nothing_holds_nobody_up(drover, tree, dst, runtime):
    with drover.launch("sync", "--job=move", SLOW, tree, dst) as running:
        at_work(drover, running)
        silent, half = connect(runtime, running), connect(runtime, running)
        half.sendall(b'{"do":')
        drover.run("ctl", "move", "set", "bwlimit=off")  # after these two have had their time
        running.end()
        silent.close(), half.close()
    assert_equal(tree, dst)


def test_clients_do_not_keep_a_run_from_its_end(drover, tree, dst, runtime):
    with drover.launch("sync", "--job=move", SLOW, tree, dst) as running:
        at_work(drover, running)
        clients = [connect(runtime, running) for _ in range(8)]
        stop(running)
        for client in clients:
            client.close()
    assert names_in(runtime) == []


def test_a_run_that_is_stopped_does_not_hang_those_who_ask(drover, tree, dst):
    with drover.launch("sync", "--job=move", SLOW, tree, dst) as running:
        at_work(drover, running)
        running.process.send_signal(signal.SIGSTOP)
        try:
            result = drover.run("ctl", "move", code=5)
            assert f"process {running.process.pid}: no answer: Connection timed out" in result.err
            assert "no answer" in drover.run("ctl", code=5).err
            assert "another run has this name" in drover.run("sync", "--job=move", tree, dst, code=5).err
        finally:
            running.process.send_signal(signal.SIGCONT)
        stop(running)


# ---- over a session


FAR = ["-e", NO_SHELL, "--remote-drover"]


def test_who_pushes_is_adjusted_and_who_serves_is_not_found(drover, tree, dst, runtime):
    with drover.launch("sync", "--job=move", *FAR, drover.binary, "--explain-tuning", SLOW, tree, f"far:{dst}") as running:
        at_work(drover, running)
        assert names_in(runtime) == sorted([f"{running.process.pid}.sock", "move.job"])
        state, = told(drover, "move", "set", "jobs=2")
        assert state["tuning"]["workers"] == 2
        stop(running)


def test_who_pulls_is_adjusted_as_any_other(drover, tree, dst):
    with drover.launch("sync", "--json", "--job=move", *FAR, drover.binary, SLOW, f"far:{tree}", dst) as running:
        at_work(drover, running)
        state, = told(drover, "move", "set", "jobs=2")
        assert state["tuning"]["workers"] == 2
        drover.run("ctl", "move", "set", "bwlimit=off")
        result = running.end()
    assert all("at_s" in one for one in result.events("tuning"))
    assert_equal(tree, dst)


def test_of_a_tree_elsewhere_nothing_is_adjusted_and_that_is_said(drover, tree, work):
    with drover.launch("manifest", "create", "--job=look", *FAR, drover.binary, SLOW, "-o", work / "manifest",
                       f"far:{tree}") as running:
        running.until(lambda: "progress" in (told(drover) or [{}])[0], "there is progress")
        assert "nothing to adjust here" in drover.run("ctl", "look", "set", "jobs=2", code=5).err
        assert "nothing to adjust here" in drover.run("ctl", "look").out.decode()
        stop(running)
