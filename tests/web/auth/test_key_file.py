"""A key file that is replaced, broken and taken away while tokens are checked."""

import asyncio
import os
from pathlib import Path

import pytest

from tests.web.auth.clock import Clock
from tests.web.auth.tokens import pem
from tidegate.model.errors import SettingsError
from tidegate.web.auth.key_file import FILE_MAX_BYTES, KeyFile
from tidegate.web.auth.keys import VerifyingKey, pem_keys


def find(keys: KeyFile) -> tuple[VerifyingKey, ...]:
    return tuple(asyncio.run(keys.find("any")))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "key.pem"
    path.write_bytes(pem("rsa"))
    return path


def test_a_new_key_is_taken_and_the_file_is_looked_at_once_a_second(path: Path) -> None:
    clock = Clock()
    keys = KeyFile(path, clock)
    assert find(keys) == pem_keys(pem("rsa"))
    path.write_bytes(pem("p256"))
    clock.now += 0.9
    assert find(keys) == pem_keys(pem("rsa"))
    clock.now += 0.1
    assert find(keys) == pem_keys(pem("p256"))
    asyncio.run(keys.run())  # returns at once: there is nothing to do
    asyncio.run(keys.close())


def test_the_same_size_and_time_under_another_inode_is_seen(path: Path) -> None:
    # How Kubernetes exchanges a mounted secret: a link to a folder is moved.
    clock = Clock()
    first, second = path.parent / "1", path.parent / "2"
    for folder, key in ((first, pem("ed25519")), (second, pem("ed25519", 1))):
        folder.mkdir()
        (folder / "key.pem").write_bytes(key)
        os.utime(folder / "key.pem", ns=(10**18, 10**18))
    link = path.parent / "now"
    link.symlink_to(first)
    keys = KeyFile(link / "key.pem", clock)
    spare = path.parent / "spare"
    spare.symlink_to(second)
    spare.rename(link)
    clock.now += 1
    assert find(keys) == pem_keys(pem("ed25519", 1))


def test_a_bad_or_missing_file_leaves_the_old_keys(path: Path) -> None:
    clock = Clock()
    keys = KeyFile(path, clock)
    for spoil in (
        lambda: path.write_bytes(b"half a ke"),
        path.unlink,
        lambda: path.write_bytes(pem("rsa1024")),
        lambda: path.write_bytes(b"x" * (FILE_MAX_BYTES + 1)),
    ):
        spoil()
        clock.now += 1
        assert find(keys) == pem_keys(pem("rsa"))
    path.write_bytes(pem("p521"))
    clock.now += 1
    assert find(keys) == pem_keys(pem("p521"))


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "No such file"), (b"", "no PEM public key"), (pem("rsa1024"), "1024 bits")],
)
def test_at_the_start_it_must_be_good(path: Path, content: bytes | None, words: str) -> None:
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    with pytest.raises(SettingsError, match=f"auth.key_file: .*{words}"):
        KeyFile(path)
