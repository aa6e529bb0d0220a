"""What a driver raises is either our surroundings' fault, and says so, or a bug, and stays what it is."""

from __future__ import annotations

import psycopg2
import psycopg2.errors
import pytest

from taskflow.adapters.metadata.vendor_errors import translate, translated
from taskflow.core.errors import StoreUnavailableError

CLOSED = "server closed the connection unexpectedly\n\tThis probably means the server terminated abnormally"


@pytest.mark.parametrize(
    "kind", [psycopg2.OperationalError, psycopg2.InterfaceError, psycopg2.DatabaseError]
)
def test_a_lost_connection_is_a_store_that_does_not_answer_however_psycopg2_calls_it(
    kind: type[psycopg2.Error],
) -> None:
    with pytest.raises(StoreUnavailableError, match="server closed the connection"), translated():
        raise kind(CLOSED)


@pytest.mark.parametrize(
    ("why", "says"),
    [
        ('FATAL:  database "x" does not exist', "PostgreSQL refused: "),
        ('FATAL:  password authentication failed for user "x"', "PostgreSQL refused: "),
        ("FATAL:  the database system is starting up", "PostgreSQL did not answer: "),
        ("Connection refused\n\tIs the server running?", "PostgreSQL did not answer: "),
    ],
)
def test_a_server_that_wants_us_not_is_told_from_one_that_is_not_there(why: str, says: str) -> None:
    error = translate(
        psycopg2.OperationalError(f'connection to server at "h", port 1 failed: {why}')
    )
    assert isinstance(error, StoreUnavailableError)
    assert error.detail.startswith(says)


@pytest.mark.parametrize(
    "kind", [psycopg2.ProgrammingError, psycopg2.IntegrityError, psycopg2.errors.UndefinedColumn]
)
def test_a_mistake_of_ours_stays_what_it_is(kind: type[psycopg2.Error]) -> None:
    mistake = kind("column x does not exist")
    assert translate(mistake) is mistake
