"""``python -m tests.engine.images.build_program ROOT DEST``: build an image, print its digests.

In a session over the store of the environment; the user, and a line for each way of export.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import anyio
import dagger

from ci.engine.images.layout import open_layout
from tests.sdk_session import user_session

SCRIPT = """
mkdir -p /srv/app; echo data > /srv/app/file; ln /srv/app/file /srv/app/hard
ln -s file /srv/app/soft; chmod 4711 /srv/app/file; chmod 1777 /srv; rm /bin/seq
rm -r /var; mkdir /var; echo $$ > /dev/null; date > /tmp/now; rm /tmp/now
"""


async def main(root: str, dest: str) -> None:
    print(os.geteuid())  # noqa: T201 - a program
    async with user_session() as session:
        os.environ.update(session.environment())
        async with dagger.connection():
            source = dagger.dag.host().directory(root)
            made = (
                dagger.dag.container()
                .with_rootfs(source)
                .with_exec(["/bin/sh", "-euc", SCRIPT])
                .with_new_file("/etc/new", "new", permissions=0o600, owner="app:extra")
                .with_directory("/home/app", source.directory("etc"), owner="app")
                .with_symlink("etc/new", "/link")
                .with_env_variable("A", "1")
                .with_label("org.opencontainers.image.title", "built")
                .with_annotation("org.opencontainers.image.description", "twice")
            )
            for number, compression in enumerate(dagger.ImageLayerCompression):
                if compression.name.upper() == "ESTARGZ":
                    continue
                target = Path(dest) / f"{number}.tar"
                await made.export(str(target), forced_compression=compression)
                with open_layout(target) as layout:
                    print(layout.top().digest)  # noqa: T201 - a program


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], sys.argv[2])
