# SPDX-License-Identifier: Apache-2.0
"""--help, the manual and the completions tell the same story."""
import json
import re
import shutil
import subprocess

import pytest


@pytest.fixture
def options(drover):
    """What `drover sync --help` lists: {"--jobs": "-j", "--json": None, ...}"""
    found = re.findall(r"^  (?:(-\w), |    )(--[a-z-]+)", drover("sync", "--help").stdout, re.MULTILINE)
    assert len(found) > 30
    return {long: short or None for short, long in found}


def test_help_fits_80_columns(drover):
    for arguments in (["--help"], ["sync", "--help"]):
        assert max(len(line) for line in drover(*arguments).stdout.splitlines()) < 80


def test_the_manual_has_every_option(options, root):
    items = re.findall(r"^\.It (Fl .*)$", (root / "docs/drover.1").read_text(), re.MULTILINE)
    told = {}
    for item in items:
        short, long = re.fullmatch(r"Fl (?:(\w) .*?, Fl |(?!\w ))-([a-z-]+).*",
                                   item.replace(" , ", " x , ")).groups()
        told["--" + long] = f"-{short}" if short else None
    assert told == options


def test_the_manual_has_no_lint(root):
    if not shutil.which("mandoc"):
        pytest.skip("mandoc is not installed")
    lint = subprocess.run(["mandoc", "-T", "lint", root / "docs/drover.1"], text=True, capture_output=True).stdout
    # Which other manuals this machine has is not this one's fault.
    assert [line for line in lint.splitlines() if "referenced manual not found" not in line] == []


def test_bash_completes_every_option(options, root):
    text = (root / "cli/completions/drover").read_text()
    listed = re.search(r"options='(.*?)'", text, re.DOTALL).group(1).split()
    names = [name for pair in options.items() for name in pair if name]
    assert sorted(word.rstrip("=") for word in listed) == sorted(names)


def test_zsh_completes_every_option(options, root):
    text = (root / "cli/completions/_drover").read_text().split("_drover_owner()")[0]
    told = re.findall(r"""['"*)](--[a-z-]+)=?\[""", text)
    pairs = re.findall(r"\{(-\w)\+?,(--[a-z-]+)=?\}", text)
    assert sorted(told + [long for _, long in pairs]) == sorted(options)
    assert dict((long, short) for short, long in pairs) == {long: short for long, short in options.items() if short}


def test_fish_completes_every_option(options, root):
    text = (root / "cli/completions/drover.fish").read_text()
    told = re.findall(r"^__drover_sync (?:-s (\w) )?-l ([a-z-]+)", text, re.MULTILINE)
    assert {"--" + long: f"-{short}" if short else None for short, long in told} == options


@pytest.mark.parametrize("shell, file", [("bash", "drover"), ("zsh", "_drover"), ("fish", "drover.fish")])
def test_the_shell_understands_its_completion(root, shell, file):
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    subprocess.run([shell, "-n", root / "cli/completions" / file], check=True)


@pytest.mark.parametrize("typed, completed", [
    ("drover ", "sync help --version --help"), ("drover sync --max", "--max-delete="), ("drover help ", "sync"),
    ("drover sync --io=", "auto uring threads"), ("drover sync --io=th", "threads"), ("drover sync --fsync ea", "each")])
def test_bash_completes_words_and_values(root, typed, completed):
    library = "/usr/share/bash-completion/bash_completion"
    script = f"""
        source {library} || exit 77
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
    assert result.stdout.strip() == completed, result.stderr


def test_the_json_document_has_every_member(drover, root, tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "src/file").write_text("content")
    (tmp_path / "src/link").symlink_to("file")
    (tmp_path / "src" / "odd \udcff").write_text("x")
    document = (root / "docs/json.md").read_text()
    for line in drover("sync", "--json", tmp_path / "src", tmp_path / "dst").stdout.splitlines():
        event = json.loads(line)
        section = re.search(rf"^## {event['event']}$(.*?)(?=^## |\Z)", document, re.MULTILINE | re.DOTALL).group(1)
        members = set(event) - {"event"} - {name for name in event if name.endswith("_bytes") and name[:-6] in event}
        missing = {name for name in members if f"`{name}`" not in section}
        assert not missing, f"{missing} of {event['event']}"
        for name in [*event.get("counts", ()), *event.get("counts", {}).get("loss", ())]:
            assert f"`{name}`" in document, name
