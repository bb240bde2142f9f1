"""Whatever an image says, it is taken or refused by one error, and nothing lands outside."""

from __future__ import annotations

import contextlib
import copy
import gzip
import io
import json
import os
import shutil
import stat
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ci.engine.images import archive
from ci.engine.images.documents import (
    Manifest,
    check_config,
    check_platform,
    index_entries,
    read_document,
)
from ci.engine.images.layout import flatten
from ci.engine.images.oci import ImageError, Platform, select_platform
from ci.engine.images.unpack import unpack_layer
from ci.engine.store.layers import remove_tree
from ci.engine.trees.merged import MergedTree
from ci.engine.vertices.container import ContainerState
from tests.engine.images.conftest import make_layers

#: The same examples each time: whoever looks for others takes ``derandomize`` out.
PROFILE = settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    database=None,
    derandomize=True,
)

# -- documents -----------------------------------------------------------------------------------

DIGEST = "sha256:" + "a" * 64
DESCRIPTOR = {
    "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
    "digest": DIGEST,
    "size": 5,
    "annotations": {"a": "b"},
    "platform": {"os": "linux", "architecture": "arm", "variant": "v7"},
}
MANIFEST = {
    "schemaVersion": 2,
    "mediaType": "application/vnd.oci.image.manifest.v1+json",
    "config": {**DESCRIPTOR, "mediaType": "application/vnd.oci.image.config.v1+json"},
    "layers": [DESCRIPTOR, DESCRIPTOR],
}
INDEX = {"schemaVersion": 2, "manifests": [DESCRIPTOR, DESCRIPTOR]}
CONFIG = {
    "os": "linux",
    "architecture": "amd64",
    "config": {
        "Env": ["A=1", "B"],
        "Labels": {"l": "v"},
        "Cmd": ["a"],
        "Entrypoint": None,
        "ExposedPorts": {"80/tcp": {}, "x": {}, "99999": {}},
        "Volumes": {"/v": {}},
        "User": "1:2",
        "WorkingDir": "/w",
        "StopSignal": "SIGTERM",
        "Healthcheck": {"Test": ["CMD", "true"], "Interval": 5, "Retries": 2},
    },
    "rootfs": {"type": "layers", "diff_ids": [DIGEST]},
}

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(
        [DIGEST, "linux", "sha256:../../x", "application/vnd.oci.image.index.v1+json"]
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["digest", "size", "config", "layers", "manifests", "Env", "rootfs"])
            | st.text(max_size=5),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something can be put in a document."""
    yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*path, key))


@st.composite
def changed(draw: st.DrawFn, document: Any) -> Any:
    """A document with a few of its parts replaced or left out."""
    value = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(list(places(value))))
        if not path:
            return draw(JSON)
        holder = value
        for key in path[:-1]:
            holder = holder[key]
        if draw(st.booleans()) and isinstance(holder, dict):
            del holder[path[-1]]
        else:
            holder[path[-1]] = draw(JSON)
    return value


def read(value: Any) -> dict[str, Any]:
    return read_document(json.dumps(value).encode(), "it")


@PROFILE
@given(changed(MANIFEST), st.sampled_from(["", "application/vnd.oci.image.manifest.v1+json", "x"]))
def test_a_manifest_is_taken_or_refused(value, media_type):
    with contextlib.suppress(ImageError):
        manifest = Manifest.load(read(value), media_type, "it")
        assert all(len(layer.digest) == 71 for layer in (manifest.config, *manifest.layers))


@PROFILE
@given(changed(INDEX))
def test_an_index_is_taken_or_refused(value):
    with contextlib.suppress(ImageError):
        select_platform(index_entries(read(value), "it"), Platform("linux", "arm"), subject="it")


@PROFILE
@given(changed(CONFIG))
def test_a_configuration_is_refused_or_a_container_is_made_of_it(value):
    try:
        config = read(value)
        check_config(config, "it")
        check_platform(config, Platform("linux", "amd64"), "it")
    except ImageError:
        return
    state = ContainerState(platform="linux/amd64").from_image("r", DIGEST, config, "linux/amd64")
    json.dumps(state.image_config()).encode()


@PROFILE
@given(st.binary(max_size=200) | st.just(b"[" * 100_000) | st.just(b'{"a":"\\ud800"}'))
def test_bytes_that_are_no_document_are_refused(content):
    with contextlib.suppress(ImageError):
        assert isinstance(read_document(content, "it"), dict)


# -- layers ----------------------------------------------------------------------------------------

NAMES = st.sampled_from(["a", "b", "c", "d"])
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
WILD = PATHS | st.sampled_from(
    ["/", "", ".", "..", "../x", "a/../../x", "/etc/passwd", "./a", "a//b", ".wh.a", "a/.wh.b",
     ".wh.", ".wh..", ".wh...", ".wh..wh..opq", "a/.wh..wh..opq", ".wh..wh.plnk/1", ".wh..wh.aufs",
     "a/.wh..wh..opq/b", "x" * 300, "a\0b", "a\udcff", "ü", "a" + "/a" * 200]
)  # fmt: skip
TARGETS = WILD | st.sampled_from(["/outside", "../../outside", "../outside/secret", "/dev/zero"])
KINDS = st.sampled_from(
    [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE,
     tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.CONTTYPE, b"V", b"Z"]
)  # fmt: skip
NUMBERS = st.sampled_from([0, 1, 1000, 2**31, 2**32 - 1, 2**40])


@st.composite
def entries(draw: st.DrawFn) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(draw(WILD))
    info.type = draw(KINDS)
    info.linkname = draw(TARGETS)
    info.mode = draw(st.sampled_from([0, 0o644, 0o755, 0o4755, 0o1777, 0o100644, 2**21]))
    info.uid, info.gid = draw(NUMBERS), draw(NUMBERS)
    info.mtime = draw(st.sampled_from([0, 1, 2**31, 2**40, 0.5]))
    info.devmajor = info.devminor = draw(st.sampled_from([0, 1, 5]))
    headers = {"SCHILY.xattr.user.a": "b", "SCHILY.xattr.user.overlay.opaque": "y",
               "SCHILY.xattr." + "user." + "x" * 300: "", "SCHILY.xattr.trusted.a": "v",
               "mtime": "nan", "size": "-1", "uid": "x", "GNU.sparse.major": "1",
               "SCHILY.xattr.user.towpath.owner": "1:x"}  # fmt: skip
    info.pax_headers = {
        key: headers[key] for key in draw(st.lists(st.sampled_from(list(headers)), max_size=2))
    }
    content = draw(st.binary(max_size=20)) if info.type in {tarfile.REGTYPE, b"V"} else b""
    info.size = len(content)
    return info, content


def packed(made: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info, content in made:
            with contextlib.suppress(ValueError):  # it cannot be written
                tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()


@contextlib.contextmanager
def guarded() -> Iterator[Path]:
    """A folder beside one that must stay as it is."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    try:
        (folder / "outside").mkdir()
        (folder / "outside/secret").write_text("secret")
        (folder / "inside").mkdir()
        yield folder / "inside"
        assert sorted(path.name for path in folder.iterdir()) == ["inside", "outside"]
        assert [path.name for path in (folder / "outside").iterdir()] == ["secret"]
        assert (folder / "outside/secret").read_text() == "secret"
        assert (folder / "outside/secret").stat().st_nlink == 1
    finally:
        remove_tree(folder)


AS_ROOT = [False, True] if os.geteuid() == 0 else [False]


@pytest.mark.parametrize("as_root", AS_ROOT)
@pytest.mark.parametrize("flat", [False, True])
@PROFILE
@given(st.lists(entries(), max_size=8))
def test_a_layer_of_any_entries_stays_inside(flat, as_root, made):
    with guarded() as inside, contextlib.suppress(ImageError):
        unpack_layer(io.BytesIO(packed(made)), inside, flat=flat, as_root=as_root)


def sound() -> bytes:
    infos = []
    for name, kind, link in [
        ("etc", tarfile.DIRTYPE, ""), ("etc/a", tarfile.REGTYPE, ""),
        ("etc/l", tarfile.SYMTYPE, "a"), ("etc/h", tarfile.LNKTYPE, "etc/a"),
        ("etc/" + "n" * 150, tarfile.REGTYPE, ""), ("etc/.wh.gone", tarfile.REGTYPE, ""),
    ]:  # fmt: skip
        info = tarfile.TarInfo(name)
        info.type, info.linkname, info.size = kind, link, 600 if kind == tarfile.REGTYPE else 0
        infos.append((info, b"x" * info.size))
    return packed(infos)


SOUND = [sound(), gzip.compress(sound()), zstandard.ZstdCompressor().compress(sound())]


@st.composite
def damaged(draw: st.DrawFn, contents: list[bytes]) -> bytes:
    """One of them with some bytes changed, left out or put in."""
    content = bytearray(draw(st.sampled_from(contents)))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(0, len(content) - 1)))
        match draw(st.sampled_from(["set", "cut", "put", "digits"])):
            case "set":
                content[place : place + 1] = draw(st.binary(min_size=1, max_size=1))
            case "cut":
                del content[place : place + draw(st.integers(1, 600))]
            case "put":
                content[place:place] = draw(st.binary(max_size=20))
            case _:
                content[place : place + 11] = b"77777777777"
    return bytes(content)


@PROFILE
@given(damaged(SOUND))
def test_a_damaged_layer_is_taken_or_refused(content):
    with guarded() as inside, contextlib.suppress(ImageError):
        unpack_layer(io.BytesIO(content), inside)


@pytest.fixture(scope="module")
def image_bytes(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    folder = tmp_path_factory.mktemp("image")
    config = {"os": "linux", "architecture": "amd64", "config": {"Cmd": ["x"]}}
    archive.write(folder / "i.tar", platforms=[(make_layers(folder / "made"), config)])
    content = (folder / "i.tar").read_bytes()
    return [content, gzip.compress(content)]


@PROFILE
@given(data=st.data())
def test_a_damaged_archive_is_taken_or_refused(image_bytes, data):
    content = data.draw(damaged(image_bytes))
    with guarded() as inside, tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        with contextlib.suppress(ImageError):
            flatten(Path(file.name), inside)


# -- meaning ---------------------------------------------------------------------------------------


@st.composite
def plain_entries(draw: st.DrawFn) -> tuple[tarfile.TarInfo, bytes]:
    """What well-meaning tools write, if in any order."""
    kind = draw(st.sampled_from(["file", "folder", "gone", "opaque", "link", "soft"]))
    path = draw(PATHS)
    head, _, last = path.rpartition("/")
    if kind == "gone":
        path = f"{head}/.wh.{last}" if head else f".wh.{last}"
    elif kind == "opaque":
        path = f"{path}/.wh..wh..opq"
    info = tarfile.TarInfo(path)
    info.type = {"folder": tarfile.DIRTYPE, "link": tarfile.LNKTYPE, "soft": tarfile.SYMTYPE}.get(
        kind, tarfile.REGTYPE
    )
    info.linkname = draw(PATHS) if kind in {"link", "soft"} else ""
    info.mode = draw(st.sampled_from([0o755, 0o700, 0o4711]))
    content = draw(st.binary(max_size=4)) if kind == "file" else b""
    info.size = len(content)
    return info, content


def facts(tree: MergedTree) -> dict[str, tuple[Any, ...]]:
    root = tree.root()
    found = {}
    for entry in tree.walk(root) if root else ():
        content = Path(entry.host).read_bytes() if entry.kind == "file" else b""
        target = str(Path(entry.host).readlink()) if entry.kind == "symlink" else ""
        mode = 0 if target else stat.S_IMODE(entry.status.st_mode)
        found[entry.path] = (entry.kind, mode, content, target)
    return found


@PROFILE
@given(st.lists(st.lists(plain_entries(), max_size=6), min_size=1, max_size=4))
def test_layers_upon_each_other_show_what_flattening_them_gives(layers):
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    try:
        flat = folder / "flat"
        stack: list[Path] = []
        flat.mkdir()
        for number, made in enumerate(layers):
            upper = folder / str(number)
            upper.mkdir()
            content = packed(made)
            try:
                unpack_layer(io.BytesIO(content), upper, lowers=stack)
            except ImageError:
                shutil.rmtree(upper)
                continue
            stack.append(upper)
            unpack_layer(io.BytesIO(content), flat, flat=True)
        merged = MergedTree([str(path) for path in stack])
        assert facts(merged) == facts(MergedTree([str(flat)]))
    finally:
        remove_tree(folder)
