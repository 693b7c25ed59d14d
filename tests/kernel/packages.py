# SPDX-License-Identifier: GPL-2.0-only
"""Debian packages by name, fetched with a private state of apt: the machine's own lists and
packages stay as they are. Mirror and keyring are those that the machine's apt is set up with."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from errors import HarnessError, UnavailableError

_LISTS_STAY_FRESH = 24 * 3600.0
_DEBIAN_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


@dataclass(frozen=True)
class Source:
    """A mirror in apt's configuration."""

    uri: str
    signed_by: str


def machine_sources(etc: Path = Path("/etc/apt")) -> Iterator[Source]:
    """Mirrors of Debian itself that the machine's apt knows, in either of its formats."""
    for file in sorted(etc.glob("sources.list.d/*.sources")):
        for stanza in re.split(r"\n\s*\n", file.read_text()):
            fields = dict(re.findall(r"^([\w-]+):[ \t]*(.+)$", stanza, re.MULTILINE))
            for uri in fields.get("URIs", "").split():
                if _is_debian(uri):
                    yield Source(uri, fields.get("Signed-By", _DEBIAN_KEYRING).strip())
    for file in [etc / "sources.list", *sorted(etc.glob("sources.list.d/*.list"))]:
        if not file.exists():
            continue
        for options, uri in re.findall(
            r"^deb\s+(\[[^]]*\])?\s*(\S+)", file.read_text(), re.MULTILINE
        ):
            if _is_debian(uri):
                signed = re.search(r"signed-by=([^\s\]]+)", options)
                yield Source(uri, signed[1] if signed else _DEBIAN_KEYRING)


def _is_debian(uri: str) -> bool:
    return re.fullmatch(r"https?://[^/]+(/[^/]+)*/debian/?", uri) is not None


class Archive:
    """The packages of one suite, unpacked below `cache`.

    Every method raises UnavailableError if apt, the network or the package is missing, HarnessError
    if a package cannot be unpacked.
    """

    def __init__(self, suite: str, cache: Path) -> None:
        self.suite = suite
        self._known: dict[str, dict[str, str]] = {}
        self._home = cache.absolute() / suite
        self._lists = self._home / "lists"
        self._updated = self._home / "updated"

    def depends(self, package: str) -> list[str]:
        """Names of the packages that `package` depends on directly; of alternatives the first."""
        fields = self._one(package)
        lists = (fields.get("Pre-Depends", ""), fields.get("Depends", ""))
        return re.findall(r"(?:^|,) *([\w.+-]+)", ",".join(lists))

    def libraries(self, packages: Iterable[str]) -> list[str]:
        """`packages` and all the shared libraries that they need, directly or not."""
        closure: list[str] = []
        wanted = list(packages)
        while wanted:
            closure += wanted
            needed = {name for package in wanted for name in self.depends(package)}
            wanted = [
                name
                for name, fields in self._about(sorted(needed.difference(closure))).items()
                if fields.get("Section") == "libs"
            ]
        return closure

    def unpack(self, package: str) -> Path:
        """The directory with the newest version of `package`, unpacked."""
        version = self._one(package)["Version"]
        target = self._home / "unpacked" / f"{package}_{version.replace(':', '%3a')}"
        if target.exists():
            return target
        download = self._home / "download"
        shutil.rmtree(download, ignore_errors=True)
        download.mkdir(parents=True)
        self._run("apt-get", "download", package, cwd=download)
        (deb,) = download.glob("*.deb")
        unfinished = target.with_suffix(".part")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        _check(["dpkg-deb", "-x", str(deb), str(unfinished)], self._home, HarnessError)
        unfinished.rename(target)
        shutil.rmtree(download)
        return target

    def _one(self, package: str) -> dict[str, str]:
        try:
            return self._about([package])[package]
        except (KeyError, UnavailableError) as error:
            if self._updated.exists():
                raise UnavailableError(f"{self.suite} has no package {package}") from error
            raise

    def _about(self, packages: Sequence[str]) -> dict[str, dict[str, str]]:
        """Each package's fields in the archive. Purely virtual packages are left out."""
        if unknown := [name for name in packages if name not in self._known]:
            self._update()
            # It takes its time, however few they are.
            text = self._run("apt-cache", "show", "--no-all-versions", *unknown)
            for stanza in text.split("\n\n"):
                fields = dict(re.findall(r"^([\w-]+): (.*)$", stanza, re.MULTILINE))
                if "Package" in fields:
                    self._known[fields["Package"]] = fields
        return {name: self._known[name] for name in packages if name in self._known}

    def _update(self) -> None:
        if self._updated.exists():
            age = time.time() - self._updated.stat().st_mtime
            if age < _LISTS_STAY_FRESH:
                return
        source = next(machine_sources(), None)
        if not source:
            raise UnavailableError("apt's configuration on this machine names no Debian mirror")
        for directory in ("lists/partial", "cache/archives/partial"):
            (self._home / directory).mkdir(parents=True, exist_ok=True)
        (self._home / "sources.list").write_text(
            f"deb [signed-by={source.signed_by}] {source.uri} {self.suite} main\n"
        )
        try:
            self._run("apt-get", "-qq", "-o", "APT::Update::Error-Mode=any", "update")
        except UnavailableError:
            if not self._updated.exists():
                raise
            return  # what is known of the suite will do
        self._updated.touch()

    def _run(self, program: str, *arguments: str, cwd: Path | None = None) -> str:
        home = self._home
        settings = {
            "Dir::Etc::sourcelist": home / "sources.list",
            "Dir::Etc::sourceparts": "-",
            "Dir::State::Lists": home / "lists",
            "Dir::State::status": "/dev/null",
            "Dir::Cache": home / "cache",
            "APT::Sandbox::User": "root",
            "Acquire::Retries": "1",
            "Acquire::http::Timeout": "20",
            "Acquire::https::Timeout": "20",
        }
        options = [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]
        return _check([program, *options, *arguments], cwd or home, UnavailableError)


def _check(command: list[str], cwd: Path, failure: type[HarnessError]) -> str:
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise UnavailableError(f"{command[0]} is not installed") from error
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.startswith("E:")]
        reason = lines[-1].removeprefix("E: ") if lines else done.stderr.strip()
        raise failure(f"{command[0]}: {reason or f'exit status {done.returncode}'}")
    return done.stdout
