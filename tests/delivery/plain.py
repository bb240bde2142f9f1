"""Small OCI archives of Python programs, and a runtime that runs them without a sandbox."""

import hashlib
import io
import json
import sys
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ci.values import Release

PROGRAMS = Path(__file__).with_name("programs")


class PlainRuntime:
    """A Runtime that starts ``rootfs/<entrypoint>`` with this Python."""

    def unpack(self, archive: Path, dest: Path) -> Mapping[str, Any]:
        with tarfile.open(archive) as tar:

            def blob(digest: str) -> bytes:
                file = tar.extractfile("blobs/sha256/" + digest.removeprefix("sha256:"))
                assert file
                return file.read()

            index = tar.extractfile("index.json")
            assert index
            manifest = json.loads(blob(json.load(index)["manifests"][0]["digest"]))
            for layer in manifest["layers"]:
                with tarfile.open(fileobj=io.BytesIO(blob(layer["digest"]))) as files:
                    for member in files:
                        file = files.extractfile(member)
                        assert file
                        dest.mkdir(exist_ok=True)
                        (dest / member.name).write_bytes(file.read())
            config: dict[str, Any] = json.loads(blob(manifest["config"]["digest"]))
        return config

    def argv(
        self,
        rootfs: Path,
        config: Mapping[str, Any],
        *,
        env: Mapping[str, str],
        binds: Mapping[str, Path],
        args: Sequence[str],
    ) -> list[str]:
        process = config["config"]
        command: list[str] = [*process["Entrypoint"], *(args or process.get("Cmd", []))]
        folders = [f"{inside}={outside}" for inside, outside in binds.items()]
        return [sys.executable, str(rootfs / command[0]), *command[1:], *folders]


def write_archive(dest: Path, files: Mapping[str, str], config: Mapping[str, Any]) -> str:
    """An OCI archive with one layer; the digest of its manifest."""
    blobs: dict[str, bytes] = {}

    def put(content: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        blobs[digest] = content
        return {"digest": f"sha256:{digest}", "size": len(content)}

    layer = put(_tar({name: text.encode() for name, text in files.items()}))
    manifest = put(
        json.dumps({"config": put(json.dumps(config).encode()), "layers": [layer]}).encode()
    )
    index = json.dumps({"schemaVersion": 2, "manifests": [manifest]}).encode()
    entries = {f"blobs/sha256/{name}": content for name, content in blobs.items()}
    dest.write_bytes(_tar({"index.json": index, **entries}))
    return str(manifest["digest"])


def _tar(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def service(folder: Path, version: str) -> tuple[Release, Path]:
    """A release of ``programs/service.py`` and its archive."""
    archive = folder / f"service-{version}.tar"
    files = {
        "service.py": (PROGRAMS / "service.py").read_text(),
        "version.json": json.dumps({"version": version}),
    }
    config = {"config": {"Entrypoint": ["service.py"], "Cmd": ["serve"]}}
    digest = write_archive(archive, files, config)
    return Release(name="service", version=version, digest=digest, commit="c" * 40), archive


def store(folder: Path) -> tuple[str, Path]:
    """The digest and the archive of ``programs/store.py``."""
    archive = folder / "store.tar"
    files = {"store.py": (PROGRAMS / "store.py").read_text()}
    return write_archive(archive, files, {"config": {"Entrypoint": ["store.py"]}}), archive
