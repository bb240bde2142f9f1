"""The session's secrets: references without values, salted hashes, sources by URI."""

from __future__ import annotations

import stat
import threading

import pytest

from ci.engine.refusal import Refusal
from ci.engine.solver.secrets import Secrets, load_salt

SALT = b"s" * 32


async def test_a_reference_tells_nothing_of_the_value():
    secrets = Secrets(SALT)
    reference = secrets.set("token", "hunter2")
    assert "hunter2" not in repr(reference) + reference.digest + repr(vars(secrets))
    assert (secrets.label(reference), secrets.uri(reference)) == ("token", "")
    assert await secrets.value(reference) == b"hunter2"


async def test_the_same_name_with_another_value_is_another_secret():
    secrets = Secrets(SALT)
    old, new = secrets.set("token", "old"), secrets.set("token", "new")
    assert old != new
    assert [await secrets.value(s) for s in (old, new)] == [b"old", b"new"]


async def test_fingerprints_follow_the_value_and_the_salt():
    async def fingerprint(salt: bytes, value: str) -> str:
        secrets = Secrets(salt)
        return await secrets.fingerprint(secrets.set("a", value))

    assert await fingerprint(SALT, "v") == await fingerprint(SALT, "v")
    assert await fingerprint(SALT, "v") != await fingerprint(SALT, "w")
    assert await fingerprint(SALT, "v") != await fingerprint(b"t" * 32, "v")


async def test_a_cache_key_stands_for_the_value_in_fingerprints():
    secrets = Secrets(SALT, environ={"A": "1", "B": "2"})
    one, two = secrets.from_uri("env://A", "same"), secrets.from_uri("env://B", "same")
    assert await secrets.fingerprint(one) == await secrets.fingerprint(two)


async def test_secrets_are_read_from_the_environment_a_file_and_a_command(tmp_path):
    (tmp_path / "key").write_bytes(b"of a file\n")
    secrets = Secrets(SALT, environ={"A": "of the environment", "HOME": str(tmp_path)})
    wanted = {
        "env://A": b"of the environment",
        f"file://{tmp_path}/key": b"of a file\n",
        "file://~/key": b"of a file\n",
        "cmd://echo of a command": b"of a command",
    }
    for uri, value in wanted.items():
        assert await secrets.value(secrets.from_uri(uri)) == value


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("env://MISSING", "no such variable"),
        ("file:///no/such/file", "No such file"),
        ("cmd://exit 3", "exit code 3"),
    ],
)
async def test_a_secret_that_cannot_be_had_says_why_when_it_is_needed(uri, message):
    secrets = Secrets(SALT, environ={})
    reference = secrets.from_uri(uri)
    with pytest.raises(Refusal, match=message):
        await secrets.value(reference)


@pytest.mark.parametrize("uri", ["op://vault/item", "vault://x", "plain"])
def test_a_source_that_is_not_read_here_is_named(uri):
    with pytest.raises(Refusal, match=r"env://NAME, file://PATH or cmd://COMMAND"):
        Secrets(SALT).from_uri(uri)


def test_the_salt_stays_and_only_its_owner_reads_it(tmp_path):
    salt = load_salt(tmp_path / "store" / "salt")
    assert load_salt(tmp_path / "store" / "salt") == salt
    assert stat.S_IMODE((tmp_path / "store" / "salt").stat().st_mode) == 0o600
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["salt"]


def test_a_damaged_salt_is_made_anew(tmp_path):
    (tmp_path / "salt").write_bytes(b"short")
    assert len(load_salt(tmp_path / "salt")) == 32


def test_engines_that_start_at_once_agree_on_the_salt(tmp_path):
    found: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: found.append(load_salt(tmp_path / "salt")))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1
