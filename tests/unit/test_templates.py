"""What is rendered once for several hosts is what each of them would render."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible_collections.muster.serving.plugins.plugin_utils.plan.templates import evidence
from hypothesis import given
from hypothesis import strategies as st

NAMES = st.sampled_from(["a", "b", "c", "default", "length"])
WORDS = NAMES | st.sampled_from(["none", "1", "'x'", "[1]", "lookup", "inventory_hostname"])
FILTERS = st.sampled_from(
    ["", " | default(0)", " | string", " | int", " | combine({})", " | length"]
)
EXPRESSIONS = st.tuples(WORDS, FILTERS).map("".join)
TEMPLATES = (
    st.lists(EXPRESSIONS, min_size=1, max_size=2)
    .map(lambda parts: "".join(f"{{{{ {part} }}}}" for part in parts))
    .map(trust_as_template)
)
VALUES = st.recursive(
    st.integers(0, 1) | st.booleans() | st.sampled_from(["", "x"]) | TEMPLATES,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=2),
    max_leaves=3,
)
HOSTS = st.dictionaries(NAMES, VALUES)


def rendered(value: Any, variables: dict[str, Any]) -> Any:
    try:
        return repr(Templar(loader=DataLoader(), variables=variables).template(value))
    except AnsibleError as error:
        return type(error)


@given(TEMPLATES, HOSTS, HOSTS, st.sets(NAMES))
def test_equal_evidence_is_an_equal_value(
    value: str, one: dict[str, Any], other: dict[str, Any], shared: set[str]
) -> None:
    other = {**other, **{name: one[name] for name in shared & one.keys()}}
    found = evidence(value, one)
    if found is not None and found == evidence(value, other):
        assert rendered(value, one) == rendered(value, other)


def test_a_groups_template_is_one_whatever_else_hosts_have() -> None:
    value = "{{ args | combine(more | default({})) }}"
    args = {"args": {"x": "{{ size }}"}, "size": 1}
    first = evidence(value, {**args, "ansible_host": "10.0.0.1"})
    assert first == evidence(value, {**args, "ansible_host": "10.0.0.2"})
    # Also where one differs that is read through another.
    assert first != evidence(value, {**args, "size": 2})
    assert first != evidence(value, {**args, "size": True})


@pytest.mark.parametrize(
    "value",
    [
        "{{ lookup('env', 'HOME') }}",
        "{{ hostvars['n1'].a }}",
        "{{ vars['a'] }}",
        "{{ [1, 2] | random }}",
        ["{{ a }}", {"b": "{% for one in groups.all %}{{ one }}{% endfor %}"}],
        "{{ '%s' | ansible.builtin.strftime }}",
        "{{ a is changed }}",
        "{{ now ().year }}",
        "#jinja2: trim_blocks: true\n{{ undef () }}",
    ],
)
def test_what_may_differ_by_host_or_time_is_rendered_for_each(value: Any) -> None:
    assert evidence(value, {"a": 1}) is None


def test_a_variable_that_tells_the_host_tells_it_apart() -> None:
    value = "{{ inventory_hostname }}"
    hosts = [{"inventory_hostname": name} for name in ("n1", "n2")]
    assert evidence(value, hosts[0]) != evidence(value, hosts[1])
