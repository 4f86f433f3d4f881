import pytest
from hypothesis import given
from hypothesis import strategies as st

from defect_assets.dataset.version import Bump, Version

numbers = st.integers(0, 10**6)
versions = st.builds(Version, st.sampled_from(["DS-", "v"]), numbers, numbers, numbers)


@given(versions)
def test_text_and_back(version: Version) -> None:
    assert Version.parse(str(version)) == version


@given(versions, st.sampled_from(Bump))
def test_every_bump_rises(version: Version, bump: Bump) -> None:
    assert version.bumped(bump) > version


@given(versions)
def test_a_greater_change_gives_a_greater_version(version: Version) -> None:
    patch, minor, major = (version.bumped(bump) for bump in Bump)
    assert patch < minor < major


@pytest.mark.parametrize("text", ["1.2.3", "DS-1.2", "DS-01.2.3", "v1.2.3-rc1", "DS-1.2.3\n", ""])
def test_what_is_no_version_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a version"):
        Version.parse(text)
