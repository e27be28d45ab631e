# SPDX-License-Identifier: Apache-2.0
"""`drover bench --report`: the page as a real browser shows it, compared with the JSON in it; and --link."""
import json
import os
import pathlib
import subprocess
import zlib
from html.parser import HTMLParser

import pytest

from lab import require
from netlab import Hosts, run_near, ssh_words

pytestmark = pytest.mark.local

ODD_NAME = "a </script><script>window.x=1</script> <!-- \"&amp;' \udcff\n"


@pytest.fixture(scope="module")
def tree(lab):
    """A small tree with files of several sizes, in a directory whose name is not for a page."""
    odd = lab.folder("bench") / ODD_NAME
    for directory in range(4):
        (odd / f"dir {directory}").mkdir(parents=True)
        for number in range(60):
            (odd / f"dir {directory}/{number}").write_bytes(os.urandom(number * 300))
    (odd / "large").write_bytes(os.urandom(3 << 20))
    return odd


@pytest.fixture(scope="module")
def made(drover, tree, lab):
    """Runs drover bench once; returns the page and what --json said."""
    page = lab.folder("report") / "report.html"
    told = drover.run("bench", "--time=3", "--json", f"--report={page}", tree, lab.folder("to"))
    return page, json.loads(told.out)


@pytest.fixture
def report(made, tmp_path):
    """The same, with a page of one's own."""
    page = tmp_path / "report.html"
    page.write_bytes(made[0].read_bytes())
    return page, made[1]


# ---- the browser


@pytest.fixture
def browse(tmp_path):
    """browse(PAGE, OPTION...): opens it in headless Chromium; returns its document and what it complained of."""
    require("chromium")

    def run(page, *options):
        finished = subprocess.run(
            ["chromium", "--headless=old", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
             "--enable-logging=stderr", "--v=0", f"--user-data-dir={tmp_path}/profile", *options, f"file://{page}"],
            capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)
        assert finished.returncode == 0, finished.stderr
        return finished.stdout, [line for line in finished.stderr.splitlines() if "CONSOLE" in line]

    return run


class Document(HTMLParser):
    """What of a document is looked at here."""

    def __init__(self, text):
        super().__init__()
        self.rows = []      # of each table: of each row: (text, value) of each cell
        self.values = []    # (text, value) of every <data>
        self.texts = {}     # of elements that have an id
        self.headings = []  # (tag, text)
        self.tags = []
        self._open = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append(tag)
        self._open.append((tag, attributes.get("id")))
        if tag == "table":
            self.rows.append([])
        elif tag == "tr":
            self.rows[-1].append([])
        elif tag in ("td", "th"):
            self.rows[-1][-1].append(("", None))
        elif tag == "data":
            self.values.append(("", float(attributes["value"])))
            if self._inside("td"):
                self.rows[-1][-1][-1] = ("", float(attributes["value"]))
        elif tag in ("h1", "h2", "h3"):
            self.headings.append((tag, ""))

    def handle_endtag(self, tag):
        while self._open and self._open.pop()[0] != tag:
            pass

    def _inside(self, *tags):
        return any(tag in tags for tag, _ in self._open)

    def handle_data(self, text):
        if self._inside("td", "th"):
            was, value = self.rows[-1][-1][-1]
            self.rows[-1][-1][-1] = (was + text, value)
        if self._inside("data"):
            was, value = self.values[-1]
            self.values[-1] = (was + text, value)
        if self._inside("h1", "h2", "h3"):
            tag, was = self.headings[-1]
            self.headings[-1] = (tag, was + text)
        for _, name in self._open:
            if name:
                self.texts[name] = self.texts.get(name, "") + text


def size_words(n):
    """As drover writes sizes."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if n < 1023.5 or unit == "TiB":
            break
        n /= 1024
    return f"{n:.0f} B" if unit == "B" else f"{n:.{2 if n < 9.995 else 1 if n < 99.95 else 0}f} {unit}"


def rate_words(unit, per_s):
    if unit == "bytes":
        return f"{size_words(int(per_s + 0.5))}/s"
    return f"{per_s:.1f}/s" if 0 < per_s < 10 else f"{int(per_s + 0.5):,}/s"


def measured(found):
    return [one for one in found["measurements"] if one["measured"]]


def test_the_figures_in_the_browser_are_those_of_the_json(report, browse):
    page, found = report
    text, complaints = browse(page, "--dump-dom")
    document = Document(text)
    assert complaints == []
    assert json.loads(document.texts["drover-bench"]) == found

    assert len(document.rows) == len(measured(found))
    for measurement, (_, *rows) in zip(measured(found), document.rows):
        assert len(rows) == len(measurement["points"])
        for point, (jobs, rate, median, p95, spread, runs) in zip(measurement["points"], rows):
            assert (int(jobs[0]), int(runs[0])) == (point["jobs"], point["runs"])
            assert [cell[1] for cell in (rate, median, p95, spread)] == \
                [point[name] for name in ("per_s", "median_ms", "p95_ms", "spread")]
            assert rate[0] == rate_words(measurement["unit"], point["per_s"])

    shown = {value for _, value in document.values}
    for estimate in found["estimates"].values():
        assert {estimate["s"], estimate["low_s"], estimate["high_s"]} <= shown
    assert {float(found["recommended"]["jobs"]), float(found["tree"]["files"]), float(found["tree"]["bytes"])} <= shown
    assert document.texts["command"] == found["recommended"]["command"]


def test_a_point_is_drawn_for_every_figure(report, browse):
    page, found = report
    document = Document(browse(page, "--dump-dom")[0])
    wanted = sum((point[name] > 0) for one in measured(found) for point in one["points"]
                 for name in ("per_s", "median_ms", "p95_ms"))
    assert document.tags.count("circle") == wanted


def test_a_name_is_only_a_name(report, browse):
    page, found = report
    document = Document(browse(page, "--dump-dom")[0])
    (title,) = [text for tag, text in document.headings if tag == "h1"]
    assert title.split("\N{RIGHTWARDS ARROW}")[0].rstrip().endswith(
        "/" + ODD_NAME.replace("\udcff", "\\#377").replace("\n", "\\#012"))
    assert document.tags.count("script") == 1
    assert found["src"].endswith(ODD_NAME.replace("\udcff", "\N{REPLACEMENT CHARACTER}"))


def test_what_the_browser_has_to_complain_of_would_be_noticed(report, browse):
    page, _ = report
    page.write_bytes(page.read_bytes().replace(b"</main>", b"<script>throw 1</script></main>"))
    _, complaints = browse(page, "--dump-dom")
    assert any("Content Security Policy" in line for line in complaints)


def pixels(png):
    """The bytes of a PNG's rows, as they were filtered."""
    at, data = 8, b""
    while at < len(png):
        length = int.from_bytes(png[at:at + 4], "big")
        if png[at + 4:at + 8] == b"IDAT":
            data += png[at + 8:at + 8 + length]
        at += length + 12
    return zlib.decompress(data)


@pytest.mark.parametrize("look, size", [("light", "1200,2000"), ("dark", "1200,2000"), ("light", "390,2000")])
def test_there_is_something_to_see(report, browse, tmp_path, look, size):
    page, _ = report
    blank = tmp_path / "blank.html"
    blank.write_text("<!DOCTYPE html><title>blank</title>")
    shots = {}
    for one in (page, blank):
        shot = tmp_path / f"{one.stem}.png"
        browse(one, f"--screenshot={shot}", f"--window-size={size}",
               f"--blink-settings=preferredColorScheme={1 if look == 'light' else 0}")
        shots[one] = pixels(shot.read_bytes())
    assert len(set(shots[blank])) < 5
    assert len(set(shots[page])) > 100


# ---- the file


def test_a_report_replaces_the_old_one_and_leaves_nothing_else(report, drover, tree):
    page, _ = report
    page.write_text("old")
    drover.run("bench", "-q", "--time=1", f"--report={page}", tree)
    assert "</html>" in page.read_text()
    assert list(page.parent.iterdir()) == [page]


def test_a_report_that_can_not_be_written_is_told_before_anything_is_measured(drover, tree, tmp_path):
    result = drover.run("bench", "--time=3600", f"--report={tmp_path}/nowhere/page", tree, code=5)
    assert "nowhere/page" in result.err and "No such file or directory" in result.err
    assert result.out == b""


def test_no_report_is_made_of_nothing(drover, tmp_path):
    drover.run("bench", f"--report={tmp_path}/page", tmp_path / "nowhere", code=5)
    assert list(tmp_path.iterdir()) == []


# ---- the way to another machine


@pytest.fixture(scope="module")
def hosts(lab):
    made = Hosts()
    yield made
    made.close()


@pytest.fixture(scope="module")
def shell(hosts, lab):
    server, words = ssh_words(hosts, lab.folder("sshd"))
    yield words
    server.close()


@pytest.mark.parametrize("rate_bytes_per_s", [2_500_000, 10_000_000])
def test_a_link_is_as_fast_as_it_is(drover, hosts, shell, tree, rate_bytes_per_s):
    hosts.shape(f"{rate_bytes_per_s * 8}bit")
    try:
        told = run_near(drover, hosts, "bench", "--json", "--time=16", "-e", shell, "--remote-drover", drover.binary,
                        "--link=10.77.0.2", tree)
    finally:
        hosts.shape(None)
    link = json.loads(told.out)["link"]
    assert link["host"] == "10.77.0.2"
    # What is on the wire besides takes a few per cent; a burst may add some.
    assert 0.5 * rate_bytes_per_s < link["bytes_per_s"] < 1.15 * rate_bytes_per_s
    assert link["rtt_ms"] > 0


def test_a_link_is_not_slow_because_it_is_long(drover, tree):
    away = pathlib.Path(__file__).with_name("faraway.py")
    told = drover.run("bench", "--json", "--time=16", "-e", f"/usr/bin/python3 -B {away} 0.15", "--remote-drover",
                      drover.binary, "--link=far", tree)
    link = json.loads(told.out)["link"]
    assert 300 <= link["rtt_ms"] < 1000
    assert link["bytes_per_s"] > 5_000_000, "as much was on the way as fits into a third of that"


def test_a_host_that_is_not_there_is_told(drover, tree):
    result = drover.run("bench", "-e", "false", "--link=nowhere.invalid", tree, code=5)
    assert "nowhere.invalid" in result.err
