"""Deliver a release, and die by SIGKILL once the journal says that a given phase begins.

``interrupted.py STATE SPEC RELEASE ARCHIVE PHASE``, where SPEC and RELEASE are JSON.
"""

import os
import signal
import sys
from pathlib import Path

import anyio

from ci.deploy.environment import EnvironmentSpec
from ci.deploy.journal import FileJournal
from ci.deploy.targets.local.delivery import LocalDelivery
from ci.values import Release
from tests.delivery.plain import PlainRuntime

state, spec, release, archive, phase = sys.argv[1:]
write = FileJournal.write


async def write_and_die(self, rollout):
    await write(self, rollout)
    if rollout.phase == phase:
        os.kill(os.getpid(), signal.SIGKILL)


setattr(FileJournal, "write", write_and_die)  # noqa: B010 - mypy refuses the assignment
delivery = LocalDelivery(PlainRuntime(), state=Path(state))
anyio.run(
    delivery.deploy,
    EnvironmentSpec.model_validate_json(spec),
    Release.model_validate_json(release),
    Path(archive),
)
