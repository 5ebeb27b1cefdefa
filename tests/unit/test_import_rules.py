"""What modules may use: found in every form, decided by the first rule, and never a crash."""

from __future__ import annotations

import ast
import keyword
import string
import time
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from protocol.errors import BadRequest
from protocol.imports import rules as import_rules
from protocol.imports.rules import ImportRules, Rule, check, default, parse
from protocol.module import MAX_SOURCE, Side
from tests.conftest import ROOT

RULES = ImportRules(
    onboard=[
        Rule(deny=("os.system", "os.exec*", "socket", "http.client"), why="no"),
        Rule(deny=(".*",), why="one file"),
    ]
)


def denied(source: str, rules: ImportRules = RULES, side: Side = Side.ONBOARD) -> list[str]:
    """What is denied, as "line:column name"."""
    return [f"{v.line}:{v.column} {v.name}" for v in check(source, side, rules)]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import socket", ["1:8 socket"]),
        ("import math, socket as s", ["1:14 socket"]),
        ("import http.client", ["1:8 http.client"]),
        ("import http.client as c", ["1:8 http.client"]),
        ("from http import client as c", ["1:18 http.client"]),
        ("from http.client import HTTPConnection", ["1:25 http.client.HTTPConnection"]),
        ("from os import path, system", ["1:22 os.system"]),
        ("from os import *", ["1:1 os.*"]),
        ("from http import *", ["1:1 http.*"]),
        ("from socket import *", ["1:1 socket.*"]),
        ("from . import x", ["1:15 .x"]),
        ("from ..a import b", ["1:17 ..a.b"]),
        ("from .a import *", ["1:1 .a.*"]),
        ("import os as o\no.system('ls')", ["2:1 os.system"]),
        ("import os\nrun = os.system", ["2:7 os.system"]),
        ("import os.path\nos.execvp('a', [])", ["2:1 os.execvp"]),
        ("import http\nhttp.client.x", ["2:1 http.client.x"]),
        ("def f():\n    import os\n    return [os.system(x) for x in y]", ["3:13 os.system"]),
        ("import os\nclass A:\n    def f(self): os.system()", ["3:18 os.system"]),
        ("def f():\n    global os\n    import os\nos.system", ["4:1 os.system"]),
        ("try:\n    import os\nexcept E:\n    os = None\nos.system", ["5:1 os.system"]),
        ("import os\nx = 'ä'; os.system", ["2:10 os.system"]),
        ("__import__('socket')", ["1:1 socket"]),
        ("__import__('os').system('ls')", ["1:1 os.system"]),
        ("__import__('http.client')", ["1:1 http.client"]),
        ("__import__('http.client').client.X", ["1:1 http.client", "1:1 http.client.X"]),
        ("__import__('http.client', fromlist=['X']).X", ["1:1 http.client", "1:1 http.client.X"]),
        ("import importlib\nimportlib.import_module('socket')", ["2:1 socket"]),
        ("from importlib import import_module as i\ni('os').system", ["2:1 os.system"]),
        ("import importlib as i\ni.import_module('.client', 'http')", ["2:1 http.client"]),
        ("import builtins\nbuiltins.__import__(name='socket')", ["2:1 socket"]),
        ("import os\ngetattr(os, 'system')('ls')", ["2:1 os.system"]),
        ("getattr(__import__('os'), 'execv', None)", ["1:1 os.execv"]),
        ("import os\n(o := os).system", ["2:1 os.system"]),
    ],
)
def test_every_form_is_found_at_its_place(source: str, expected: list[str]) -> None:
    assert denied(source) == expected


@pytest.mark.parametrize(
    "source",
    [
        "import os, math\nos.path.join(os.getcwd(), 'a')",
        "import sockets\nfrom socketed import x",
        "from os import path as p\np.system",
        "import http\nhttp.HTTPStatus",
        "from http import cookies",
        "def f(os): os.system()",
        "import os\ndef f(os=1): return os.system",
        "import os\ndef f():\n    os = g()\n    os.system",
        "import os\n[os.system for os in x]",
        "import os\nlambda os: os.system",
        "class A:\n    import os\n    def f(self): os.system",
        "x.os.system",
        "import os\nx.getattr(os, 'system')",
        "import os\ndef getattr(a, b): pass\ngetattr(os, 'system')",
        "__import__(name)",
        "system('ls')",
        "'import socket'",
        "# import socket",
        "from __future__ import annotations",
    ],
)
def test_what_only_looks_like_it_is_left_alone(source: str) -> None:
    ast.parse(source)
    assert denied(source) == []


def test_all_is_told_in_the_order_of_the_source() -> None:
    source = "import os\nos.system\nimport socket\nos.execv; os.system\n"
    assert denied(source) == ["2:1 os.system", "3:8 socket", "4:1 os.execv", "4:11 os.system"]


def test_the_first_rule_that_matches_decides() -> None:
    rules = ImportRules(
        onboard=[
            Rule(allow=("os.path", "math")),
            Rule(deny=("os",), why="first"),
            Rule(allow=("os.sep",)),
            Rule(deny=("*",), why="last"),
        ]
    )
    found = check("import math, json\nfrom os import path, sep", Side.ONBOARD, rules)
    assert [(v.name, v.rule, v.why) for v in found] == [
        ("json", "*", "last"),
        ("os.sep", "os", "first"),
    ]
    assert denied("from math import *\nfrom os.path import *", rules) == []
    assert denied("from os import *", rules) == ["1:1 os.*"]


def test_each_side_has_its_own_rules_before_those_of_both() -> None:
    rules = parse(
        """
        [[onboard]]
        allow = ["socket.gethostname"]
        [[offboard]]
        deny = ["json"]
        why = "not in the cloud"
        [[both]]
        deny = ["socket"]
        why = "no network"
        """
    )
    source = "from json import loads\nfrom socket import gethostname"
    assert denied(source, rules, Side.ONBOARD) == []
    assert denied(source, rules, Side.OFFBOARD) == [
        "1:18 json.loads",
        "2:20 socket.gethostname",
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[onboard]]\ndeny = ['a b']\nwhy = 'x'", "onboard.0.deny.0"),
        ("[[onboard]]\ndeny = ['a']", "says why"),
        ("[[onboard]]\nallow = ['a']\ndeny = ['b']\nwhy = 'x'", "either allow or deny"),
        ("[[onboard]]\nwhy = 'x'", "either allow or deny"),
        ("[[everywhere]]\nallow = ['a']", "everywhere"),
        ("[[onboard]]\ndeny = 'a'\nwhy = 'x'", "onboard.0.deny"),
        ("[[onboard]\n", "rules.toml"),
    ],
)
def test_a_file_that_is_wrong_says_where(text: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "rules.toml"
    file.write_text(text)
    with pytest.raises(BadRequest, match=r"rules\.toml") as caught:
        import_rules.read(file)
    assert words in caught.value.message
    with pytest.raises(BadRequest, match="cannot be read"):
        import_rules.read(tmp_path / "nowhere.toml")


# --- laws ---------------------------------------------------------------------------------------

WORD = st.text(string.ascii_lowercase, min_size=1, max_size=3).filter(
    lambda word: not keyword.iskeyword(word)
)
NAME = st.lists(WORD, min_size=1, max_size=4).map(".".join)


@given(NAME, NAME)
def test_a_plain_pattern_matches_its_name_and_all_below(pattern: str, name: str) -> None:
    rules = ImportRules(onboard=[Rule(deny=(pattern,), why="no")])
    below = f"{name}.".startswith(f"{pattern}.")
    assert (rules.denied(Side.ONBOARD, name) is not None) == below
    above = f"{pattern}.".startswith(f"{name}.")
    assert (rules.denied(Side.ONBOARD, name, star=True) is not None) == (below or above)


@given(st.lists(NAME, max_size=4), st.lists(NAME, max_size=4), NAME)
def test_what_is_allowed_first_cannot_be_denied_later(
    first: list[str], later: list[str], name: str
) -> None:
    rules = [Rule(allow=(*first, name))]
    more = [*rules, Rule(deny=(*later, "*"), why="no")]
    assert ImportRules(onboard=more).denied(Side.ONBOARD, name) is None
    assert ImportRules(onboard=[*reversed(more)]).denied(Side.ONBOARD, name) is not None


@given(NAME, WORD, WORD)
def test_a_name_is_found_under_whatever_alias(module: str, attribute: str, alias: str) -> None:
    full, alias = f"{module}.{attribute}", alias.upper()  # else one name may mean two things
    rules = ImportRules(onboard=[Rule(deny=(full,), why="no")])
    source = f"import {module} as {alias}\n{alias}.{attribute}\nfrom {module} import {attribute}"
    found = [(v.line, v.name) for v in check(source, Side.ONBOARD, rules)]
    assert found == [(2, full), (3, full)]


@given(st.text(max_size=200))
@example("import os\n'\ud800'\nos.system")
@example("import os\0")
@example("\ufeffimport socket")
def test_whatever_the_source_is_the_answer_is_a_list(source: str) -> None:
    places = [(v.line, v.column) for v in check(source, Side.ONBOARD, RULES)]
    assert places == sorted(places)


HOSTILE = {
    "attributes": "import os\nos" + ".a" * 30_000,
    "attributes that parse": "import os\nos" + ".a" * 900,
    "calls": "import os\nos" + "()" * 30_000,
    "methods": "import os\nos" + ".a()" * 450,
    "brackets": "(" * 60_000,
    "signs": "-" * 60_000 + "1",
    "sums": "1" + "+1" * 30_000,
    "lambdas": "import os\n" + "lambda:" * 300 + f"[{','.join(f'a{i}.b' for i in range(6000))}]",
    "branches": "if 1:pass\n" + "elif 1:pass\n" * 5000,
    "getattr": "import os\n" + "getattr(" * 150 + "os" + ",'a')" * 150,
    "one name for many": "".join(f"import os.a{i} as x\n" for i in range(1500)) + "x.a\n" * 8000,
    "one line": "import os\n'ä';" + "os.system;" * 6300,
    "comprehensions": "[" * 90 + "1" + " for x in y]" * 90,
    "unpackings": "{**" * 9000 + "1" + "}" * 9000,
    "targets": "x=" * 20_000 + "1",
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_source_is_looked_at_in_no_time(case: str) -> None:
    source = HOSTILE[case][:MAX_SOURCE]
    started = time.process_time()
    found = check(source, Side.ONBOARD, default())
    assert time.process_time() - started < 10
    assert bool(found) == (case == "one line")


def test_a_source_that_is_too_long_is_not_looked_at() -> None:
    source = "import socket\n" + "#" * MAX_SOURCE
    assert denied(source) == []
    assert denied(source[:MAX_SOURCE]) == ["1:8 socket"]


# --- the policy that is shipped -----------------------------------------------------------------


@pytest.mark.parametrize("side", Side)
@pytest.mark.parametrize(
    "source",
    [
        "import socket",
        "from urllib.request import urlopen",
        "import urllib.request",
        "import requests",
        "import asyncio\nasyncio.open_connection",
        "from sklearn.datasets import fetch_openml",
        "import subprocess",
        "from os import popen",
        "import os\nos.posix_spawnp",
        "import asyncio\nasyncio.create_subprocess_exec",
        "import ctypes",
        "from multiprocessing import Pool",
        "from concurrent import futures\nfutures.ProcessPoolExecutor",
        "import pdb",
        "from .helpers import mean",
    ],
)
def test_the_shipped_policy_denies_and_says_why(source: str, side: Side) -> None:
    (found,) = check(source, side, default())
    assert len(found.why) > 20
    verdict = import_rules.verdict(source, side, default())
    assert verdict is not None
    assert (verdict.ok, verdict.code) == (False, "import_denied")
    assert (verdict.line, verdict.column) == (found.line, found.column)
    assert verdict.reason == f"{found.name} is not allowed here: {found.why}"


def test_of_many_violations_the_first_is_explained_and_others_are_named() -> None:
    source = "import socket\n" + "\n".join(f"import os\nos.exec{c}" for c in "abcdefgh")
    verdict = import_rules.verdict(source, Side.ONBOARD, default())
    assert verdict is not None
    assert verdict.place == "line 1, column 8: "
    assert "Nor is os.execa in line 3; os.execb in line 5; " in verdict.reason
    assert verdict.reason.endswith("; and more")
    long = import_rules.verdict(f"import socket.{'a' * 60_000}", Side.ONBOARD, default())
    assert long is not None
    assert len(long.reason) < 300


SCIENCE = """
from __future__ import annotations
import asyncio, collections, concurrent.futures, contextlib, dataclasses, datetime, functools
import hashlib, io, itertools, json, logging, math, multiprocessing, os, pathlib, pickle, random
import re, statistics, string, struct, sys, tempfile, threading, time, typing, urllib.parse
import warnings, zlib
from http import HTTPStatus
from os import environ, path
from urllib.error import URLError
import joblib
import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.signal as ss
import sklearn
from numpy import *
from numpy.ctypeslib import as_array
from pandas import DataFrame, Series, read_csv
from scipy import fft, integrate, interpolate, linalg, optimize, signal, sparse, stats
from sklearn.cluster import DBSCAN, KMeans
from sklearn.datasets import load_iris, make_blobs
from sklearn.ensemble import IsolationForest
from sklearn.linear_model import *
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline


def custom_code(window, previous=None):
    with concurrent.futures.ThreadPoolExecutor() as pool:
        parts = list(pool.map(np.mean, np.split(window, 2)))
    joblib.Parallel(n_jobs=1)(joblib.delayed(abs)(x) for x in parts)
    warnings.filterwarnings("ignore")
    os.environ["A"] = os.path.join(os.getcwd(), tempfile.gettempdir())
    address = np.zeros(1).ctypes.data
    pid = os.fork() if os.getpid() < 0 else os.kill
    return pd.DataFrame({"a": window}).rolling(3).mean().to_numpy(), getattr(np, "sum")(window)
"""


@pytest.mark.parametrize("side", Side)
def test_the_shipped_policy_refuses_nothing_that_scientists_write(side: Side) -> None:
    ast.parse(SCIENCE)
    assert check(SCIENCE, side, default()) == []


def test_the_shipped_policy_refuses_no_example_and_no_method_of_ours() -> None:
    files = [*ROOT.glob("examples/**/*.py"), *ROOT.glob("edge_runtime/methods/*.py")]
    assert len(files) > 5
    for file in files:
        found = check(file.read_text(), Side.ONBOARD, default())
        assert [v.name for v in found if not v.name.startswith(".")] == [], file
