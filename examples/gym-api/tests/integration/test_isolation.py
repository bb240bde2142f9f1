"""Row-level security, asked directly: what the policies let through when a query forgets to
filter, or tries to reach another organisation on purpose."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Connection, create_engine, func, select, text
from sqlalchemy.exc import ProgrammingError

from gym_api.tables import APP_ROLE, TENANT_TABLES

NORTH, SOUTH = uuid4(), uuid4()


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    """In a transaction that is undone; with one member and message in each organisation."""
    engine = create_engine(database_url)
    with engine.connect() as connection, connection.begin() as transaction:
        for organisation in (NORTH, SOUTH):
            become(connection, organisation)
            for statement in FILL:
                connection.execute(
                    text(statement), {"org": organisation, "slug": str(organisation)}
                )
        yield connection
        transaction.rollback()
    engine.dispose()


FILL = (
    "INSERT INTO organisation (id, name, slug) VALUES (:org, 'G', :slug)",
    "INSERT INTO member (organisation_id, id, name, email, role)"
    " VALUES (:org, :org, 'A', 'a@example.org', 'owner')",
    "INSERT INTO api_token (digest, organisation_id, member_id)"
    " VALUES (convert_to(:slug, 'utf8'), :org, :org)",
    "INSERT INTO conversation (organisation_id, id, subject, opened_by)"
    " VALUES (:org, :org, 'S', :org)",
    "INSERT INTO message (organisation_id, id, conversation_id, author_id, text)"
    " VALUES (:org, :org, :org, :org, 'T')",
)


def become(connection: Connection, organisation: UUID | None, *, token: str = "") -> None:
    """Act as the service does for this organisation, or for nobody."""
    value = str(organisation) if organisation else ""
    connection.execute(
        select(
            func.set_config("role", APP_ROLE, True),
            func.set_config("app.organisation", value, True),
            func.set_config("app.token", token, True),
        )
    )


def count(connection: Connection, table: str) -> int:
    number: int = connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()  # noqa: S608
    return number


@pytest.mark.parametrize("table", TENANT_TABLES)
def test_a_query_without_a_filter_sees_one_organisation(connection: Connection, table: str) -> None:
    become(connection, SOUTH)
    assert count(connection, table) == 1
    key = "id" if table == "organisation" else "organisation_id"
    seen = connection.execute(text(f"SELECT {key} FROM {table}")).scalar_one()  # noqa: S608
    assert seen == SOUTH


@pytest.mark.parametrize("table", TENANT_TABLES)
def test_without_an_organisation_nothing_is_seen(connection: Connection, table: str) -> None:
    become(connection, None)
    assert count(connection, table) == 0


@pytest.mark.parametrize("table", TENANT_TABLES)
def test_a_deletion_without_a_filter_spares_the_others(connection: Connection, table: str) -> None:
    become(connection, NORTH)
    connection.execute(text("DELETE FROM message"))
    connection.execute(text("DELETE FROM conversation"))
    connection.execute(text("DELETE FROM organisation"))
    become(connection, SOUTH)
    assert count(connection, table) == 1


def test_a_row_of_another_organisation_cannot_be_written(connection: Connection) -> None:
    become(connection, NORTH)
    with pytest.raises(ProgrammingError, match="row-level security"):
        connection.execute(
            text(
                "INSERT INTO member (organisation_id, id, name, email, role)"
                " VALUES (:org, :id, 'E', 'e@example.org', 'owner')"
            ),
            {"org": SOUTH, "id": uuid4()},
        )


def test_a_row_cannot_be_moved_to_another_organisation(connection: Connection) -> None:
    become(connection, NORTH)
    with pytest.raises(ProgrammingError, match="row-level security"):
        connection.execute(text("UPDATE message SET organisation_id = :org"), {"org": SOUTH})


def test_a_token_shows_its_own_row_and_no_other(connection: Connection) -> None:
    become(connection, None, token=str(NORTH).encode().hex())
    assert count(connection, "api_token") == 1
    assert count(connection, "member") == 0


def test_the_role_neither_owns_the_tables_nor_bypasses_their_policies(
    connection: Connection,
) -> None:
    role = connection.execute(
        text("SELECT rolsuper, rolbypassrls, rolcanlogin FROM pg_roles WHERE rolname = :name"),
        {"name": APP_ROLE},
    ).one()
    assert tuple(role) == (False, False, False)
    tables = connection.execute(
        text(
            "SELECT relname, relrowsecurity, relforcerowsecurity, pg_get_userbyid(relowner)"
            " FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
            " AND relname <> 'alembic_version'"
        )
    ).all()
    assert {row[0] for row in tables} == set(TENANT_TABLES)
    assert all(row[1] and row[2] and row[3] != APP_ROLE for row in tables)
