"""Two of Dagster's daemons on one home, by mistake: each delivery is taken in once all the same."""

import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest

from defect_assets.home import Home, known_description
from defect_assets.store.verify import verify
from tests.end_to_end.conftest import Checkout
from tests.end_to_end.test_unattended import deliver
from tests.servers.dagster import dagster_servers

pytestmark = pytest.mark.slow

DELIVERIES = [f"delivery-{number}" for number in range(8)]


def test_two_daemons_take_each_delivery_in_once(
    copy_checkout: Callable[[], Checkout], tmp_path: Path
) -> None:
    checkout = copy_checkout()
    checkout.look_often()  # so that the two look at the same time
    home = Home(checkout.home)
    home.hold(known_description("synthetic-tiles"))
    rng = random.Random(0)
    with dagster_servers(checkout) as servers:
        servers.switch_on("new_images")
        servers.start_daemon()
        servers.start_daemon()
        for number, name in enumerate(DELIVERIES):
            deliver(home.inbox, tmp_path, name, 1 + 4 * number, 4)
            time.sleep(rng.uniform(0, 5))
        store = home.store()
        deadline = time.monotonic() + 240
        while len(list(store.refs.names("batches/"))) < len(DELIVERIES):
            assert time.monotonic() < deadline, servers.log("daemon")
            time.sleep(1)
        with dg.DagsterInstance.from_config(str(home.dagster)) as instance:
            while any(not run.is_finished for run in instance.get_runs()):
                assert time.monotonic() < deadline, servers.log("daemon")
                time.sleep(1)
            runs = Counter(run.tags.get("dagster/partition", "") for run in instance.get_runs())
    assert runs == dict.fromkeys(["", *DELIVERIES], 1)
    assert verify(store).damages == ()
