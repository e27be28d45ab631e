# SPDX-License-Identifier: Apache-2.0
"""--help, the manual and the completions tell the same story."""
import json
import os
import re
import shutil
import sqlite3
import subprocess

import pytest

GROUPS = {"manifest": ["create", "check", "diff", "info", "export"]}
COMMANDS = ["sync", "verify", *(f"{group} {name}" for group, names in GROUPS.items() for name in names), "bench", "ctl", "serve",
            "keygen"]
# Where the manual has a command's options.
SECTIONS = {"sync": "Options of sync", "verify": "Options of verify", "bench": "Options of bench", "ctl": "Options of ctl"}

LIBRARY = "/usr/share/bash-completion/bash_completion"


@pytest.fixture(params=COMMANDS)
def command(request):
    return request.param


@pytest.fixture
def options(drover, command):
    """What `drover COMMAND --help` lists: {"--jobs": "-j", "--json": None, ...}"""
    found = re.findall(r"^  (?:(-\w), |    )(--[a-z-]+)", drover(*command.split(), "--help").stdout, re.MULTILINE)
    assert len(found) >= 2
    assert len({long for _, long in found}) == len(found)
    return {long: short or None for short, long in found}


def names_of(options):
    return sorted(name for pair in options.items() for name in pair if name)


def listed(text):
    """The commands that a help lists."""
    return re.findall(r"^  ([a-z]+) ", text, re.MULTILINE)


def test_help_lists_every_command(drover):
    assert [name for name in listed(drover("--help").stdout) if name != "help"] == \
        list(dict.fromkeys(command.split()[0] for command in COMMANDS))
    for group, names in GROUPS.items():
        for arguments in ([group, "--help"], ["help", group], [group, "help"]):
            assert listed(drover(*arguments).stdout) == names


def test_both_ways_to_help_agree(drover, command):
    words = command.split()
    asked = drover(*words, "--help")
    assert (asked.returncode, asked.stderr) == (0, "")
    assert asked.stdout.startswith(f"Usage: drover {command} ")
    assert drover("help", *words).stdout == asked.stdout


def test_help_fits_80_columns(drover, command):
    for arguments in (["--help"], ["manifest", "--help"], [*command.split(), "--help"]):
        assert max(len(line) for line in drover(*arguments).stdout.splitlines()) < 80


def sections_of(manual):
    """{title: text} of every section and subsection, a section without its subsections."""
    parts = re.split(r"^\.S[hs] (.*)$", manual, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2]))


def options_in(text):
    told = {}
    for item in re.findall(r"^\.It (Fl .*)$", text, re.MULTILINE):
        short, long = re.fullmatch(r"Fl (?:(\w) .*?, Fl |(?!\w ))-([a-z-]+).*", item.replace(" , ", " x , ")).groups()
        told["--" + long] = f"-{short}" if short else None
    return told


def test_the_manual_has_every_option(options, command, root):
    sections = sections_of((root / "docs/drover.1").read_text())
    own = sections[SECTIONS.get(command, command)]
    told = options_in(own)
    # The groups that it names, in the sentence before its own.
    for title in re.findall(r"^\.Sx (.*?)(?: [,.])?$", own.split(".Bl")[0], re.MULTILINE):
        told |= options_in(sections[title])
    assert told == options


@pytest.mark.parametrize("page", ["drover.1", "drover-manifest.5"])
def test_the_manual_has_no_lint(root, page):
    if not shutil.which("mandoc"):
        pytest.skip("mandoc is not installed")
    lint = subprocess.run(["mandoc", "-T", "lint", root / "docs" / page], text=True, capture_output=True).stdout
    # Which other manuals this machine has is not this one's fault.
    assert [line for line in lint.splitlines() if "referenced manual not found" not in line] == []


def complete_in_bash(root, typed):
    script = f"""
        source {LIBRARY} || exit 77
        source '{root}/cli/completions/drover'
        COMP_LINE=$1 COMP_POINT=${{#1}} COMP_TYPE=9
        read -ra COMP_WORDS <<<"${{1//=/ = }}"
        [[ $1 == *[\\ =] ]] && COMP_WORDS+=('')
        COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
        compopt() {{ :; }}
        _drover
        echo "${{COMPREPLY[*]}}"
    """
    result = subprocess.run(["bash", "-c", script, "bash", typed], text=True, capture_output=True)
    if result.returncode == 77:
        pytest.skip("bash-completion is not installed")
    assert result.stderr == ""
    return result.stdout.split()


def test_bash_completes_every_option(options, command, root):
    completed = complete_in_bash(root, f"drover {command} -")
    assert sorted(word.rstrip("=") for word in completed) == names_of(options)


def test_bash_knows_which_options_take_a_value(drover, command, root):
    takes = re.findall(r"^ +(?:-\w, )?(--[a-z-]+)=", drover(*command.split(), "--help").stdout, re.MULTILINE)
    completed = complete_in_bash(root, f"drover {command} --")
    assert sorted(word.rstrip("=") for word in completed if word.endswith("=")) == sorted(takes)


def test_zsh_completes_every_option(options, command, root):
    if not shutil.which("zsh"):
        pytest.skip("zsh is not installed")
    script = f"""
        _arguments() {{ }}
        source '{root}/cli/completions/_drover'
        _arguments() {{ print -rl -- "$@" }}
        _drover_{command.replace(" ", "_")}
    """
    lines = subprocess.run(["zsh", "-f", "-c", script], text=True, capture_output=True, check=True).stdout.splitlines()
    told = {}
    for line in lines:
        match = re.match(r"(?:\([^)]*\)|\*)?(-\w)?\+?(--[a-z-]+)?=?\[", line)
        if match:
            told[match[1] or match[2]] = line
    assert sorted(told) == names_of(options)


def test_fish_completes_every_option(options, command, root):
    if not shutil.which("fish"):
        pytest.skip("fish is not installed")
    completed = set()
    for dashes in ("-", "--"):
        result = subprocess.run(
            ["fish", "-c", f"source '{root}/cli/completions/drover.fish'; complete -C 'drover {command} {dashes}'"],
            text=True, capture_output=True, check=True)
        assert result.stderr == ""
        completed |= {line.split("\t")[0].rstrip("=") for line in result.stdout.splitlines()}
    assert sorted(completed) == names_of(options)


@pytest.mark.parametrize("shell, file", [("bash", "drover"), ("zsh", "_drover"), ("fish", "drover.fish")])
def test_the_shell_understands_its_completion(root, shell, file):
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    subprocess.run([shell, "-n", root / "cli/completions" / file], check=True)


@pytest.mark.parametrize("typed, completed", [
    ("drover ", "sync verify manifest bench ctl serve keygen help --version --help"), ("drover sync --max-d", "--max-delete="),
    ("drover help ", "sync verify manifest bench ctl serve keygen"), ("drover help manifest ", "create check diff info export"),
    ("drover manifest ", "create check diff info export --help"), ("drover manifest ex", "export"),
    ("drover ctl 4711 ", "set"), ("drover ctl 4711 set ", "jobs= bwlimit= max-latency= max-load="),
    ("drover ctl 4711 set jobs=4 bwlimit=", "off"), ("drover sync --jobs=", "auto"),
    ("drover sync --io=", "auto uring threads"), ("drover sync --io=th", "threads"), ("drover sync --fsync ea", "each"),
    ("drover manifest create --digest=", "xxh128 sha256 blake2b"), ("drover manifest export --format s", "sqlite"),
    ("drover verify --ignore=ow", "owner"), ("drover manifest info --root=mode,ow", "mode,owner")])
def test_bash_completes_words_and_values(root, typed, completed):
    assert complete_in_bash(root, typed) == completed.split()


@pytest.mark.parametrize("typed, completed", [
    ("drover ", "bench ctl help keygen manifest serve sync verify"), ("drover help ", "bench ctl keygen manifest serve sync verify"),
    ("drover help manifest ", "check create diff export info"), ("drover manifest ", "check create diff export info")])
def test_fish_completes_commands(root, typed, completed):
    if not shutil.which("fish"):
        pytest.skip("fish is not installed")
    result = subprocess.run(["fish", "-c", f"source '{root}/cli/completions/drover.fish'; complete -C '{typed}'"],
                            text=True, capture_output=True, check=True)
    assert [line.split("\t")[0] for line in result.stdout.splitlines()] == completed.split()


# ---- the JSON document


@pytest.fixture
def document(root):
    text = (root / "docs/json.md").read_text()
    parts = re.split(r"^## (.*)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2])) | {"": text}


def check_members(section, members):
    # "path_bytes" is told of all names at once.
    members = {name for name in members if not (name.endswith("_bytes") and name[:-len("_bytes")] in members)}
    missing = {name for name in members if f"`{name}`" not in section}
    assert not missing, missing


@pytest.fixture
def run_json(drover, document):
    """Runs drover with --json, checks every event against the document, and returns them."""

    def run(*arguments):
        events = list(map(json.loads, drover(*arguments, "--json").stdout.splitlines()))
        assert (events[0]["event"], events[-1]["event"]) == ("start", "summary")
        for event in events:
            check_members(document[event["event"]], set(event) - {"event"})
            tuning = event.get("tuning", {})
            check_members(document["progress"], {*tuning, *tuning.get("lanes", ()), *tuning.get("lanes", {}).get("reads", ())})
            check_members(document["summary"], event.get("counts", ()))
            check_members(document["summary"], event.get("counts", {}).get("loss", ()))
            # What is a member here is a value of findings.
            for name in [*event.get("classes", ()), *event.get("fields", ())]:
                assert f'`"{name}"`' in document["finding"], name
        return events

    return run


@pytest.fixture
def trees(tmp_path):
    """A tree and a copy of it with a difference of most classes."""
    for name in ("src", "other"):
        tree = tmp_path / name
        tree.mkdir()
        for file in ("file", "edited", "corrupt", "metadata", "odd \udcff"):
            (tree / file).write_bytes(b"content of " + os.fsencode(file))
            os.utime(tree / file, (1, 1))
        (tree / "link").symlink_to("file")
    other = tmp_path / "other"
    (other / "edited").write_text("more content")
    (other / "corrupt").write_text("CONTENT OF CORRUPT")
    os.utime(other / "corrupt", (1, 1))
    (other / "metadata").chmod(0o600)
    (other / "odd \udcff").unlink()
    (other / "extra \udcff").write_text("something else")
    (other / "file").rename(other / "moved")
    return tmp_path / "src", other


def test_the_json_document_has_every_member(run_json, drover, document, trees, tmp_path):
    src, other = trees
    run_json("sync", src, tmp_path / "dst")
    run_json("sync", tmp_path / "nowhere", tmp_path / "dst")
    (src / "file").rename(src / "renamed")
    run_json("sync", "--delete", src, tmp_path / "dst")
    (src / "renamed").rename(src / "file")

    classes = {event["class"] for event in run_json("verify", src, other) if event["event"] == "finding"}
    assert classes == {"corrupt", "edited", "metadata", "missing", "extra", "moved"}

    manifests = tmp_path / "a", tmp_path / "b"
    for tree, manifest in zip(trees, manifests):
        summary = run_json("manifest", "create", "-o", manifest, tree)[-1]
        assert len(summary["root_digest"]) == 32
    run_json("manifest", "check", manifests[0], other)
    run_json("verify", "--against", manifests[0], other)
    run_json("manifest", "diff", *manifests)

    check_members(document["manifest info"], json.loads(drover("manifest", "info", "--json", manifests[0]).stdout))


def test_the_json_document_has_every_member_of_ctl(binary, drover, document, trees, tmp_path):
    (trees[0] / "large").write_bytes(bytes(range(256)) * 4096 * 8)
    running = subprocess.Popen([binary, "sync", "-q", "--bwlimit=64K", "--job=documented", trees[0], tmp_path / "dst"],
                               env=drover.environment)
    try:
        told = {}
        while not {"progress", "tuning"} <= set(told):
            assert running.poll() is None
            asked = drover("ctl", "--json", "documented")
            told = json.loads(asked.stdout) if asked.returncode == 0 else {}
    finally:
        running.terminate()
        running.wait(60)
    check_members(document["ctl"], {*told, *told["progress"]})
    tuning = told["tuning"]
    check_members(document["progress"], {*tuning, *tuning["lanes"], *tuning["lanes"]["reads"]})


def all_members(value):
    """The names of all members of it, however deep."""
    if isinstance(value, dict):
        return set(value).union(*map(all_members, value.values()))
    return set().union(*map(all_members, value)) if isinstance(value, list) else set()


def test_the_json_document_has_every_member_of_bench(drover, document, trees, tmp_path):
    (tmp_path / "dst").mkdir()
    for arguments in ([trees[0], tmp_path / "dst"], [trees[0]]):
        result = drover("bench", "--time=2", "--json", *arguments)
        assert result.returncode == 0, result.stderr
        check_members(document["bench"], all_members(json.loads(result.stdout)))


def test_the_manual_has_every_column(drover, root, trees, tmp_path):
    text = sections_of((root / "docs/drover.1").read_text())["manifest export"]
    told = {name for line in re.findall(r"^\.It Va (.*)$", text, re.MULTILINE) for name in line.split(" , ")}
    drover("manifest", "create", "-o", tmp_path / "manifest", trees[0])
    head = drover("manifest", "export", "--format=csv", tmp_path / "manifest").stdout.splitlines()[0]
    assert set(head.split(",")) == told
    drover("manifest", "export", "--format=sqlite", "-o", tmp_path / "db", tmp_path / "manifest")
    with sqlite3.connect(tmp_path / "db") as database:
        columns = {table: [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
                   for table in ("entry", "manifest")}
    assert columns["entry"] == ["id", "parent", "name", *head.split(",")]
    for column in columns["manifest"]:
        assert re.search(rf"^\.Va .*\b{column}\b", text, re.MULTILINE), column


def test_the_query_in_the_manual_finds_the_largest_changed_directories(drover, root, tmp_path, monkeypatch):
    examples = sections_of((root / "docs/drover.1").read_text())["EXAMPLES"]
    query = re.search(r"^sqlite3 new\.db <<'END'\n(.*?)^END$", examples, re.MULTILINE | re.DOTALL)[1]
    tree = tmp_path / "tree"
    for number in range(14):
        (tree / f"dir {number}").mkdir(parents=True)
        for name in ("same", "changed"):
            (tree / f"dir {number}" / name).write_bytes(bytes(1000))
    drover("manifest", "create", "-o", tmp_path / "old.manifest", tree)
    for number in range(1, 14):
        (tree / f"dir {number}/changed").write_bytes(b"x" * 100 * number)
    (tree / "dir 3/new").write_bytes(bytes(5000))
    (tree / "dir 0/same").touch()
    drover("manifest", "create", "-o", tmp_path / "new.manifest", tree)
    for name in ("old", "new"):
        drover("manifest", "export", "--format=sqlite", "-o", tmp_path / f"{name}.db", tmp_path / f"{name}.manifest")
    *preparations, select = [statement for statement in query.split(";") if statement.strip()]
    monkeypatch.chdir(tmp_path)
    with sqlite3.connect("new.db") as database:
        for statement in preparations:
            database.execute(statement)
        rows = database.execute(select).fetchall()
    wanted = [("dir 3", 2, 5300)] + [(f"dir {number}", 1, 100 * number) for number in range(13, 4, -1)]
    assert rows == wanted
