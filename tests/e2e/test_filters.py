# SPDX-License-Identifier: Apache-2.0
"""--exclude, --include and --exclude-from choose what rsync's rules choose: the same rules, the same tree."""
import random

import pytest

from judge import Snapshot, assert_untouched, rsync_itemize
from trees import Link, plant

NAMES = ["a", "b.txt", "b.tar.gz", "core", "core.c", "foo", "foo.o", "Foo", "x1", "x22", "cache", ".hidden",
         "name with space", "star*name", "br[ack]et", "back\\slash", "ünï"]
DIRECTORIES = ["", "foo", "foo/bar", "foo/bar/baz", "bar", "bar/foo", "cache", "cache/foo/cache", "src/.git",
               "src/core", "deep/a/b/c"]

# Each line is one command line: "-X" excludes, "+X" includes.
RULES = [line.split("  ") for line in r"""
-foo
-/foo
-foo/
-/foo/
-*.o
-*
-foo/bar
-/foo/bar
-foo/bar/
-bar/foo
-foo/*
-/foo/*
-foo/**
-/foo/**
-**/foo
-**foo
-foo**
-foo/***
-/foo/***
-**/bar/**
-*/foo
-/*/foo
-**
-/
-/**
-/*
-*/
-?
-x?
-x??
-foo?o
-foo?bar
-[fF]oo
-[^f]oo
-[!f]oo
-x[0-9]
-x[[:digit:]]*
-[[:upper:]]*
-[a-c]
-[]]
-[a-
-x[0-9
-star\*name
-star*name
-br\[ack\]et
-br[ack]et
-back\slash
-back\\slash
-back\\sla*
-name with space
-.*
-.git
-.git/
-ünï
-?n?
-core*
-core  -cache
-*.[co]
-*.tar.*
-FOO
+foo  -*
+*/  +*.txt  -*
+/foo/  -/*
+/foo  +/foo/bar  -/foo/*  -/bar
+foo/***  -*
+/deep/  +/deep/a/  +/deep/a/b/***  -*
-core  +src/core
+src/core  -core
+*  -foo
-foo  +foo/bar
+*.c  -core*
+b.*  -?.*
-link
-link/
-link dir/
-/deep/**/c
-a/**/c
-deep/*/b
-a*/b*
-/**/foo
-**/
-*/*/
-foo//bar
-./foo
-+ foo
-- foo
+- foo
""".strip().splitlines()]

FILES = [
    "foo\n", "/foo\n*.o\n", "# a comment\n; another\n\nfoo\n", "+ foo/\n+ foo/bar/\n- *\n", "- foo\n+ *\n", "foo",
    "  foo\n", "foo \n", "+ *.txt\n- b*\n", "foo\n!\nbar\n", "*.o\r\n",
]


def _options(rules):
    return [f"--{'exclude' if rule[0] == '-' else 'include'}={rule[1:]}" for rule in rules]


@pytest.fixture(scope="module")
def tree(lab):
    """One tree for all rules, in memory."""
    entries = {f"{folder}/{name}".lstrip("/"): name for folder in DIRECTORIES for name in NAMES
               if f"{folder}/{name}".lstrip("/") not in DIRECTORIES}
    entries |= {"link": Link("foo"), "link dir": Link("foo/bar")}
    entries = {path: what for path, what in entries.items()
               if not any(folder.startswith(path + "/") or folder == path for folder in DIRECTORIES)}
    return plant(lab.volume("tmpfs").fresh() / "src", entries)


def _assert_same_choice(drover, lab, tree, options):
    work = lab.volume("tmpfs").fresh()
    rsync_itemize(tree, work / "rsync", *options, dry_run=False)
    drover.sync(*options, tree, work / "drover")
    chosen, expected = (set(Snapshot(work / who).records) for who in ("drover", "rsync"))
    assert sorted(chosen - expected) == [], "not excluded"
    assert sorted(expected - chosen) == [], "excluded"


@pytest.mark.parametrize("rules", RULES, ids=" ".join)
def test_the_rules_choose_what_rsync_chooses(drover, lab, tree, rules):
    _assert_same_choice(drover, lab, tree, _options(rules))


@pytest.mark.parametrize("content", FILES, ids=repr)
def test_a_file_of_rules_chooses_what_rsync_chooses(drover, lab, tree, content):
    rules = lab.folder("rules") / "rules"
    rules.write_text(content, newline="")
    _assert_same_choice(drover, lab, tree, [f"--exclude-from={rules}"])


def test_rules_of_files_and_options_apply_in_the_order_given(drover, lab, tree):
    rules = lab.folder("rules") / "rules"
    rules.write_text("foo\n")
    options = ["--include=/foo", f"--exclude-from={rules}"]
    _assert_same_choice(drover, lab, tree, options)
    _assert_same_choice(drover, lab, tree, options[::-1])


@pytest.mark.parametrize("seed", range(40))
def test_random_rules_choose_what_rsync_chooses(drover, lab, tree, seed):
    chance = random.Random(seed)
    parts = "foo bar a b c core cache * ** ? f* *o [a-f]* x? .* *.c b.*".split()
    rules = []
    for _ in range(chance.randrange(1, 6)):
        pattern = "/".join(chance.choice(parts) for _ in range(chance.choice([1, 1, 2, 3])))
        pattern = chance.choice(["", "", "/"]) + pattern + chance.choice(["", "", "/", "/*", "/**", "/***"])
        rules.append(chance.choice("--+") + pattern)
    _assert_same_choice(drover, lab, tree, _options(rules))


@pytest.mark.parametrize("rules", [["-foo"], ["-foo/"], ["+*/", "+*.txt", "-*"], ["-/foo/*"], ["-core"]], ids=" ".join)
def test_delete_leaves_what_rsync_leaves(drover, lab, tree, rules):
    """An excluded entry at the destination is protected, and so are the directories above it."""
    work = lab.volume("tmpfs").fresh()
    source = plant(work / "src", {"a": "a", "foo/core": "core"})
    for who in ("rsync", "drover"):
        rsync_itemize(tree, work / who, dry_run=False)
    rsync_itemize(source, work / "rsync", "--delete", *_options(rules), dry_run=False)
    drover.sync("--delete", *_options(rules), source, work / "drover", code=(0, 1))
    left, expected = (set(Snapshot(work / who).records) for who in ("drover", "rsync"))
    assert left == expected


def test_what_is_excluded_is_not_even_opened(drover, src, dst, faulty):
    plant(src, {"locked/file": "x", "secret": "x", "open/file": "x"})
    broken = faulty(src, "readdir:/locked:EACCES", "open:/secret:EACCES")
    drover.sync("--exclude=locked", "--exclude=secret", broken, dst)
    assert sorted(path.name for path in dst.iterdir()) == ["open"]


def test_an_excluded_entry_at_the_destination_is_not_updated(drover, src, dst):
    plant(src, {"settings": "new settings", "file": "x"})
    plant(dst, {"settings": "local settings"})
    before = Snapshot(dst)
    drover.sync("--exclude=settings", src, dst)
    assert_untouched(before, Snapshot(dst), but=[b".", b"file"])


def test_an_exclude_file_that_is_missing_is_a_usage_error(drover, src, dst):
    result = drover.sync("--exclude-from=/nowhere/rules", src, dst, code=2)
    assert "/nowhere/rules" in result.err and "No such file" in result.err
    assert not dst.exists()
