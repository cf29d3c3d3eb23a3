"""Values of variables, against Ansible's own templating."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.vault import EncryptedString
from ansible.template import Templar, trust_as_template
from ansible_collections.muster.serving.plugins.plugin_utils.common.values import is_literal, plain
from hypothesis import given
from hypothesis import strategies as st

TEXTS = st.text(st.sampled_from("a{}%#j2: \n"), max_size=8).map(trust_as_template)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3)
)


@given(VALUES)
def test_what_is_taken_as_it_stands_is_what_ansible_makes_of_it(value: Any) -> None:
    if is_literal(value):
        assert plain(value) == plain(Templar(loader=DataLoader()).template(value))


@pytest.mark.parametrize(
    "value",
    [
        "{{ muster_port }}",
        ["a", {"b": "{% if c %}d{% endif %}"}],
        {"{{ name }}": 1},
        "a {# comment #}",
        "#jinja2: variable_start_string: '[['\n[[ muster_port ]]",
        EncryptedString(ciphertext="$ANSIBLE_VAULT;1.1;AES256\n00"),
    ],
)
def test_templates_and_secrets_are_for_ansible_to_read(value: Any) -> None:
    assert not is_literal(value)


def test_plain_values_are_of_pythons_own_types() -> None:
    tagged = trust_as_template("{{ a }}")
    assert type(tagged) is not str
    (text, day) = plain((tagged, datetime.date(2026, 1, 2)))
    assert (type(text), text, day) == (str, "{{ a }}", "2026-01-02")
