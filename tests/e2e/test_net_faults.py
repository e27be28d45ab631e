# SPDX-License-Identifier: Apache-2.0
"""A network that cuts, resets, stalls, corrupts and truncates: whatever happens, the trees are equal at the end or the exit
code says otherwise, and running the same command again gets there."""
import pytest

from judge import assert_equal, litter
from lab import MIB, THOROUGH
from netlab import Daemon, Hosts, Proxy, run_near
from trees import many_files, noise, plant, two_versions

URL = "drover://127.0.0.1:8730/far"
EQUAL, LOST = 0, 5


@pytest.fixture(scope="module")
def hosts(lab):
    made = Hosts()
    yield made
    made.close()


@pytest.fixture
def daemon(hosts, drover, work, tmp_path):
    (work / "far").mkdir()
    made = Daemon(hosts, drover, tmp_path, {"far": (work / "far", "read-write")}, server="timeout = 10")
    yield made
    made.close()


def until_equal(drover, hosts, key, sides, compare, runs=40):
    """Runs the same command until it says that all is equal. After each, what the exit code says is true."""
    for _ in range(runs):
        result = run_near(drover, hosts, "sync", "--key", key, "--timeout", "10", "--delete", *sides, code=(EQUAL, LOST))
        if result.code == EQUAL:
            assert_equal(*compare)
            return
    raise AssertionError(f"not equal after {runs} runs\n{result}")


@pytest.mark.parametrize("cuts", [200 if THOROUGH else 40])
def test_random_cuts(drover, hosts, daemon, chance, work, tmp_path, cuts):
    """Four times there and back, each way with an eighth of them. Most are mended within the session, which makes new
    connections; after others a second run goes on."""
    old, new, far, back = work / "old", work / "new", work / "far/x", work / "back"
    two_versions(old, new)
    many_files(new / "many", 1500, seed=2)
    plant(old, {"large": noise(24 * MIB, 1)})
    plant(new, {"large": noise(40 * MIB, 2)})
    each = cuts // 8
    ways = [way for tree in (old, new, old, new) for way in ((tree, f"{URL}/x", tree, far), (f"{URL}/x", back, far, back))]
    for number, (*sides, source, destination) in enumerate(ways):
        (tmp_path / f"way{number}").mkdir()
        proxy = Proxy(hosts, tmp_path / f"way{number}", "--kinds", "cut,reset,truncate", "--faults", each,
                      "--every", 24 * MIB // (2 * each), "--seed", chance.randrange(1 << 30))
        try:
            until_equal(drover, hosts, daemon.key, sides, (source, destination))
            while proxy.faults < each:
                plant(source, {"again": noise(24 * MIB, 100 * number + proxy.faults)})
                until_equal(drover, hosts, daemon.key, sides, (source, destination))
        finally:
            proxy.close()
    assert litter(far) == [] and litter(back) == []


@pytest.mark.parametrize("kind", ["corrupt", "stall", "delay", "corrupt,stall,cut,reset,truncate,delay"])
def test_other_harm(drover, hosts, daemon, work, src, tmp_path, kind):
    many_files(src, 800)
    plant(src, {"large": noise(24 * MIB)})
    faults = 6 if "stall" in kind else 30
    proxy = Proxy(hosts, tmp_path, "--kinds", kind, "--faults", faults, "--every", 1_000_000, "--seed", len(kind))
    try:
        until_equal(drover, hosts, daemon.key, (src, f"{URL}/x"), (src, work / "far/x"))
        until_equal(drover, hosts, daemon.key, (f"{URL}/x", work / "back"), (src, work / "back"))
        assert proxy.faults > 0
    finally:
        proxy.close()
