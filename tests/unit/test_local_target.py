"""The pure parts of the local target: slots, Caddy's configuration, templates, ports, records."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci.deploy.environment import render
from ci.deploy.targets.local import launch
from ci.deploy.targets.local.folder import Folder
from ci.deploy.targets.local.ports import Ports, holder, is_free
from ci.deploy.targets.local.processes import end_leftover
from ci.deploy.targets.local.router import caddy_config, slots
from ci.errors import ConfigError


@given(st.integers(0, 20))
def test_twenty_slots_hold_each_share_exactly_in_steps_of_five_percent(five_percents):
    share = 5 * five_percents
    weights = {name: s for name, s in (("new", share), ("old", 100 - share)) if s}
    assert Counter(slots(weights)) == {name: s // 5 for name, s in weights.items()}


def test_slots_are_spread_and_none_is_given_to_nobody():
    assert slots({"new": 25, "old": 75})[:8] == ["old", "new", "old", "old"] * 2
    assert slots({}) == []


def test_caddy_is_configured_for_a_loopback_port_and_a_private_administration(tmp_path):
    config = caddy_config(
        port=8081, admin=Path("/s/admin"), slots=Path("/s/slots"), access_log=Path("/s/log")
    )
    assert config["admin"] == {"listen": "unix//s/admin|0600", "config": {"persist": False}}
    text = str(config)
    assert "'listen': ['127.0.0.1:8081']" in text
    assert all(f"{{file./s/slots/{number:02d}}}" in text for number in range(20))


def test_templates_name_what_is_known_and_dollars_are_doubled():
    known = {"port": "1", "store.port": "2", "secrets.TOKEN": "3"}
    assert render("${port} ${store.port} ${secrets.TOKEN} $$", known, subject="x") == "1 2 3 $"


@pytest.mark.parametrize("text", ["${stor.port}", "$", "${", "${PORT}"])
def test_a_wrong_template_is_a_usage_error_that_says_what_there_is(text):
    with pytest.raises(ConfigError, match=r"\$\$ for a dollar"):
        render(text, {"port": "1"}, subject="env")


def test_a_reserved_port_is_free_and_given_to_one_owner_only(tmp_path):
    ports = Ports(tmp_path)
    owners = [tmp_path / "same" for _ in range(3)]
    reserved = [ports.reserve(owner) for owner in owners]
    assert len(set(reserved)) == 3
    ports.release(reserved[0])
    assert ports.reserve(owners[0]) == reserved[0]


def test_reservations_end_with_the_file_that_needed_them(tmp_path):
    ports = Ports(tmp_path / "ports")
    (tmp_path / "kept").touch()
    kept, lost = ports.reserve(tmp_path / "kept"), ports.reserve(tmp_path / "lost")
    ports.sweep(before=0)
    assert {path.name for path in ports.folder.iterdir()} == {str(kept), str(lost)}
    ports.sweep(before=2**40)
    assert {path.name for path in ports.folder.iterdir()} == {str(kept)}


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_a_listener_is_found_with_its_process_even_if_it_shares_the_port(address):
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        server.bind((address, 0))
        server.listen()
        port = server.getsockname()[1]
        assert not is_free(port)
        assert f"(pid {os.getpid()})" in holder(port)


def test_a_leftover_is_ended_and_a_stranger_with_its_pid_is_not(tmp_path):
    record = tmp_path / "program"
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    with subprocess.Popen(command, start_new_session=True) as process:
        said = launch.identity(process.pid)
        assert said
        pid, start, boot = said.split()
        record.write_text(f"{pid} {int(start) + 1} {boot}")
        end_leftover(record, owner="nobody")
        assert process.poll() is None
        record.write_text(said)
        end_leftover(record, owner="nobody")
        assert process.wait(60) == -signal.SIGTERM
    assert launch.identity(process.pid) is None
    assert not record.exists()


def test_a_program_started_by_a_private_file_sees_its_variables_and_no_others(tmp_path):
    launch_file, record = tmp_path / "launch.json", tmp_path / "record"
    launch_file.write_text(
        '{"argv": ["/usr/bin/env"], "env": {"TOKEN": "x"}, "record": "%s"}' % record  # noqa: UP031
    )
    command = [sys.executable, "-I", launch.__file__, str(launch_file)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={"OTHER": "y"})
    assert done.stdout == "TOKEN=x\n"
    assert len(record.read_text().split()) == 3


def test_a_socket_in_a_deep_folder_is_reached_by_a_short_link(tmp_path):
    folder = Folder(tmp_path / ("deep" * 25))
    folder.make()
    short = folder.socket("x.sock")
    assert len(os.fsencode(short)) < 90
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(short))
        assert (folder.run / "x.sock").is_socket()


def test_short_links_go_with_the_folders_that_they_lead_to(tmp_path):
    gone, kept = (Folder(tmp_path / (name * 25)) for name in ("gone", "kept"))
    links = []
    for folder in (gone, kept):
        folder.make()
        links.append(folder.socket("x").parent)
    shutil.rmtree(gone.path)
    another = Folder(tmp_path / ("more" * 25))
    another.make()
    another.socket("x")
    assert [link.is_symlink() for link in links] == [False, True]


def test_a_shallow_folder_needs_no_link():
    folder = Folder(Path("/state/development"))
    assert folder.socket("x.sock") == Path("/state/development/run/x.sock")
