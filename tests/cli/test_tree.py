# SPDX-License-Identifier: Apache-2.0
"""Habits of the source tree that a compiler does not check."""
import re
import shutil
import subprocess

import pytest

FOLDERS = ("base", "walker", "manifest", "transport", "engine", "cli")
# Which folders a folder's files may include; siblings never each other.
BELOW = {"base": set(), "walker": {"base"}, "manifest": {"base"}, "transport": {"base"},
         "engine": {"base", "walker", "manifest", "transport"}}


def _sources(root, *suffixes):
    return [path for folder in FOLDERS for suffix in suffixes for path in sorted((root / folder).glob("*" + suffix))]


def test_headers_compile_alone(root):
    for header in _sources(root, ".h"):
        result = subprocess.run(["cc", "-std=gnu17", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", f"-I{root}",
                                 "-include", header, "-x", "c", "/dev/null"], text=True, capture_output=True)
        assert result.returncode == 0, f"{header}\n{result.stderr}"


def test_folders_include_lower_ones_only(root):
    for path in _sources(root, ".c", ".h"):
        folder = path.parent.name
        for included in re.findall(r'^#include "([^"]+)"', path.read_text(), re.MULTILINE):
            layer = included.split("/")[0]
            if folder == "cli":
                assert layer != "engine" or included in ("engine/drover.h", "engine/bench.h"), f"{path} includes {included}"
            else:
                assert layer in BELOW[folder] | {folder}, f"{path} includes {included}"


def test_every_source_says_its_licence(root):
    for path in _sources(root, ".c", ".h"):
        assert path.read_text().startswith("/* SPDX-License-Identifier: Apache-2.0 */\n"), path


@pytest.fixture
def installed(binary, tmp_path):
    build = binary.parent.parent
    if not (build / "meson-private").is_dir():
        pytest.skip(f"{build} is no build folder")
    subprocess.run(["meson", "install", "-C", build, "--no-rebuild", "--quiet", "--destdir", tmp_path], check=True)
    return tmp_path


def test_install_puts_everything_in_place(installed):
    names = {path.relative_to(installed).as_posix() for path in installed.rglob("*") if path.is_file()}
    for wanted in (r"bin/drover", r"share/man/man1/drover\.1", r"share/man/man5/drover-manifest\.5",
                   r"share/bash-completion/completions/drover",
                   r"share/zsh/site-functions/_drover", r"share/fish/vendor_completions\.d/drover\.fish"):
        assert any(re.fullmatch(rf"usr/(local/)?{wanted}", name) for name in names), f"{wanted}: {names}"
    if shutil.which("man"):
        manual = next(installed.rglob("drover.1"))
        assert "drover" in subprocess.run(["man", "-l", manual], text=True, capture_output=True, check=True).stdout
