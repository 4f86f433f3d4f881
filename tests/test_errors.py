"""What a person has to mend is told alike, whichever process met it."""

import pickle
from pathlib import Path

import pytest

from defect_assets.dataset.delivery import DeliveryRefused, Problem
from defect_assets.errors import UserError
from defect_assets.store import NotInStore, StoreUnavailable
from defect_assets.store.digest import Corrupted


@pytest.mark.parametrize(
    "error",
    [
        UserError("mend it"),
        Corrupted("objects/ab", "is gone"),
        NotInStore("refs/x"),
        StoreUnavailable("s3://x: there is no such bucket"),
        DeliveryRefused("week-45", [Problem("a.png", "torn")], Path("rejected")),
    ],
)
def test_an_error_says_the_same_in_another_process(error: UserError) -> None:
    there = pickle.loads(pickle.dumps(error))
    assert type(there) is type(error)
    assert str(there) == str(error)
    assert vars(there) == vars(error)
