"""The policy: what is shipped is whole, and what cannot be meant is refused."""

import pytest
from pydantic import ValidationError

from defect_assets.automation.policy import Policy, read_policy
from defect_assets.partitions import configs


def test_what_is_shipped_names_what_there_is() -> None:
    policy = read_policy()
    known = configs.get_partition_keys()
    assert {wanted.config for wanted in policy.train.configs} <= set(known)
    assert policy.release is not None
    assert policy.release.channel == "staging"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"cuts": {}}, "Extra inputs"),
        ({"cut": {"nightly": "2 am"}}, "String should match"),
        ({"train": {"a_day": 0}}, "greater than or equal to 1"),
        ({"train": {"configs": [{"config": "C-01", "after": ["always"]}]}}, "'major'"),
        ({"release": {"channel": "production"}}, "decided by a person"),
        ({"release": {"channel": "No Channel"}}, "no name of a channel"),
    ],
)
def test_what_cannot_be_meant_is_refused(values: dict, said: str) -> None:
    with pytest.raises((ValidationError, ValueError), match=said):
        Policy.model_validate(values)
