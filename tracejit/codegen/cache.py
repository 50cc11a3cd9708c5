"""The disk cache of object code: content-addressed files in a private folder, bounded in size.

An entry is a header (magic, format, key, checksum, length) and the object code. The folder belongs
to the user alone; nothing in it is trusted: an entry that is truncated, altered, foreign or filed
under a wrong key is a miss. Invariant: no fault of the file system ever reaches the caller; it
costs at most one warning and a compilation.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import stat
import struct
import threading
import time
import warnings
from contextlib import suppress

from tracejit import config

_MAGIC = b"TJKERNEL"
_FORMAT = 1
_HEADER = struct.Struct("<8sI32s32sQ")  # magic, format, key, sha256 of payload, length of payload
_SUFFIX = ".tjk"
_TEMPORARY = ".tmp"
_STALE_SECONDS = 3600.0  # a temporary file older than this was left by a killed process
_KEPT_SHARE = 0.8  # eviction goes down to this share of the bound, so that it is rare
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)


class CacheWarning(UserWarning):
    """The disk cache cannot be used as it should; kernels still run."""


class DiskCache:
    """Object code by key, in `folder`/kernels, at most `max_bytes` in all (least recently used goes
    first).

    Example: ``cache.store(key, code)``; later, in any process, ``cache.load(key)`` gives the code
    or None. A key is 64 hexadecimal digits. Safe for many threads and processes at once, and for
    processes killed halfway.
    """

    def __init__(self, folder: str, max_bytes: int):
        self.folder = os.path.join(folder, "kernels")
        self.max_bytes = max_bytes
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._usable: bool | None = None
        self._writable = True
        self._warned = False
        self._bytes: int | None = None  # size of the folder as far as this process knows

    def load(self, key: str) -> bytes | None:
        """The object code stored under `key`, or None."""
        if not self._is_usable():
            return None
        path = self._path(key)
        try:
            content = _read_private(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._warn(f"entry {path} cannot be read ({error})")
            return None
        code = _unpack(content, bytes.fromhex(key))
        if code is None:
            self._warn(f"entry {path} is damaged or foreign; it is compiled anew")
            _remove(path)
            return None
        with suppress(
            OSError
        ):  # a read-only cache: the order of eviction is someone else's business
            os.utime(path)
        return code

    def store(self, key: str, code: bytes) -> None:
        """File `code` under `key`, replacing what is there; silently does nothing once writing
        has failed.
        """
        if not self._writable or not self._is_usable():
            return
        header = _HEADER.pack(
            _MAGIC, _FORMAT, bytes.fromhex(key), hashlib.sha256(code).digest(), len(code)
        )
        try:
            self._write(self._path(key), header + code)
            self._account(len(header) + len(code))
        except OSError as error:
            self._writable = False
            self._warn(f"{self.folder} cannot be written ({error})")

    def entries(self) -> list[tuple[str, int, float]]:
        """Key, bytes and time of last use of every entry, least recently used first."""
        if not self._is_usable():
            return []
        found = []
        for item in _scan(self.folder):
            if item.name.endswith(_SUFFIX):
                found.append((item.name[: -len(_SUFFIX)], item.size, item.time))
        return sorted(found, key=lambda entry: entry[2])

    def clear(self) -> int:
        """Remove every entry; how many there were."""
        entries = self.entries()
        for key, _, _ in entries:
            _remove(self._path(key))
        self._bytes = None
        return len(entries)

    def _path(self, key: str) -> str:
        return os.path.join(self.folder, key + _SUFFIX)

    def _warn(self, what: str) -> None:
        """One warning a process: a broken cache must not bury the user's own output."""
        if not self._warned:
            self._warned = True
            warnings.warn(f"tracejit kernel cache: {what}", CacheWarning, stacklevel=4)

    def _is_usable(self) -> bool:
        if self._usable is None:
            with self._lock:
                if self._usable is None:
                    self._usable = self._prepare()
        return self._usable

    def _prepare(self) -> bool:
        """Make the folder, or check that the one there is the user's own."""
        try:
            os.makedirs(os.path.dirname(self.folder), exist_ok=True)
            with suppress(FileExistsError):
                os.mkdir(self.folder, 0o700)
            status = os.lstat(self.folder)
        except OSError as error:
            self._warn(f"{self.folder} cannot be made ({error})")
            return False
        fault = _folder_fault(status)
        if fault:
            self._warn(f"{self.folder} is not used: {fault}")
            return False
        return True

    def _write(self, path: str, content: bytes) -> None:
        """Write through a temporary file and a rename, so that no reader ever sees half an
        entry.
        """
        temporary = f"{path}.{os.getpid()}.{next(self._numbers)}.{time.time_ns()}{_TEMPORARY}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_FOLLOW
        descriptor = os.open(temporary, flags, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            os.replace(temporary, path)
        except OSError:
            _remove(temporary)
            raise

    def _account(self, added: int) -> None:
        """Keep the folder under its bound; it is only listed once, and again when the bound is
        passed.
        """
        with self._lock:
            if self._bytes is not None:
                self._bytes += added
            if self._bytes is None or self._bytes > self.max_bytes:
                self._bytes = self._evict()

    def _evict(self) -> int:
        """Remove stale temporary files and, past the bound, the least recently used entries;
        bytes left.
        """
        items = _scan(self.folder)
        oldest_allowed = time.time() - _STALE_SECONDS
        for item in items:
            if item.name.endswith(_TEMPORARY) and item.time < oldest_allowed:
                _remove(item.path)
        entries = sorted((i for i in items if i.name.endswith(_SUFFIX)), key=lambda i: i.time)
        total = sum(item.size for item in entries)
        if total <= self.max_bytes:
            return total
        for item in entries:
            if total <= self.max_bytes * _KEPT_SHARE:
                break
            _remove(item.path)
            total -= item.size
        return total


class _Item:
    """A file of the folder as it was when listed."""

    __slots__ = ("name", "path", "size", "time")

    def __init__(self, entry: os.DirEntry[str]):
        status = entry.stat(follow_symlinks=False)
        self.name = entry.name
        self.path = entry.path
        self.size = status.st_size
        self.time = status.st_mtime


def _scan(folder: str) -> list[_Item]:
    """The files in `folder`; those that another process removes meanwhile are left out."""
    items = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                try:
                    items.append(_Item(entry))
                except OSError:
                    continue
    except OSError:
        return []
    return items


def _folder_fault(status: os.stat_result) -> str:
    """Why the folder may not be trusted, or ''."""
    if not stat.S_ISDIR(status.st_mode):
        return "it is a symbolic link or not a folder"
    if hasattr(os, "geteuid") and status.st_uid != os.geteuid():
        return "it belongs to another user"
    if os.name == "posix" and status.st_mode & 0o077:
        return "others than its owner may enter it (expected mode 0700)"
    return ""


def _read_private(path: str) -> bytes:
    """The content of a regular file of ours; raises OSError for a link or another user's file."""
    descriptor = os.open(path, os.O_RDONLY | _NO_FOLLOW)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError("not a regular file")
        if hasattr(os, "geteuid") and status.st_uid != os.geteuid():
            raise OSError("it belongs to another user")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(descriptor)


def _unpack(content: bytes, key: bytes) -> bytes | None:
    """The payload of an entry, or None unless every part of it is as it was written."""
    if len(content) < _HEADER.size:
        return None
    magic, version, stored_key, checksum, length = _HEADER.unpack_from(content)
    payload = content[_HEADER.size :]
    if magic != _MAGIC or version != _FORMAT or stored_key != key or length != len(payload):
        return None
    return payload if hashlib.sha256(payload).digest() == checksum else None


def _remove(path: str) -> None:
    with suppress(OSError):  # gone already, or not ours to remove: it is no longer asked for
        os.unlink(path)


_open: dict[tuple[str, int], DiskCache] = {}
_open_lock = threading.Lock()


def disk_cache() -> DiskCache | None:
    """The cache that `config.cache_dir` and `config.cache_bytes` name, or None if `config.cache`
    is off.
    """
    if not config.cache:
        return None
    name = (config.cache_dir, config.cache_bytes)
    with _open_lock:
        if name not in _open:
            _open[name] = DiskCache(*name)
        return _open[name]
