"""What goes wrong around a delivery: ports, kills, interruptions."""

import os
import signal
import socket
import sys
from typing import Any

import anyio
import pytest

from ci.deploy.journal import FileJournal
from ci.deploy.rollout import Rollout
from ci.deploy.targets.local.delivery import LocalDelivery
from ci.deploy.targets.local.ports import BusyPort
from ci.errors import CiError, ConfigError
from ci.values import Outcome
from tests.delivery.plain import PlainRuntime
from tests.delivery.running import get, pid_of, processes_of, version_at

CONFIRMED = {"retiring", "succeeded"}


async def test_a_busy_port_is_named_with_its_holder_and_nothing_is_left_running(
    delivery, spec, archives
):
    with socket.create_server(("127.0.0.1", spec.port)), pytest.raises(BusyPort) as raised:
        await delivery.deploy(spec, *archives("1.0.0"))
    for fact in (str(spec.port), f"(pid {os.getpid()})", "development", "ci.toml"):
        assert fact in str(raised.value)
    assert processes_of(delivery.state) == {}


@pytest.mark.parametrize("program", ["caddy run", "service.py serve"])
async def test_what_is_killed_is_started_again_by_the_supervisor(delivery, spec, archives, program):
    record = await delivery.deploy(spec, *archives("1.0.0"))
    await anyio.sleep(1.1)  # a program that ends within its first second counts as not started
    pid = pid_of(delivery.state, program)
    os.kill(pid, signal.SIGKILL)
    with anyio.fail_after(60):
        while True:
            try:
                if await version_at(record.url) == "1.0.0":
                    break
            except Exception:  # noqa: BLE001 - down for a moment
                await anyio.sleep(0.05)
    assert pid_of(delivery.state, program) != pid


async def test_after_a_killed_supervisord_the_next_command_clears_and_restores(
    delivery, spec, archives
):
    record = await delivery.deploy(spec, *archives("1.0.0"))
    before = processes_of(delivery.state)
    os.kill(pid_of(delivery.state, "supervisord"), signal.SIGKILL)
    assert await version_at(record.url) == "1.0.0", "what served still serves"
    again = await delivery.deploy(spec, *archives("1.0.0"))
    assert again.unchanged
    assert await version_at(record.url) == "1.0.0"
    after = processes_of(delivery.state)
    assert len(after) == len(before) == 3
    assert not set(after) & set(before)


async def test_stop_ends_every_process_and_a_delivery_brings_all_back(delivery, spec, archives):
    await delivery.deploy(spec, *archives("1.0.0"))
    await delivery.stop("shop", "development")
    assert processes_of(delivery.state) == {}
    (status,) = await delivery.environments()
    assert (status.running, status.healthy, status.detail) == (False, False, "stopped")
    record = await delivery.deploy(spec, *archives("1.0.0"))
    assert record.unchanged
    assert await version_at(record.url) == "1.0.0"


async def test_stop_also_ends_what_a_killed_supervisord_left(delivery, spec, archives):
    await delivery.deploy(spec, *archives("1.0.0"))
    os.kill(pid_of(delivery.state, "supervisord"), signal.SIGKILL)
    assert processes_of(delivery.state)
    await delivery.stop("shop", "development")
    assert processes_of(delivery.state) == {}


async def test_an_unknown_environment_is_a_usage_error_that_names_the_known(
    delivery, spec, archives
):
    await delivery.deploy(spec, *archives("1.0.0"))
    for command in (delivery.stop, delivery.rollback):
        with pytest.raises(ConfigError, match="development"):
            await command("shop", "staging")
    with pytest.raises(ConfigError, match="nothing to roll back to"):
        await delivery.rollback("shop", "development")


async def test_a_second_command_in_an_environment_is_refused_with_the_pid_of_the_first(
    delivery, spec, archives
):
    async def smoke(_: str) -> None:
        with pytest.raises(CiError, match=rf"busy.*pid {os.getpid()}"):
            await delivery.stop("shop", "development")

    record = await delivery.deploy(spec, *archives("1.0.0"), smoke=smoke)
    assert record.outcome is Outcome.PASSED


@pytest.mark.parametrize("after_the_switch", [False, True])
async def test_a_cancelled_delivery_goes_back_and_leaves_nothing_of_the_new_release(
    delivery, spec, archives, ledger, after_the_switch
):
    record = await delivery.deploy(spec, *archives("1.0.0"))
    with anyio.CancelScope() as scope:

        async def smoke(url: str) -> None:
            if url.endswith(str(spec.port)) is after_the_switch:
                assert await version_at(url) == "1.1.0"
                scope.cancel()
                await anyio.sleep_forever()

        await delivery.deploy(spec, *archives("1.1.0"), smoke=smoke)
    assert scope.cancelled_caught
    assert await version_at(record.url) == "1.0.0"
    assert len([line for line in processes_of(delivery.state).values() if "serve" in line]) == 1
    assert (ledger[-1].outcome, ledger[-1].rolled_back) == (Outcome.ERRORED, after_the_switch)


@pytest.mark.parametrize(
    "phase", ["preparing", "awaiting", "shifting", "confirming", "retiring", "succeeded"]
)
async def test_a_delivery_killed_in_any_phase_leaves_a_release_serving_and_can_be_repeated(
    delivery, spec, archives, ledger, phase
):
    record = await delivery.deploy(spec, *archives("1.0.0"))
    release, archive = archives("1.1.0")
    killed = await anyio.run_process(
        [
            *(sys.executable, "-m", "tests.delivery.programs.interrupted"),
            *(str(delivery.state), spec.model_dump_json(), release.model_dump_json()),
            *(str(archive), phase),
        ],
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert await version_at(record.url) in {"1.0.0", "1.1.0"}
    (status,) = await delivery.environments()
    assert status.phase == (None if phase == "succeeded" else phase)
    again = await delivery.deploy(spec, release, archive)
    assert again.outcome is Outcome.PASSED, again.reason
    assert await version_at(record.url) == "1.1.0"
    assert len([line for line in processes_of(delivery.state).values() if "serve" in line]) == 1
    recovered = [entry.outcome for entry in ledger[1:-1]]
    assert recovered == [Outcome.PASSED if phase in CONFIRMED else Outcome.ERRORED]
    assert again.unchanged is (phase in CONFIRMED)
    assert await version_at((await delivery.rollback("shop", "development")).url) == "1.0.0"


async def test_an_unhealthy_release_is_delivered_anew(delivery, spec, archives):
    checks = spec.checks.model_copy(update={"ready_deadline": 3})
    quick = spec.model_copy(update={"checks": checks, "stop_deadline": 1})
    await delivery.deploy(quick, *archives("1.0.0"))
    os.kill(pid_of(delivery.state, "serve"), signal.SIGSTOP)
    record = await delivery.deploy(quick, *archives("1.0.0"))
    assert (record.outcome, record.unchanged) == (Outcome.PASSED, False)
    assert (await get(record.url + "/ready")).status_code == 200


@pytest.mark.parametrize("phase", ["preparing", "awaiting", "confirming"])
async def test_when_the_journal_cannot_be_written_the_old_release_goes_on(
    delivery, spec, archives, ledger, monkeypatch, phase
):
    record = await delivery.deploy(spec, *archives("1.0.0"))
    write = FileJournal.write

    async def full(self: FileJournal, rollout: Rollout) -> None:
        if rollout.phase == phase:
            raise CiError("rollout.json: not written", got="No space left on device")
        await write(self, rollout)

    monkeypatch.setattr(FileJournal, "write", full)
    with pytest.raises(CiError, match="No space left"):
        await delivery.deploy(spec, *archives("1.1.0"))
    assert await version_at(record.url) == "1.0.0"
    assert [entry.outcome for entry in ledger] == [
        Outcome.PASSED,
        *([Outcome.ERRORED] if phase != "preparing" else []),
    ]
    monkeypatch.undo()
    again = await delivery.deploy(spec, *archives("1.1.0"))
    assert again.outcome is Outcome.PASSED
    assert len([line for line in processes_of(delivery.state).values() if "serve" in line]) == 1


async def test_a_broken_release_can_be_rolled_back_without_waiting_for_it(delivery, spec, archives):
    """Also the one way out when what serves is the trouble."""
    for version in ("1.0.0", "1.1.0"):
        await delivery.deploy(spec, *archives(version))
    pid = pid_of(delivery.state, "serve")
    os.kill(pid, signal.SIGSTOP)
    with anyio.fail_after(spec.checks.ready_deadline + spec.checks.drain_deadline):
        record = await delivery.rollback("shop", "development")
    assert record.outcome is Outcome.PASSED
    assert await version_at(record.url) == "1.0.0"


async def test_a_command_of_another_installation_leaves_alone_what_runs(delivery, spec, archives):
    await delivery.deploy(spec, *archives("1.0.0"))
    before = processes_of(delivery.state)
    other = LocalDelivery(OtherRuntime(), state=delivery.state)
    record = await other.deploy(spec, *archives("1.0.0"))
    assert record.unchanged
    assert processes_of(delivery.state) == before
    os.kill(pid_of(delivery.state, "supervisord"), signal.SIGKILL)
    await other.deploy(spec, *archives("1.0.0"))
    assert " -u " in processes_of(delivery.state)[pid_of(delivery.state, "serve")]


class OtherRuntime(PlainRuntime):
    """Its commands look different."""

    def argv(self, *args: Any, **options: Any) -> list[str]:
        python, *rest = super().argv(*args, **options)
        return [python, "-u", *rest]
