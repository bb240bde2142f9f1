"""A service with a version, readiness and a counter; what it does wrong is told by variables.

Run as ``service.py serve``, ``service.py migrate``. It is the only content of the test images.
"""

import asyncio
import json
import os
import sys
import time
from pathlib import Path

import uvicorn

VERSION = json.loads(Path(__file__).with_name("version.json").read_text())["version"]
FAULT = os.environ.get("FAULT", "")


async def lifespan(receive, send):
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def read(receive):
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body.decode()


def answer(path, body):
    match path:
        case "/ready":
            version = "9.9.9" if FAULT == "other-version" else VERSION
            return 503 if FAULT == "unready" else 200, {"version": version}
        case "/variables":
            names = ("GREETING", "TOKEN", "STORE")
            return 200, {name: os.environ.get(name) for name in names}
    return 200, {"version": VERSION, "echo": body, "pid": os.getpid()}


async def app(scope, receive, send):
    if scope["type"] != "http":
        await lifespan(receive, send)
        return
    body = await read(receive)
    if scope["path"] == "/slow":
        await asyncio.sleep(0.5)
    status, value = answer(scope["path"], body)
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(value).encode()})


def migrate():
    sys.stdout.write(f"migrating to {VERSION}\n")
    if FAULT == "migration":
        sys.exit("relation does not exist, token " + os.environ.get("TOKEN", ""))
    if FAULT == "slow-migration":
        time.sleep(60)
    with Path(os.environ["MIGRATIONS"]).open("a") as file:
        file.write(VERSION + "\n")


if __name__ == "__main__":
    if sys.argv[1:] == ["migrate"]:
        migrate()
    elif FAULT == "crash":
        sys.exit("cannot start, token " + os.environ.get("TOKEN", ""))
    else:
        uvicorn.run(
            app,
            host="127.0.0.1",
            port=int(os.environ["PORT"]),
            access_log=False,
            log_level="warning",
            timeout_graceful_shutdown=8,
        )
