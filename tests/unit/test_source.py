"""A module's source, from whatever the analyst has."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from oodida.source import environment_for, read
from protocol.errors import BadRequest, SourceTooLarge
from protocol.module import MAX_SOURCE, Environment

GOOD = "def custom_code(window):\n    return 1\n"


def test_a_path_as_text_or_object(tmp_path: Path) -> None:
    path = tmp_path / "harsh_braking.py"
    path.write_text(GOOD)
    assert read(path) == read(str(path)) == (GOOD, "harsh_braking")


def test_a_file_name_that_is_no_module_name_is_made_one(tmp_path: Path) -> None:
    path = tmp_path / "my module (2).py"
    path.write_text(GOOD)
    assert read(path)[1] == "my-module--2-"


def test_a_text_is_the_source() -> None:
    assert read(GOOD) == (GOOD, "module")


def custom_code(window: list[float]) -> float:
    return max(window)


def loudest(window: list[float]) -> float:
    return math.fabs(max(window))


def test_a_function_is_sent_alone_with_the_modules_that_it_uses() -> None:
    source, name = read(custom_code)
    assert name == "custom_code"
    assert source.startswith("def custom_code")
    source, name = read(loudest)
    assert name == "loudest"
    assert source.startswith("import math as math\n")
    assert source.endswith("custom_code = loudest\n")
    namespace: dict[str, object] = {}
    exec(compile(f"from __future__ import annotations\n{source}", "m", "exec"), namespace)  # noqa: S102
    assert namespace["custom_code"]([-3.0, -2.0]) == 2.0  # type: ignore[operator]


def test_what_cannot_be_sent_says_why(tmp_path: Path) -> None:
    outside = 3

    def closure(_window: list[float]) -> int:
        return outside

    with pytest.raises(BadRequest, match="outside"):
        read(closure)
    with pytest.raises(BadRequest, match="def"):
        read(lambda w: w)
    with pytest.raises(BadRequest, match="def"):
        read(max)
    with pytest.raises(BadRequest, match="No such file"):
        read("nowhere.py")
    with pytest.raises(BadRequest, match="empty"):
        read(" \n")
    binary = tmp_path / "binary.py"
    binary.write_bytes(b"\xff\xfe")
    with pytest.raises(BadRequest, match="UTF-8"):
        read(binary)


def test_the_size_is_counted_in_bytes_and_the_limit_itself_is_allowed() -> None:
    assert read("#" * MAX_SOURCE)[0]
    with pytest.raises(SourceTooLarge):
        read("#" * (MAX_SOURCE + 1))
    with pytest.raises(SourceTooLarge):
        read("ä" * (MAX_SOURCE // 2 + 1))


@pytest.mark.parametrize(
    ("source", "environment"),
    [
        (GOOD, "minimal"),
        ("import math, json\n", "minimal"),
        ("import numpy as np\n", "science"),
        ("from sklearn.linear_model import SGDClassifier\n", "science"),
        ("def custom_code(w):\n    import scipy.stats\n", "science"),
        ("import numpyish\n", "minimal"),
        ("not python at all (", "minimal"),
    ],
)
def test_the_environment_follows_the_imports(source: str, environment: str) -> None:
    assert environment_for(source) is Environment(environment)
