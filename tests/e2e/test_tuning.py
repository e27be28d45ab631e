# SPDX-License-Identifier: Apache-2.0
"""How many workers a run has is found while it goes on: over storage with a latency, where that matters.

Nothing here depends on how fast the machine is: the latencies are so long that it has nothing to do meanwhile.
"""
import math
import os
import re
import signal
import subprocess

import pytest

from drover import Drover, wait_until
from judge import assert_equal
from lab import run
from trees import many_files, plant

pytestmark = pytest.mark.local
WORDS = re.compile(r"drover: [0-9.]+ s: (?P<what>[a-z ]+?) (?:(?P<from>\d+|no limit) -> )?(?P<to>\d+|no limit), .+")
TRIALS = {"try", "keep", "back"}


@pytest.fixture
def drover(drover, lab):
    """That remembers nothing of other tests."""
    return Drover(drover.binary, lab.folder("home"))


@pytest.fixture
def slow(lab, helper):
    """slow(DIR, OPTIONS): a mount that shows DIR and takes its time (see bench/latencyfs.c)."""
    if not os.path.exists("/dev/fuse"):
        pytest.skip("no /dev/fuse")
    mounted = []

    def mount(shown, options):
        point = lab.folder("slow")
        process = subprocess.Popen([helper("latencyfs"), "-f", "-o",
                                    f"source={shown},attr_timeout=60,entry_timeout=60,neg_timeout=60,{options}", point])
        mounted.append(process)
        wait_until(lambda: os.path.ismount(point) or process.poll() is not None, "the FUSE mount is there")
        assert process.poll() is None, "latencyfs ended"
        return point

    yield mount
    for process in reversed(mounted):
        process.terminate()  # it unmounts itself
        process.wait(30)


def wide(root, files):
    """Much to do side by side: what happens in one directory has to wait for one another."""
    return plant(root, {f"{top}/{sub}/{file}": f"{top} {sub} {file}"
                        for top in range(16) for sub in range(16) for file in range(files // 256)})


@pytest.fixture
def tree(src):
    """Enough to do for some seconds."""
    return wide(src, 1024)


@pytest.fixture
def sides(slow, tree, dst):
    """sides(OPTIONS): the tree and an empty destination, both behind a latency."""
    def show(options):
        dst.mkdir(exist_ok=True)
        return slow(tree, options), slow(dst, options)
    return show


def decisions(result, what="workers"):
    return [event for event in result.events("tuning") if event["what"] == what]


def lowers(event):
    """Whether fewer are let in than before; null is no limit."""
    return (event["to"] or math.inf) < (event["from"] or math.inf)


def settled(result):
    """How many workers it had in the end; what was only on trial then does not count."""
    told = decisions(result)
    return told[-1]["from" if told[-1]["why"] == "try" else "to"]


def states(result):
    """How it was steered, each second."""
    return [event["tuning"] for event in result.events("progress") if "tuning" in event]


# --- More workers, where that pays ---

def test_more_workers_come_where_each_waits_long(drover, sides, tree, dst):
    result = drover.sync("--json", *sides("lat=20000"))
    assert_equal(tree, dst)
    first, *later = decisions(result)
    assert first["why"] == "start" and first["from"] == first["to"]
    assert {event["why"] for event in later} >= {"try", "keep"}
    assert settled(result) > first["to"]
    assert max(event["to"] for event in later) <= 256
    assert result.events("summary")[0]["jobs"] == max(event["to"] for event in decisions(result))


def test_each_decision_follows_from_the_one_before(drover, sides):
    result = drover.sync("--json", *sides("lat=20000"))
    first, *later = decisions(result)
    workers = first["to"]
    for event in later:
        kept = event["why"] == "keep"  # what was tried before: nothing changes
        assert workers == event["to" if kept else "from"], event["text"]
        workers = event["to"]
        assert not kept or event["per_s_after"] > event["per_s_before"] or event["to"] < event["from"]
    assert states(result), "progress tells how it is steered"
    for state in states(result):
        assert state["workers"] >= 1 and not state["fixed"]
        assert set(state["lanes"]) == {"source_metadata", "reads", "destination_metadata", "writes", "hashing"}


def test_decisions_are_explained_on_request(drover, sides, tree, dst):
    source, shown = sides("lat=20000")
    result = drover.sync("--explain-tuning", source, shown)
    assert_equal(tree, dst)
    found = [WORDS.fullmatch(line) for line in result.err.splitlines() if "files" not in line]  # but progress
    assert found and all(found), f"decisions alone\n{result}"
    assert any(int(one["from"]) < int(one["to"]) for one in found if one["what"] == "workers" and one["from"])
    assert "workers" not in drover.sync(source, shown).err, "else it is silent"


def test_it_is_remembered_for_the_next_run(drover, sides, tree, dst):
    source, shown = sides("lat=20000")
    first = drover.sync("--json", source, shown)
    found = settled(first)
    for folder in dst.iterdir():
        run("rm", "-r", folder)
    second = drover.sync("--json", source, shown)
    assert_equal(tree, dst)
    start = decisions(second)[0]
    assert start["why"] == "start" and start["to"] > decisions(first)[0]["to"]
    assert start["to"] <= max(event["to"] for event in decisions(first)), f"settled on {found}"


# --- Fewer, where more only wait ---

def test_with_a_server_of_four_hands_fewer_are_kept(drover, sides, tree, dst):
    """Work for forty seconds, so that luck with the first trials does not matter."""
    wide(tree, 16384)

    def number(words):
        return math.inf if words in (None, "no limit") else int(words)

    def fewer():
        """Workers, or of those that may be in one lane."""
        told = filter(None, map(WORDS.fullmatch, running.words_so_far().splitlines()))
        return any(number(one["to"]) < number(one["from"]) for one in told if ", kept, " in one[0])

    with drover.start("--explain-tuning", *sides("lat=2000,knee=4")) as running:
        running.until(fewer, "fewer workers are kept", timeout_s=60)
        running.process.send_signal(signal.SIGINT)
        running.end(code=130)
    drover.sync(tree, dst)
    assert_equal(tree, dst)


def test_max_latency_keeps_few_at_once(drover, sides, tree, dst):
    """Four hands, 5 ms each: 64 at once would wait for 80 ms, and eight do for 10."""
    result = drover.sync("--json", "--max-latency=12", *sides("lat=5000,knee=4"))
    assert_equal(tree, dst)
    assert any(event["why"] == "latency" and lowers(event) for event in result.events("tuning"))
    last = states(result)[-1]
    assert last["max_latency_ms"] == 12
    lanes = last["lanes"]
    room = [min(lane["limit"] or last["workers"], last["workers"]) for lane in lanes.values()]
    assert min(room) <= 16, f"{last}"


# --- What was asked for, holds ---

@pytest.mark.parametrize("jobs", [1, 5, 100])
def test_a_number_that_was_asked_for_is_kept(drover, src, dst, slow, jobs):
    many_files(src, 10 * jobs + 100, per_directory=4)
    dst.mkdir()
    result = drover.sync("--json", f"-j{jobs}", slow(src, "lat=2000"), slow(dst, "lat=2000"))
    assert_equal(src, dst)
    told = result.events("tuning")
    assert not TRIALS & {event["why"] for event in told}
    assert all(event["what"] == "workers" and event["to"] == jobs for event in told)
    assert all(state["fixed"] and state["workers"] == jobs for state in states(result))
    assert all(lane["limit"] is None for state in states(result) for lane in state["lanes"].values())
    assert result.events("summary")[0]["jobs"] == jobs


def test_auto_is_what_is_done_without_a_number(drover, sides, tree, dst):
    result = drover.sync("--json", "--jobs=auto", *sides("lat=20000"))
    assert_equal(tree, dst)
    assert TRIALS & {event["why"] for event in decisions(result)}


def test_a_short_run_is_left_alone(drover, src, dst):
    many_files(src, 20)
    result = drover.sync("--json", src, dst)
    assert_equal(src, dst)
    assert not TRIALS & {event["why"] for event in result.events("tuning")}


# --- Not only a sync ---

def test_a_manifest_is_made_and_compared_with_as_many_as_it_takes(drover, slow, tree, work):
    shown = slow(tree, "lat=100000")
    for command in (["manifest", "create", "-o", work / "manifest", "--json", shown],
                    ["manifest", "check", "--json", work / "manifest", shown],
                    ["verify", "--json", shown, tree]):
        result = drover.run(*command)
        if command[1] == "create":  # the check begins with what that remembered
            assert {event["why"] for event in decisions(result)} >= {"try", "keep"}
            usual = decisions(result)[0]["to"]
        assert settled(result) > usual, result
