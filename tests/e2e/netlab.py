# SPDX-License-Identifier: Apache-2.0
"""Two hosts on one machine: network namespaces joined by a veth pair, a real sshd, a daemon.

    near 10.77.0.1 ──veth── 10.77.0.2 far      (fd77::1, fd77::2)

Both see the same files: what is compared is what each side did with them.
"""
import itertools
import os
import secrets
import subprocess
from pathlib import Path

import pytest

from drover import wait_until
from lab import require, run

NEAR, FAR = "10.77.0.1", "10.77.0.2"
FAR6 = "fd77::2"
PORT = 8730
PROXY = Path(__file__).resolve().parent / "proxy.py"

_numbers = itertools.count()


class Hosts:
    """The two namespaces. Commands run in one of them by its prefix."""

    def __init__(self):
        require("ip", "tc")
        self.names = {}
        number = f"{os.getpid()}x{next(_numbers)}"
        for side in ("near", "far"):
            name = f"drover-{side}-{number}"
            made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
            if made.returncode != 0:
                pytest.skip(f"no network namespaces: {made.stderr.strip()}")
            self.names[side] = name
        run("ip", "link", "add", f"vn{number}"[:15], "netns", self.names["near"], "type", "veth", "peer", "name",
            "v0", "netns", self.names["far"])
        for side, device, addresses in (("near", f"vn{number}"[:15], (f"{NEAR}/24", "fd77::1/64")),
                                        ("far", "v0", (f"{FAR}/24", f"{FAR6}/64"))):
            for address in addresses:
                extra = ["nodad"] if ":" in address else []
                self.run(side, "ip", "address", "add", address, "dev", device, *extra)
            self.run(side, "ip", "link", "set", device, "up")
            self.run(side, "ip", "link", "set", "lo", "up")
        self.device = f"vn{number}"[:15]

    def prefix(self, side):
        return ["nsenter", f"--net=/run/netns/{self.names[side]}"]  # not `ip netns exec`: that hides later mounts

    def run(self, side, *command):
        return run(*self.prefix(side), *command)

    def shape(self, rate):
        """Limits what either side sends, as "200mbit"; None: nothing does."""
        for side, device in (("near", self.device), ("far", "v0")):
            subprocess.run([*self.prefix(side), "tc", "qdisc", "del", "dev", device, "root"], capture_output=True)
            if rate:
                self.run(side, "tc", "qdisc", "add", "dev", device, "root", "tbf", "rate", rate, "burst", "256kb",
                         "latency", "50ms")

    def cut(self, cut=True):
        """Takes the cable out, or puts it in again."""
        self.run("near", "ip", "link", "set", self.device, "down" if cut else "up")
        if not cut:
            self.run("near", "ip", "-6", "address", "replace", "fd77::1/64", "dev", self.device, "nodad")

    def close(self):
        for name in self.names.values():
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


class Server:
    """A process on the far host that listens at a port."""

    def __init__(self, hosts, side, command, port, environment=None, log=None):
        self.log = log
        self._file = open(log, "ab") if log else subprocess.DEVNULL
        self.process = subprocess.Popen([*hosts.prefix(side), *command], stdin=subprocess.DEVNULL, stdout=self._file,
                                        stderr=self._file, env=environment)
        self._hosts, self._side = hosts, side
        wait_until(lambda: self.process.poll() is not None or self._listens(port), f"{command[0]} listens")
        assert self.process.poll() is None, f"{command} ended: {self.text()}"

    def _listens(self, port):
        return f":{port} " in self._hosts.run(self._side, "ss", "-Hltn").decode()

    def text(self):
        return Path(self.log).read_text(errors="replace") if self.log else ""

    def stop(self, signal=15, wait=True):
        if self.process.poll() is None:
            self.process.send_signal(signal)
        if wait:
            self.process.wait(60)

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def ssh_words(hosts, folder):
    """Starts an sshd on the far host; returns it and the words by which drover reaches it."""
    require("sshd", "ssh", "ssh-keygen")
    for name in ("host", "user"):
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name)
    (folder / "authorized").write_bytes((folder / "user.pub").read_bytes())
    (folder / "sshd.conf").write_text(
        f"ListenAddress {FAR}\nPort 22\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/authorized\n"
        f"PidFile {folder}/pid\nUsePAM no\nPermitRootLogin yes\nStrictModes no\nPasswordAuthentication no\n")
    Path("/run/sshd").mkdir(exist_ok=True)
    sshd = run("sh", "-c", "command -v sshd || echo /usr/sbin/sshd").decode().strip()
    server = Server(hosts, "far", [sshd, "-D", "-e", "-f", folder / "sshd.conf"], 22, log=folder / "sshd.log")
    return server, (f"ssh -F /dev/null -i {folder}/user -o IdentitiesOnly=yes -o StrictHostKeyChecking=no "
                    "-o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -o ControlPath=none")


class Daemon(Server):
    """`drover serve` on the far host, with one key and roots as given: {name: (path, mode)}."""

    def __init__(self, hosts, drover, folder, roots, server="", extra="", prefix=()):
        self.folder = Path(folder)
        self.key = self.folder / "key"
        if not self.key.exists():
            self.key.write_text(f"tester {secrets.token_hex(32)}\n")
            (self.folder / "keys").write_text(self.key.read_text())
            for name in ("key", "keys"):
                os.chmod(self.folder / name, 0o600)
        (self.folder / "state").mkdir(exist_ok=True)
        text = (f"[server]\nlisten = {FAR}:{PORT}\nlisten = [{FAR6}]:{PORT}\nkeys = {self.folder}/keys\n"
                f"state = {self.folder}/state\n{server}\n")
        for name, (path, mode) in roots.items():
            text += f"[root {name}]\npath = {path}\nmode = {mode}\nallow = tester\n{extra}\n"
        (self.folder / "serve.conf").write_text(text)
        super().__init__(hosts, "far", [*prefix, drover.binary, "serve", "--config", self.folder / "serve.conf"], PORT,
                         environment=drover.environment, log=self.folder / "serve.log")


class Proxy(Server):
    """Stands between at 127.0.0.1 on the near host, at the daemon's own port, and does harm."""

    def __init__(self, hosts, folder, *options):
        self.counts = Path(folder) / "faults"
        super().__init__(hosts, "near", ["/usr/bin/python3", "-B", PROXY, str(PORT), f"{FAR}:{PORT}", self.counts,
                                         *map(str, options)], PORT, log=Path(folder) / "proxy.log")

    @property
    def faults(self):
        """How many it has done."""
        return int(self.counts.read_text() or 0) if self.counts.exists() else 0


def run_near(drover, hosts, *arguments, code=0, timeout_s=300):
    """Runs drover on the near host."""
    return drover.run(*arguments, prefix=hosts.prefix("near"), code=code, timeout_s=timeout_s)


