"""What `choose` says of a name that is none of the valid ones."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity_mappings import UsageError
from identity_mappings.errors import choose


def refusal(given, valid):
    with pytest.raises(UsageError) as caught:
        choose(given, valid, "word")
    return str(caught.value)


def test_valid_names_without_a_likeness_stay_in_their_order():
    assert refusal("x", (1, 2, "b", "a")) == "word must be one of: 1, 2, b, a; got 'x'"


def test_the_closest_name_comes_first():
    assert refusal("papr", ("smoke", "quick", "paper")).startswith("word must be one of: paper, ")


@given(st.lists(st.text("abc-", min_size=1), min_size=1, unique=True), st.text("abc-"))
def test_a_name_is_given_back_or_all_valid_names_are_listed(valid, name):
    if name in valid:
        assert choose(name, valid, "word") is name
    else:
        listed = refusal(name, valid).removeprefix("word must be one of: ").removesuffix(f"; got {name!r}")
        assert sorted(listed.split(", ")) == sorted(valid)
