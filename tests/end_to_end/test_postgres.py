"""Dagster keeps what it knows in a Postgres database, where a variable names one."""

from collections.abc import Callable, Iterator

import pytest

from tests.end_to_end.conftest import Checkout
from tests.servers.postgres import postgres_server
from tests.servers.s3 import Unavailable

pytestmark = pytest.mark.slow
psycopg2 = pytest.importorskip("psycopg2")


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    try:
        with postgres_server() as url:
            yield url
    except Unavailable as error:
        pytest.skip(str(error))


def counted(database: str, table: str) -> int:
    with psycopg2.connect(database) as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {table}")
        return int(cursor.fetchone()[0])


def test_one_variable_moves_what_dagster_knows_into_postgres(
    database: str, copy_checkout: Callable[[], Checkout], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEFECT_POSTGRES", database)
    checkout = copy_checkout()
    checkout.cli("import", "synthetic", "--tiles", "12", "--name", "one")
    checkout.cli("repro", "dataset_split")
    runs, events = counted(database, "runs"), counted(database, "event_logs")
    assert runs >= 4  # environment, batch, snapshot, split
    assert events > 10 * runs
    assert counted(database, "dynamic_partitions") == 2
    assert not list((checkout.home / "dagster").rglob("*.db"))
    # The password is in the variable, and in no file.
    written = (checkout.home / "dagster" / "dagster.yaml").read_text()
    assert "env: DEFECT_POSTGRES" in written
    assert "127.0.0.1" not in written

    checkout.cli("repro", "dataset_split")
    assert counted(database, "runs") == runs
