# SPDX-License-Identifier: Apache-2.0
"""Runs the drover binary and reads what it says."""
import json
import os
import re
import resource
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass

TIMEOUT_S = 120

_ENTRY_ERROR = re.compile(
    r"drover: (?P<side>source|destination): (?P<path>.*): (?P<operation>[^:]+): (?P<reason>[^:]+)")
_FINDING = re.compile(r"(?P<kind>[a-z]+) +(?P<path>.*?)(?:  (?P<details>.*))?")


# A remote shell (-e) to this machine.
NO_SHELL = "sh -c 'shift; exec \"$@\"' sh"

# What a sync becomes when $DROVER_OVER is set: the same, between two processes.
OVER = {"push": lambda folder, src, dst: (src, f"far:{os.path.join(folder, dst)}"),
        "pull": lambda folder, src, dst: (f"far:{os.path.join(folder, src)}", dst)}


@dataclass
class Result:
    """How a run ended."""
    command: list
    code: int
    out: bytes
    err: str

    @property
    def lines(self):
        return self.out.splitlines()

    @property
    def errors(self):
        """The entries that failed, as (side, path, operation, reason)."""
        return [match.group("side", "path", "operation", "reason")
                for match in map(_ENTRY_ERROR.fullmatch, self.err.splitlines()) if match]

    def failed(self, path):
        """The error for that path; there has to be exactly one."""
        found = [error for error in self.errors if error[1] == path]
        assert len(found) == 1, f"want one error for {path!r}\n{self}"
        return found[0]

    @property
    def findings(self):
        """What a comparison printed, as (class, path, details), sorted. No path may hold two spaces."""
        found = [_FINDING.fullmatch(_text(line)) for line in self.lines]
        assert all(found), f"not findings alone\n{self}"
        return sorted((match["kind"], match["path"], match["details"] or "") for match in found)

    @property
    def counts(self):
        """The counts of a --json run."""
        return self.events("summary")[0]["counts"]

    def events(self, kind=None):
        """The objects of a --json run."""
        objects = [json.loads(line.decode("utf-8")) for line in self.lines]
        return [one for one in objects if kind in (None, one["event"])]

    def __str__(self):
        return (f"command: {' '.join(map(str, self.command))}\nexit code: {self.code}\n"
                f"stdout: {self.out[-2000:].decode(errors='replace')}\nstderr: {self.err[-3000:]}")


class Drover:
    """The binary under test, in an environment of its own."""

    def __init__(self, binary, home):
        self.binary = binary
        self.folder = home  # relative paths of a test lead nowhere else
        self.over = OVER.get(os.environ.get("DROVER_OVER", ""))
        self.environment = {
            "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HOME": str(home), "XDG_STATE_HOME": str(home),
            "XDG_RUNTIME_DIR": str(home),
            **{name: value for name, value in os.environ.items() if name.endswith("SAN_OPTIONS")}}

    def run(self, *arguments, code=0, prefix=(), files=None, folder=None, timeout_s=TIMEOUT_S):
        """Runs to the end. `code` is the exit status it must have, or several that it may have; None: any, a signal
        included. `prefix` is a command to run it under, `files` its limit of descriptors, `folder` where it runs."""
        command = [*prefix, self.binary, *arguments]
        environment = dict(self.environment)
        if "strace" in command[:1]:  # LeakSanitizer does not work under ptrace
            environment["ASAN_OPTIONS"] = environment.get("ASAN_OPTIONS", "") + ":detect_leaks=0"
        finished = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_s,
                                  env=environment, cwd=folder or self.folder, preexec_fn=_limit(files))
        result = Result(command, finished.returncode, finished.stdout, _text(finished.stderr))
        result_ok(result, code)
        return result

    def sync(self, *arguments, **options):
        return self.run("sync", *self._far(arguments), **options)

    def _far(self, arguments):
        """The same sync with one side behind a remote shell, where $DROVER_OVER says so."""
        if not self.over:
            return arguments
        *rest, src, dst = arguments
        return ["-e", NO_SHELL, "--remote-drover", self.binary, *rest, *self.over(self.folder, src, dst)]

    def manifest(self, *arguments, **options):
        return self.run("manifest", *arguments, **options)

    def verify(self, *arguments, **options):
        return self.run("verify", *arguments, **options)

    def start(self, *arguments, prefix=()):
        return self.launch("sync", *self._far(arguments), prefix=prefix)

    def launch(self, *arguments, prefix=()):
        return Running([*prefix, self.binary, *arguments], self.environment, self.folder)


class Running:
    """A run that goes on beside the test."""

    def __init__(self, command, environment, folder):
        self.command = command
        self._out, self._err = tempfile.TemporaryFile(), tempfile.TemporaryFile()
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self._out, stderr=self._err,
                                        env=environment, cwd=folder)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._out.close()
        self._err.close()

    def kill(self):
        """kill -9. What it started, as the other side of a session, has come to its end by itself when this returns.
        Whether it was killed."""
        started = _descendants(self.process.pid)
        self.process.kill()
        code = self.process.wait()
        wait_until(lambda: not any(map(_is_alive, started)), "the other side has ended")
        return code != 0

    def until(self, happened, words, timeout_s=30):
        """Waits while the run goes on until happened() says so."""
        wait_until(lambda: happened() or self.process.poll() is not None, words, timeout_s)
        assert happened(), f"ended before {words}\n{self.end(code=None)}"

    def bytes_so_far(self, counter):
        """How many it has read (rchar) or written (wchar), as the kernel counts them."""
        with open(f"/proc/{self.process.pid}/io", encoding="ascii") as file:
            return int(re.search(rf"{counter}: (\d+)", file.read())[1])

    def words_so_far(self):
        """What it has written to stderr."""
        return _text(os.pread(self._err.fileno(), 1 << 20, 0))

    def end(self, code=0, timeout_s=TIMEOUT_S):
        self.process.wait(timeout_s)
        outputs = []
        for file in (self._out, self._err):
            file.seek(0)
            outputs.append(file.read())
        result = Result(self.command, self.process.returncode, outputs[0], _text(outputs[1]))
        result_ok(result, code)
        return result


class Stopped:
    """A run that waits after the first of these system calls, one with that path, as it is said there, if one is named,
    until it is told to go on. start(prefix) starts it."""

    def __init__(self, start, call, log, path=None):
        self._call, self._log = call, log
        options = os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"  # LeakSanitizer does not work under ptrace
        self.running = start((
            "strace", "-D", "-f", "-qq", "-o", log, "-E", f"ASAN_OPTIONS={options}", *(("-P", path) if path else ()),
            "-e", f"trace={call}", "-e", f"inject={call}:signal=SIGSTOP:when=1"))

    def __enter__(self):
        self.running.until(self._is_stopped, f"the run is past {self._call}")
        return self

    def _is_stopped(self):
        """All its threads, after the call has returned."""
        if not re.search(rf"{self._call}\(.*\) += \d", self._log.read_text() if self._log.exists() else ""):
            return False
        threads = f"/proc/{self.running.process.pid}/task"
        return all(open(f"{threads}/{thread}/stat").read().rpartition(")")[2].split()[0] in "Tt"
                   for thread in os.listdir(threads))

    def go_on(self, code):
        os.kill(self.running.process.pid, signal.SIGCONT)
        return self.running.end(code)

    def __exit__(self, *_):
        self.running.__exit__()


class Moments:
    """Moments within the time that a run takes. A busy machine takes longer at one time than at another: a run that has
    ended before it could be killed tells how long it may be."""

    def __init__(self, duration_s, chance):
        self.duration_s, self._chance = duration_s, chance

    def kill(self, running):
        """At one of them. Whether it was killed."""
        start = time.monotonic()
        time.sleep(self._chance.uniform(0, self.duration_s))
        killed = running.kill()
        if not killed:
            self.duration_s = min(self.duration_s, time.monotonic() - start)
        return killed


def result_ok(result, code):
    assert "Sanitizer" not in result.err, str(result)
    if code is not None:
        wanted = code if isinstance(code, tuple) else (code,)
        assert result.code in wanted, f"want exit code {code}\n{result}"


def wait_until(happened, words, timeout_s=30):
    """Polls, with a deadline."""
    deadline = time.monotonic() + timeout_s
    while not happened():
        assert time.monotonic() < deadline, f"waited in vain until {words}"
        time.sleep(0.002)


def _descendants(pid):
    """The processes that it started, those that they started, and so on."""
    found = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", encoding="ascii") as file:
                found += map(int, file.read().split())
    except OSError:
        pass  # it has ended
    return found + [one for child in found for one in _descendants(child)]


def _is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def _limit(files):
    if files is None:
        return None
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))


def _text(raw):
    return raw.decode("utf-8", errors="surrogateescape")
