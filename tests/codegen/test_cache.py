"""The disk cache: whatever is wrong with its files or its folder, right answers and at most one
warning.
"""

import os
import stat
import subprocess
import sys
import warnings

import pytest

from tracejit.codegen import cache as cache_module
from tracejit.codegen.cache import CacheWarning, DiskCache

KEYS = [f"{i:064x}" for i in range(64)]
CODE = bytes(range(256)) * 4
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")
needs_user = pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")


@pytest.fixture
def store(tmp_path):
    return DiskCache(str(tmp_path / "cache"), 1 << 20)


def entry(store, key):
    return os.path.join(store.folder, key + ".tjk")


def quiet(function, *arguments):
    """The result of a call that must not warn."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return function(*arguments)


def test_round_trip_in_a_private_folder(store):
    assert quiet(store.load, KEYS[0]) is None
    quiet(store.store, KEYS[0], CODE)
    quiet(store.store, KEYS[1], b"")
    assert quiet(store.load, KEYS[0]) == CODE and quiet(store.load, KEYS[1]) == b""
    assert stat.S_IMODE(os.stat(store.folder).st_mode) == 0o700
    assert stat.S_IMODE(os.stat(entry(store, KEYS[0])).st_mode) == 0o600
    assert sorted(os.listdir(store.folder)) == [KEYS[0] + ".tjk", KEYS[1] + ".tjk"]


def damage_truncate(path):
    os.truncate(path, 100)


def damage_empty(path):
    os.truncate(path, 0)


def damage_header(path):
    with open(path, "r+b") as file:
        file.write(b"X")


def damage_append(path):
    with open(path, "ab") as file:
        file.write(b"X")


def damage_last_bit(path):
    with open(path, "r+b") as file:
        file.seek(-1, os.SEEK_END)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_END)
        file.write(bytes([byte ^ 1]))


def damage_other_key(path):
    folder = os.path.dirname(path)
    other = DiskCache(os.path.dirname(folder), 1 << 20)
    other.store(KEYS[9], CODE)
    os.replace(entry(other, KEYS[9]), path)


def damage_link(path):
    os.rename(path, path + ".real")
    os.symlink(path + ".real", path)


def damage_folder(path):
    os.unlink(path)
    os.mkdir(path)


@pytest.mark.parametrize(
    "damage",
    [
        damage_truncate,
        damage_empty,
        damage_header,
        damage_append,
        damage_last_bit,
        damage_other_key,
        damage_link,
        damage_folder,
    ],
)
def test_a_damaged_entry_is_a_miss_and_one_warning(store, damage):
    for key in KEYS[:2]:
        store.store(key, CODE)
        damage(entry(store, key))
    with pytest.warns(CacheWarning) as caught:
        assert store.load(KEYS[0]) is None
        assert store.load(KEYS[1]) is None
    assert len(caught) == 1


def test_a_damaged_entry_is_replaced(store):
    store.store(KEYS[0], CODE)
    damage_last_bit(entry(store, KEYS[0]))
    with pytest.warns(CacheWarning):
        store.load(KEYS[0])
    store.store(KEYS[0], CODE)
    assert store.load(KEYS[0]) == CODE


def test_every_flipped_bit_is_noticed(store):
    store.store(KEYS[0], b"kernel")
    with open(entry(store, KEYS[0]), "rb") as file:
        content = file.read()
    for position in range(len(content)):
        flipped = bytearray(content)
        flipped[position] ^= 0x10
        assert cache_module._unpack(bytes(flipped), bytes.fromhex(KEYS[0])) is None
    assert cache_module._unpack(content, bytes.fromhex(KEYS[0])) == b"kernel"


@needs_root
def test_foreign_entry_and_foreign_folder(store):
    store.store(KEYS[0], CODE)
    os.chown(entry(store, KEYS[0]), 12345, 12345)
    with pytest.warns(CacheWarning, match="another user"):
        assert store.load(KEYS[0]) is None
    os.chown(store.folder, 12345, 12345)
    fresh = DiskCache(os.path.dirname(store.folder), 1 << 20)
    with pytest.warns(CacheWarning, match="another user"):
        fresh.store(KEYS[1], CODE)
    assert quiet(fresh.load, KEYS[1]) is None


@pytest.mark.parametrize("mode", [0o777, 0o750, 0o701])
def test_a_folder_open_to_others_is_refused(store, mode):
    store.store(KEYS[0], CODE)
    os.chmod(store.folder, mode)
    fresh = DiskCache(os.path.dirname(store.folder), 1 << 20)
    with pytest.warns(CacheWarning, match="0700"):
        assert fresh.load(KEYS[0]) is None
    assert quiet(fresh.entries) == []


def test_a_linked_folder_is_refused(tmp_path):
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "kernels").symlink_to(tmp_path / "elsewhere")
    store = DiskCache(str(tmp_path / "cache"), 1 << 20)
    with pytest.warns(CacheWarning, match="link"):
        store.store(KEYS[0], CODE)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_file_in_the_folders_place(tmp_path):
    (tmp_path / "cache").write_text("")
    store = DiskCache(str(tmp_path / "cache"), 1 << 20)
    with pytest.warns(CacheWarning) as caught:
        store.store(KEYS[0], CODE)
        assert store.load(KEYS[0]) is None
    assert len(caught) == 1


@needs_user
def test_read_only_folder(store):
    store.store(KEYS[0], CODE)
    os.chmod(store.folder, 0o500)
    try:
        assert quiet(store.load, KEYS[0]) == CODE
        with pytest.warns(CacheWarning) as caught:
            store.store(KEYS[1], CODE)
            store.store(KEYS[2], CODE)
        assert len(caught) == 1
    finally:
        os.chmod(store.folder, 0o700)


def test_full_disk(store, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    store.store(KEYS[0], CODE)
    monkeypatch.setattr(cache_module.os, "replace", full)
    with pytest.warns(CacheWarning, match="No space left") as caught:
        store.store(KEYS[1], CODE)
        store.store(KEYS[2], CODE)
    assert len(caught) == 1
    assert os.listdir(store.folder) == [KEYS[0] + ".tjk"]  # no temporary file is left
    assert quiet(store.load, KEYS[0]) == CODE


def test_size_bound_drops_the_least_recently_used(tmp_path):
    store = DiskCache(str(tmp_path), 10_000)
    for age, key in enumerate(KEYS[:8]):  # 8 entries of about 1.1 kB
        store.store(key, CODE)
        os.utime(entry(store, key), (1000 + age, 1000 + age))
    assert store.load(KEYS[0]) == CODE  # makes it the most recent one
    store.store(KEYS[8], CODE)
    store.store(KEYS[9], CODE)
    left = {key for key, _, _ in store.entries()}
    assert KEYS[0] in left and KEYS[9] in left and KEYS[1] not in left
    assert sum(size for _, size, _ in store.entries()) <= 10_000
    assert store.clear() == len(left) and store.entries() == []


def test_files_left_by_killed_processes_are_removed(store):
    store.store(KEYS[0], CODE)
    old, new = entry(store, KEYS[1]) + ".1.tmp", entry(store, KEYS[2]) + ".2.tmp"
    for path in (old, new):
        with open(path, "wb") as file:
            file.write(b"half")
    os.utime(old, (1, 1))
    DiskCache(os.path.dirname(store.folder), 1 << 20).store(KEYS[3], CODE)
    assert not os.path.exists(old) and os.path.exists(new)


WRITERS = """
import os, signal, sys, time, warnings
from tracejit.codegen.cache import DiskCache
keys = [f"{i:064x}" for i in range(64)]
told, tell = os.pipe()
warnings.filterwarnings("ignore", "This process")  # has threads, says Python 3.12

def write(rounds):
    store = DiskCache(sys.argv[1], 40_000)
    os.write(tell, b".")
    while rounds:
        rounds -= 1
        for i, key in enumerate(keys):
            code = store.load(key)
            assert code is None or code == bytes([i]) * 1000, "wrong code"
            store.store(key, bytes([i]) * 1000)

def start(rounds):  # a fork: 16 interpreters that import tracejit take longer than the race
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        write(rounds)
        status = 0
    finally:
        os._exit(status)

doomed = [start(-1) for _ in range(4)]
honest = [start(3) for _ in range(12)]
ready = 0
while ready < 16:
    ready += len(os.read(told, 16))
time.sleep(0.2)
for child in doomed:
    os.kill(child, signal.SIGKILL)
ends = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in doomed + honest]
assert ends == [-signal.SIGKILL] * 4 + [0] * 12, ends
"""


def test_16_processes_race_and_some_are_killed(tmp_path):
    made = subprocess.run(
        [sys.executable, "-W", "error", "-c", WRITERS, str(tmp_path)],
        env={"PYTHONPATH": ":".join(sys.path)}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    store = DiskCache(str(tmp_path), 40_000)
    for i, key in enumerate(KEYS):
        assert quiet(store.load, key) in (None, bytes([i]) * 1000)
