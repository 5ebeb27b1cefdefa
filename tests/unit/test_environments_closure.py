"""A set of packages is whole for the image's interpreter, whatever interpreter looks at it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement

from edge_runtime.environments.closure import Package, closure, markers

ENVIRONMENT = markers("x86_64")


def package(version: str, *requires: str) -> Package:
    return Package(version, tuple(map(Requirement, requires)))


def check(wanted: list[str], found: dict[str, Package]) -> tuple[set[str], tuple[str, ...]]:
    whole = closure(map(Requirement, wanted), found, ENVIRONMENT)
    return set(whole.needed), whole.missing


def test_conditions_are_those_of_the_image() -> None:
    found = {
        "a": package("1", 'old; python_version < "3.12"', 'new>=2; python_version >= "3.13"'),
        "old": package("1"),
    }
    assert check(["a"], found) == ({"a"}, ("new>=2",))
    assert check(["a"], found | {"new": package("2.1")}) == ({"a", "new"}, ())
    assert check(['a; sys_platform == "win32"'], found) == (set(), ())
    assert check(['a; platform_machine == "x86_64"'], found)[0] == {"a"}


def test_extras_are_followed() -> None:
    found = {"a": package("1", 'b[fast]; extra == "more"'), "b": package("1", 'c; extra == "fast"')}
    assert check(["a"], found) == ({"a"}, ())
    assert check(["A[more]"], found) == ({"a", "b"}, ("c",))


def test_a_version_that_does_not_do_is_missing() -> None:
    found = {"a": package("1.5rc1", "b<2"), "b": package("2.0")}
    assert check(["a>=1"], found) == ({"a"}, ("b<2",)), "a release candidate was chosen on purpose"


def test_circles_end() -> None:
    found = {"a": package("1", "b"), "b": package("1", "a", "b[x]")}
    assert check(["a"], found) == ({"a", "b"}, ())


NAMES = st.sampled_from("abcdefg")


@given(st.dictionaries(NAMES, st.lists(NAMES, max_size=3)), st.lists(NAMES, min_size=1))
def test_what_is_needed_is_exactly_what_can_be_reached(
    edges: dict[str, list[str]], wanted: list[str]
) -> None:
    found = {name: package("1", *needs) for name, needs in edges.items()}
    needed, missing = check(wanted, found)
    reached, ends = set[str](), list(wanted)
    while ends:
        name = ends.pop()
        if name not in reached:
            reached.add(name)
            ends += edges.get(name, [])
    assert needed | set(missing) == reached
    assert needed == reached & set(edges)
