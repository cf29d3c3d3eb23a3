"""Engine versions are ordered as PEP 440 orders them."""

import pytest
from ansible_collections.muster.serving.plugins.plugin_utils.plan import versions
from hypothesis import given
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet

NUMBERS = st.integers(0, 3)
VERSIONS = st.builds(
    lambda a, b, c, tail: f"{a}.{b}.{c}{tail}",
    NUMBERS,
    NUMBERS,
    NUMBERS,
    st.sampled_from(["", "rc1", "rc2", ".post1", "+cpu"]),
)
CLAUSES = st.builds(
    lambda sign, a, b, tail: f"{sign}{a}.{b}{tail}",
    st.sampled_from([">=", "<=", "<", "==", "!="]),
    NUMBERS,
    NUMBERS,
    st.sampled_from(["", "rc1"]),
)


@given(VERSIONS, CLAUSES, CLAUSES)
def test_ranges_mean_what_packaging_says(version: str, one: str, other: str) -> None:
    specifier = f"{one},{other}"
    expected = SpecifierSet(specifier).contains(version, prereleases=True)
    assert versions.matches(version, specifier) is expected


@given(st.text(max_size=12), st.text(max_size=12))
def test_any_text_is_matched_or_refused(version: str, specifier: str) -> None:
    try:
        outcome = versions.matches(version, specifier)
    except ValueError as error:
        assert "is not a" in str(error)  # noqa: PT017
    else:
        assert outcome in (True, False)


@pytest.mark.parametrize("text", ["latest", "1.x", "", "1.0-dev", "1.2.3.4.5"])
def test_a_version_that_is_none_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="is not a version such as"):
        versions.parse(text)
