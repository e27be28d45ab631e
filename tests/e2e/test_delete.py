# SPDX-License-Identifier: Apache-2.0
"""--delete removes what the source has not, and never more: limits, exclusions, doubts."""
import os

import pytest

from judge import Snapshot, assert_equal, assert_untouched
from lab import MIB
from trees import FIFO, Link, plant

EXTRA = {"extra file": "x", "extra dir/a": "a", "extra dir/sub/b": "b", "extra link": Link("keep"), "extra fifo": FIFO,
         "kept/extra": "x"}
EXTRA_ENTRIES = 8  # of EXTRA, directories counted


@pytest.fixture
def trees(src, dst):
    """A source, and a destination that holds it and the extra entries."""
    plant(src, {"keep": "keep", "kept/file": "file"})
    plant(dst, {"keep": "keep", "kept/file": "file", **EXTRA})
    return src, dst


def _extras(dst):
    return sum((dst / name).is_symlink() or (dst / name).exists() for name in (*EXTRA, "extra dir", "extra dir/sub"))


def test_without_delete_extra_entries_stay(drover, trees):
    src, dst = trees
    drover.sync(src, dst)
    assert _extras(dst) == EXTRA_ENTRIES


def test_with_delete_they_go(drover, trees):
    src, dst = trees
    drover.sync("--delete", src, dst)
    assert_equal(src, dst)


def test_names_of_any_bytes_are_deleted(drover, src, dst):
    plant(src, {"keep": "keep"})
    plant(dst, {"keep": "keep"})
    for name in (b"new\nline", b"\xff\xfe", b"-rf", b"x" * 255, b"*"):
        (dst / os.fsdecode(name)).write_text("x")
    drover.sync("--delete", src, dst)
    assert_equal(src, dst)


def test_max_delete_stops_at_the_number_and_says_so(drover, trees):
    src, dst = trees
    result = drover.sync("--delete", "--max-delete=3", src, dst, code=1)
    assert _extras(dst) >= EXTRA_ENTRIES - 3
    assert "max-delete" in result.err or "delete" in result.err
    assert_equal(src, dst, but=[*EXTRA, "extra dir", "extra dir/sub", ".", "kept"])


def test_max_delete_that_suffices_is_no_failure(drover, trees):
    src, dst = trees
    drover.sync("--delete", f"--max-delete={EXTRA_ENTRIES}", src, dst)
    assert_equal(src, dst)


def test_max_delete_counts_what_is_in_the_way_of_another_type(drover, src, dst):
    """A directory that becomes a file takes its content with it: that is deleting, too."""
    plant(src, {"name": "now a file"})
    plant(dst, {f"name/precious {number}": "x" for number in range(10)})
    drover.sync("--delete", "--max-delete=3", src, dst, code=1)
    assert len(list((dst / "name").iterdir())) >= 7


def test_max_delete_counts_a_deep_tree_in_the_way_of_a_file(drover, src, dst):
    plant(src, {"x": "a file"})
    (dst / "x" / "/".join(["d"] * 300)).mkdir(parents=True)
    drover.sync("--delete", "--max-delete=300", src, dst, code=1)
    assert (dst / "x").is_dir()
    drover.sync("--delete", "--max-delete=301", src, dst)
    assert_equal(src, dst)


def test_max_delete_zero_deletes_nothing(drover, trees):
    src, dst = trees
    drover.sync("--delete", "--max-delete=0", src, dst, code=1)
    assert _extras(dst) == EXTRA_ENTRIES


def test_max_delete_in_percent_of_the_destination(drover, src, dst):
    kept = {f"keep {number}": "x" for number in range(80)}
    plant(src, kept)
    plant(dst, kept | {f"extra {number}": "x" for number in range(20)})
    drover.sync("--delete", "--max-delete=10%", src, dst, code=1)
    left = sum(path.name.startswith("extra") for path in dst.iterdir())
    assert 9 <= left <= 20
    drover.sync("--delete", "--max-delete=50%", src, dst)
    assert_equal(src, dst)


def test_excluded_entries_are_protected_from_deletion(drover, trees):
    src, dst = trees
    drover.sync("--delete", "--exclude=extra*", src, dst)
    assert _extras(dst) == EXTRA_ENTRIES


def test_a_directory_with_a_protected_entry_stays_and_loses_the_rest(drover, trees):
    src, dst = trees
    result = drover.sync("--delete", "--exclude=b", src, dst, code=(0, 1))
    assert (dst / "extra dir/sub/b").exists(), str(result)
    assert not (dst / "extra dir/a").exists()
    assert not (dst / "extra file").exists()


def test_deleting_follows_no_link(drover, src, dst, work):
    outside = plant(work / "outside", {"precious": "precious"})
    before = Snapshot(outside)
    plant(src, {"keep": "keep"})
    plant(dst, {"keep": "keep", "link": Link("../outside"), "dir/link": Link(str(outside))})
    drover.sync("--delete", src, dst)
    assert_equal(src, dst)
    assert_untouched(before, Snapshot(outside))


def test_a_full_directory_in_a_files_place_goes_only_with_delete(drover, src, dst):
    plant(src, {"name": "a file", "other": "other"})
    plant(dst, {"name/inner": "inner", "other": "old other!"})
    result = drover.sync(src, dst, code=1)
    assert (dst / "name/inner").read_text() == "inner"
    assert (dst / "other").read_text() == "other"
    assert "not empty" in result.failed("name")[3]
    drover.sync("--delete", src, dst)
    assert_equal(src, dst)


def test_an_empty_directory_in_a_files_place_goes_without_delete(drover, src, dst):
    plant(src, {"name": "a file"})
    plant(dst, {"name": None})
    drover.sync(src, dst)
    assert_equal(src, dst)


def test_a_source_directory_that_cannot_be_listed_deletes_nothing_below_it(drover, trees, faulty):
    src, dst = trees
    broken = faulty(src, "readdir:/kept:EIO")
    result = drover.sync("--delete", broken, dst, code=1)
    assert result.failed("kept")[0] == "source"
    assert (dst / "kept/file").exists()
    assert (dst / "kept/extra").exists()


def test_a_source_entry_that_cannot_be_examined_is_not_deleted(drover, trees, faulty):
    src, dst = trees
    broken = faulty(src, "getattr:/keep:EIO")
    result = drover.sync("--delete", broken, dst, code=1)
    assert result.failed("keep")[0] == "source"
    assert (dst / "keep").read_text() == "keep"


def test_a_source_file_that_cannot_be_read_is_not_deleted(drover, trees, faulty):
    src, dst = trees
    (src / "keep").write_text("changed")
    broken = faulty(src, "open:/keep:EACCES")
    drover.sync("--delete", broken, dst, code=1)
    assert (dst / "keep").read_text() == "keep"


def test_an_empty_source_refuses_to_wipe_the_destination(drover, src, dst):
    plant(dst, {"precious/file": "precious"})
    before = Snapshot(dst)
    result = drover.sync("--delete", src, dst, code=5)
    assert result.err.startswith("drover: sync: ") and "empty" in result.err and "--force" in result.err
    assert_untouched(before, Snapshot(dst))
    drover.sync("--delete", "--force", src, dst)
    assert_equal(src, dst)


def test_an_empty_source_is_fine_where_nothing_would_be_deleted(drover, src, dst):
    drover.sync("--delete", src, dst)
    drover.sync("--delete", src, dst)
    assert_equal(src, dst)


def test_another_device_at_the_sources_path_refuses_to_delete(drover, lab, work, dst):
    """The array did not come up and another one, or the bare mount point, is in its place."""
    point = work / "mnt"
    point.mkdir()
    for contents in ({"precious": "precious", "both": "x"}, {"both": "x", "stray": "stray"}):
        volume = lab.make("tmpfs", 8 * MIB).path
        lab.mount("--bind", volume, at=point)
        plant(point, contents)
        if "precious" in contents:
            drover.sync("--delete", point, dst)
    before = Snapshot(dst)
    result = drover.sync("--delete", point, dst, code=5)
    assert "last time" in result.err and "--force" in result.err
    assert_untouched(before, Snapshot(dst))
    drover.sync("--delete", "--force", point, dst)
    assert_equal(point, dst)
    drover.sync("--delete", point, dst)
    lab.unmount(point)
    lab.unmount(point)


def test_a_dry_run_of_delete_deletes_nothing(drover, trees):
    src, dst = trees
    before = Snapshot(dst)
    result = drover.sync("-n", "-i", "--delete", src, dst)
    assert sum(line.startswith(b"*deleting") for line in result.lines) == EXTRA_ENTRIES
    assert_untouched(before, Snapshot(dst))


def test_what_drover_remembers_of_a_source_is_not_writable_by_others(drover, trees):
    src, dst = trees
    drover.sync("--delete", src, dst)
    remembered = [path for path in (drover.folder / "drover").rglob("*") if path.is_file()]
    assert remembered
    assert [path for path in remembered if path.stat().st_mode & 0o022] == []
