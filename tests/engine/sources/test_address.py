"""Address: what is loaded from where a text says."""

from __future__ import annotations

import dagger
import pytest


async def test_a_path_is_a_folder_of_the_host(dag, tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a.txt").write_text("a")
    (tmp_path / "d" / "b.log").write_text("b")
    address = dag.address(str(tmp_path / "d"))
    assert await address.directory().entries() == ["a.txt", "b.log"]
    assert await address.directory(exclude=["*.log"]).entries() == ["a.txt"]
    assert await dag.address(f"file://{tmp_path}/d").directory().entries() == ["a.txt", "b.log"]
    assert await dag.address(str(tmp_path / "d" / "a.txt")).file().contents() == "a"
    assert await address.value() == str(tmp_path / "d")


@pytest.mark.parametrize("value", ["env://NAME_OF_A_TEST", "env:NAME_OF_A_TEST"])
async def test_a_secret_is_named_by_its_kind(dag, monkeypatch, value):
    monkeypatch.setenv("NAME_OF_A_TEST", "s3cr3t")
    assert await dag.address(value).secret().plaintext() == "s3cr3t"


async def test_a_service_is_what_listens_there(dag):
    service = dag.address("tcp://localhost:5432").service()
    assert [await port.port() for port in await service.ports()] == [5432]


@pytest.mark.parametrize("value", ["localhost:80", "udp://x:1", "tcp://x", "tcp://x:99999"])
async def test_what_is_no_service_is_refused(dag, value):
    with pytest.raises(dagger.QueryError, match="expected tcp://HOST:PORT"):
        await dag.address(value).service().hostname()


async def test_a_file_of_a_repository_needs_a_path(dag):
    with pytest.raises(dagger.QueryError, match="expected a path: URL#REF:PATH"):
        await dag.address("https://example.com/repository#main").file().contents()


async def test_an_empty_address_is_refused(dag):
    with pytest.raises(dagger.QueryError, match="address: got an empty one"):
        await dag.address("").value()
