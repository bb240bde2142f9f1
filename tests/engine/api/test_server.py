"""The server: who may ask, what is answered, and that no traceback ever leaves."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack, suppress

import anyio
import httpx
import pytest
from graphql import get_introspection_query
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ci.engine.api.context import Context
from ci.engine.connections import Connection
from ci.engine.parsing import DEPTH_LIMIT, TOKEN_LIMIT
from ci.engine.queries import FIELD_LIMIT, Queries
from ci.engine.session import Session


@pytest.mark.parametrize("auth", [None, ("", ""), ("wrong", ""), ("", "wrong")])
async def test_a_wrong_token_is_refused(client, auth):
    async with httpx.AsyncClient(auth=auth) as stranger:
        answer = await stranger.post(client.url, json={"query": "{version}"})
    assert answer.status_code == 401
    assert "data" not in answer.json()


async def test_the_token_is_not_accepted_as_a_bearer(client):
    headers = {"Authorization": f"Bearer {client.session.token}"}
    async with httpx.AsyncClient() as stranger:
        answer = await stranger.post(client.url, json={"query": "{version}"}, headers=headers)
    assert answer.status_code == 401


async def test_only_loopback_is_listened_on(client):
    table = await anyio.Path("/proc/net/tcp").read_text("ascii")
    listening = [line.split()[1] for line in table.splitlines() if line.split()[3] == "0A"]
    port = f":{client.session.port:04X}"
    assert [address for address in listening if address.endswith(port)] == ["0100007F" + port]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/query", b"", 405),
        ("POST", "/", b'{"query": "{version}"}', 404),
        ("POST", "/query", b"", 400),
        ("POST", "/query", b"not json", 400),
        ("POST", "/query", b"[]", 400),
        ("POST", "/query", b'{"query": 1}', 400),
        ("POST", "/query", b"\xff" * 10, 400),
        ("POST", "/query", b"[" * 100_000, 400),
    ],
)
async def test_bad_requests_get_a_status_and_one_error(client, method, path, body, status):
    url = client.url.removesuffix("/query") + path
    answer = await client.http.request(method, url, content=body)
    assert answer.status_code == status
    assert len(answer.json()["errors"]) == 1


async def test_introspection_is_answered_and_kept(client, tmp_path):
    query = get_introspection_query(input_value_deprecation=True)
    first = await client.ask(query)
    assert {t["name"] for t in first["data"]["__schema"]["types"]} >= {"Container", "File"}
    assert await client.ask(query) == first


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("{", "Syntax Error"),
        ("{nope}", "Cannot query field 'nope' on type 'Query'"),
        ("{container{from{id}}}", "of type 'String!' is required"),
        ("{container{withUser(name:1){id}}}", "String cannot represent"),
        ("{container{withExec(args:[],expect:NONE){id}}}", "does not exist in 'ReturnType'"),
        ("{container}", "must have a selection of subfields"),
        ("{version{x}}", "must not have a selection"),
        ("mutation{x}", "mutation operation is not supported"),
        ("{...F}", "Unknown fragment"),
    ],
)
async def test_a_query_that_does_not_fit_the_schema_is_one_clear_error(client, query, message):
    response = await client.ask(query)
    assert any(message in error["message"] for error in response["errors"]), response


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("{llm{id}}", "Query.llm"),
        ('{container{withMountedVolume(path:"/",volume:"x"){id}}}', "Container.withMountedVolume"),
        ("{directory{asModule{id}}}", "Directory.asModule"),
        ("{container{experimentalWithAllGPUs{id}}}", "Container.experimentalWithAllGPUs"),
        ('{moduleSource(refString:"x"){id}}', "Query.moduleSource"),
        ("{currentModule{name}}", "Query.currentModule"),
        ("{engine{name}}", "Query.engine"),
    ],
)
async def test_what_is_not_served_is_named_with_the_way_out(client, query, field):
    error = await client.error(query)
    assert f"{field} is not supported by the embedded engine" in error["message"]
    assert "Dagger engine" in error["message"]


async def test_null_stands_for_the_default_of_an_argument(client):
    query = '{container{withEnvVariable(name:"A",value:"$B",expand:null){envVariable(name:"A")}}}'
    assert await client.data(query) == "$B"
    query = "{container{withExposedPort(port:1,protocol:null){exposedPorts{protocol}}}}"
    assert await client.data(query) == [{"protocol": "TCP"}]


async def test_aliases_name_the_values_of_the_answer(client):
    response = await client.ask('{a: container{b: withUser(name:"x"){c: user}}}')
    assert response == {"data": {"a": {"b": {"c": "x"}}}}


@pytest.mark.parametrize("levels", [1, 250, 1500])
async def test_long_chains_are_answered(client, levels):
    chain = 'withUser: withUser(name:"x"){' * levels + "user" + "}" * levels
    value = await client.data("{container{" + chain + "}}")
    assert value == "x"


async def test_a_query_beyond_the_limit_is_an_error(client):
    levels = DEPTH_LIMIT + 10
    error = await client.error("{container{" + 'withUser(name:"x"){' * levels + "}" * levels + "}}")
    assert f"more than {DEPTH_LIMIT} levels" in error["message"]


async def test_equal_values_have_equal_ids_and_load_again(client):
    query = '{container{withEnvVariable(name:"A",value:"1"){id}}}'
    identity = await client.data(query)
    assert await client.data(query) == identity
    node = f'{{node(id:"{identity}"){{... on Container{{envVariable(name:"A")}}}}}}'
    assert await client.data(node) == "1"
    load = f'{{loadContainerFromID(id:"{identity}"){{envVariable(name:"A")}}}}'
    assert await client.data(load) == "1"


async def test_lists_of_objects_load_by_their_ids(client):
    query = '{container{withEnvVariable(name:"A",value:"1"){envVariables{id}}}}'
    ((first,),) = [await client.data(query)]
    node = f'{{node(id:"{first["id"]}"){{__typename ... on EnvVariable{{value}}}}}}'
    assert await client.data(node) == {"__typename": "EnvVariable", "value": "1"}


@pytest.mark.parametrize(
    "query",
    [
        '{node(id:"nonsense"){id}}',
        '{loadContainerFromID(id:"Container:00"){id}}',
        '{container{withDirectory(path:"/",source:"x"){id}}}',
    ],
)
async def test_an_id_that_this_session_did_not_give_is_an_error(client, query):
    assert "expected an ID that this session has given" in (await client.error(query))["message"]


async def test_an_id_of_another_type_is_an_error(client):
    identity = await client.data("{directory{id}}")
    error = await client.error(f'{{container{{withFile(path:"/x",source:"{identity}"){{id}}}}}}')
    assert error["message"] == "object ID: got a Directory; expected a File"
    error = await client.error(f'{{loadFileFromID(id:"{identity}"){{id}}}}')
    assert "got a Directory; expected a File" in error["message"]


async def test_a_crash_is_one_error_without_a_traceback(client, monkeypatch, capfd):
    async def broken(*_: object, **__: object) -> None:
        raise KeyError("surprise")

    monkeypatch.setattr("ci.engine.solver.solver.Solver.entries", broken)
    error = await client.error('{directory{entries(path:".")}}')
    assert (
        error["message"]
        == "internal error of the engine at directory.entries: KeyError: 'surprise'"
    )


async def test_the_answer_about_the_schema_is_kept_in_the_store(tmp_path):
    query = get_introspection_query()
    for wanted in (True, False):
        async with Session(cache=tmp_path) as session:
            url = f"http://127.0.0.1:{session.port}/query"
            had = any("introspection" in str(path) for path in tmp_path.rglob("*"))
            assert had is not wanted
            async with httpx.AsyncClient(auth=(session.token, "")) as http:
                assert (await http.post(url, json={"query": query})).status_code == 200


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("{id}", "Query.id is not supported"),
        ("{json{withContents(contents:7){id}}}", "String cannot represent"),
        ('{directory{findUp(name:"a\\u0000b",start:"")}}', "name: got a NUL character"),
        ('{file(name:"' + "x" * 300 + '",contents:""){size}}', "a name that is too long"),
    ],
)
async def test_values_that_make_no_sense_are_errors_of_the_caller(client, query, message):
    response = await client.ask(query)
    assert message in response["errors"][0]["message"]


async def test_a_line_far_behind_a_files_end_is_told_at_once(client):
    replaced = 'withReplaced(search:"a",replacement:"b",firstFrom:2147483647){id}'
    query = '{file(name:"f",contents:"a"){' + replaced + "}}"
    with anyio.fail_after(30):
        assert "no such text" in (await client.error(query))["message"]


# -- hostile clients -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:80"},
        {"Host": "127.0.0.1.evil.example"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:3000"},
    ],
)
async def test_a_page_in_a_browser_is_refused_even_with_the_token(client, headers):
    answer = await client.http.post(client.url, json={"query": "{version}"}, headers=headers)
    assert answer.status_code == 403
    assert "data" not in answer.json()


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1"])
async def test_a_client_on_this_machine_may_call_it_by_any_of_its_names(client, host):
    answer = await client.http.post(client.url, json={"query": "{version}"}, headers={"Host": host})
    assert answer.status_code == 200


async def test_a_stranger_is_answered_before_its_body_is_read(client):
    """And cannot go on: the connection is closed."""
    async with await anyio.connect_tcp("127.0.0.1", client.session.port) as stream:
        head = "POST /query HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\n"
        await stream.send(head.encode())
        answer = b""
        with anyio.fail_after(30), suppress(anyio.EndOfStream, anyio.BrokenResourceError):
            while True:
                answer += await stream.receive()
    assert answer.startswith(b"HTTP/1.1 401")


async def test_who_sends_no_request_is_cut_off(client, monkeypatch):
    monkeypatch.setattr(Connection, "patience", 0.05)
    for head in (b"", b"POST /query HTTP/1.1\r\nHost: local"):
        async with await anyio.connect_tcp("127.0.0.1", client.session.port) as stream:
            await stream.send(head) if head else None
            with (
                anyio.fail_after(30),
                pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)),
            ):
                await stream.receive()


async def test_many_silent_connections_keep_nobody_out(client):
    async with AsyncExitStack() as stack:
        for _ in range(300):
            stream = await anyio.connect_tcp("127.0.0.1", client.session.port)
            await stack.enter_async_context(stream)
        assert (await client.ask("{version}"))["data"]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("{" + "a:version " * 60_000 + "}", f"more than {TOKEN_LIMIT} tokens"),
        ("{a:version" + ",b:version" * 25_000 + "}", ""),
        (
            "{container{...F0}}"
            + "".join(
                f'fragment F{n} on Container{{a:withUser(name:"x"){{...F{n + 1}}}'
                f'b:withUser(name:"y"){{...F{n + 1}}}}}'
                for n in range(40)
            )
            + "fragment F40 on Container{user}",
            f"more than {FIELD_LIMIT} fields",
        ),
        ("{container{...F}} fragment F on Container{...F}", "Cannot spread fragment 'F' within"),
        ("{__schema{types{" + "fields{type{" * 20 + "name" + "}}" * 20 + "}}}", "introspection"),
    ],
)
async def test_what_a_query_costs_is_bounded(client, query, message):
    with anyio.fail_after(60):
        response = await client.ask(query)
    if message:
        assert message in response["errors"][0]["message"]
    else:
        assert len(response["data"]) == 2


@pytest.mark.parametrize(
    "body",
    [
        b'{"query": "{a:\\ud800}"}',
        b'{"query": "{version}", "query": 1}',
        b'{"query": "{version}"}{"query": "{version}"}',
        b'{"query": ["{version}"]}',
        b'{"query": NaN}',
        b'[{"query": "{version}"}]',
        "{'query': '{version}'}".encode("utf-16"),
        b'{"query":' * 50_000,
    ],
)
async def test_bodies_that_are_nearly_right_are_one_error(client, body):
    answer = await client.http.post(client.url, content=body)
    assert answer.status_code == 400
    assert len(answer.json()["errors"]) == 1


async def test_a_body_beyond_the_limit_is_refused_while_it_comes(client, monkeypatch):
    monkeypatch.setattr("ci.engine.server._BODY_LIMIT", 1 << 16)
    answer = await client.http.post(client.url, content=b" " * (1 << 20))
    assert answer.status_code == 413


async def test_an_id_of_another_session_is_of_no_use(client, tmp_path, ask_session):
    async with Session(cache=tmp_path) as other:
        stranger = ask_session(other)
        async with stranger.http:
            made = '{setSecret(name:"a",plaintext:"b"){id}}'
            identity = await stranger.data(made)
    error = await client.error(f'{{loadSecretFromID(id:"{identity}"){{plaintext}}}}')
    assert "expected an ID that this session has given" in error["message"]


VOCABULARY = """
{ } ( ) [ ] : , ... on query mutation fragment $x ! container directory from withExec file id node
args path null "a" -1.5e3 true ENUM @skip(if:true) __typename é \x00
"""
words = st.sampled_from([*VOCABULARY.split(), '"""b"""'])


@pytest.fixture(scope="module")
def queries() -> Queries:
    return Queries()


@given(st.lists(words, max_size=30).map(" ".join) | st.text(max_size=60))
@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_any_text_is_answered_with_data_or_errors(queries, text):
    context = Context.__new__(Context)
    response = await queries.execute(text, context)
    json.dumps(response)
    for error in response.get("errors", ()):
        assert "Traceback" not in error["message"]
