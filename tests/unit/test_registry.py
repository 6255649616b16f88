"""`@tool`, `@worker_lifespan`, and the registry that finds them."""

from __future__ import annotations

import functools
import itertools
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import pytest

from toolspan import Retry, ToolDefinitionError, tool, worker_lifespan
from toolspan.tools.registry import Registry, Tool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

_numbers = itertools.count()


@tool
async def search(query: str, limit: int = 10) -> list[str]:
    """Search the
    index.

    Not told to callers.
    """
    return [query] * limit


@tool(name="math.add-1_x", timeout=10, retries=2, backoff=(0.5, 8))
def add(a: int, b: int) -> int:
    return a + b


@tool(delivery="at_most_once")
def send_mail(to: str) -> None:
    """Send."""


def found(registry: Registry, name: str) -> Tool:
    one = registry.find(name)
    assert one is not None
    return one


async def test_a_tool_stays_theplain_function_that_it_was() -> None:
    assert add(1, 2) == 3
    assert await search("a", limit=2) == ["a", "a"]


def test_a_tool_is_described_by_its_function() -> None:
    info = found(Registry.of(search), "search").info

    assert (info.name, info.description, info.delivery, info.timeout_seconds) == (
        "search",
        "Search the index.",
        "at_least_once",
        None,
    )
    assert info.schema["required"] == ["query"]


def test_a_tool_has_the_options_that_it_was_given() -> None:
    registry = Registry.of(search, add, send_mail)
    one = found(registry, "math.add-1_x")

    assert (one.timeout, one.retries, one.backoff, one.delivery) == (10, 2, (0.5, 8), "at_least_once")
    assert (one.description, one.is_async, found(registry, "search").is_async) == ("", False, True)
    assert found(registry, "send_mail").delivery == "at_most_once"
    assert registry.names == ["math.add-1_x", "search", "send_mail"]
    assert registry.find("other") is None


def test_the_digest_changes_with_what_callers_are_told_and_with_nothing_else() -> None:
    def declared(**options: Any) -> str:
        async def f(a: int) -> None:
            """Do it."""

        return found(Registry.of(tool(**options)(f)), "f").digest

    assert declared() == declared() == declared(retries=2)
    assert declared(timeout=3) != declared()


@pytest.mark.parametrize("name", ["a", "9", "a.b-c_d", "x" * 128])
def test_a_name_of_the_protocol_is_taken(name: str) -> None:
    assert Registry.of(tool(name=name)(declarable())).names == [name]


class _Callable:
    def __call__(self) -> None: ...

    def method(self) -> None: ...


def _yields() -> Iterator[int]:
    yield 1


async def _yields_later() -> AsyncIterator[int]:
    yield 1


def plain() -> None: ...


def declarable() -> Callable[[], None]:
    """Make a function that was not declared yet."""

    def fresh() -> None: ...

    return fresh


@pytest.mark.parametrize(
    ("function", "options", "problem"),
    [
        (plain, {"name": ""}, "its name must be 1-128"),
        (plain, {"name": "-a"}, "its name must be 1-128"),
        (plain, {"name": "a b"}, "its name must be 1-128"),
        (plain, {"name": "é"}, "its name must be 1-128"),
        (plain, {"name": "a\n"}, "its name must be 1-128"),
        (plain, {"name": "x" * 129}, "its name must be 1-128"),
        (plain, {"name": 5}, "its name must be 1-128"),
        (lambda: None, {}, "its name must be 1-128"),
        (plain, {"timeout": 0}, "timeout must be a number of seconds, more than 0"),
        (plain, {"max_concurrency": 0}, "max_concurrency must be a whole number, at least 1"),
        (plain, {"max_concurrency": 2.5}, "max_concurrency must be"),
        (plain, {"max_concurrency": True}, "max_concurrency must be"),
        (plain, {"rate": 0}, "rate must be a number of calls per second, at least one a day"),
        (plain, {"rate": -1}, "rate must be"),
        (plain, {"rate": 1e-9}, "rate must be"),
        (plain, {"rate": float("inf")}, "rate must be"),
        (plain, {"rate": float("nan")}, "rate must be"),
        (plain, {"rate": True}, "rate must be"),
        (plain, {"rate": "1"}, "rate must be"),
        (plain, {"timeout": -1.5}, "timeout must be"),
        (plain, {"timeout": float("inf")}, "timeout must be"),
        (plain, {"timeout": float("nan")}, "timeout must be"),
        (plain, {"timeout": "10"}, "timeout must be"),
        (plain, {"retries": -1}, "retries must be a whole number, not less than 0"),
        (plain, {"retries": 1.5}, "retries must be"),
        (plain, {"backoff": 3}, "backoff must be the first and the longest delay in seconds"),
        (plain, {"backoff": (1,)}, "backoff must be"),
        (plain, {"backoff": (2, 1)}, "backoff must be"),
        (plain, {"backoff": (0, 1)}, "backoff must be"),
        (plain, {"backoff": (1, float("inf"))}, "backoff must be"),
        (plain, {"delivery": "exactly_once"}, "delivery must be at_least_once or at_most_once"),
        (plain, {"delivery": "at_most_once", "retries": 1}, "what runs at most once cannot have retries"),
        (_yields, {}, "it yields; a tool returns its result"),
        (_yields_later, {}, "it yields"),
        (_Callable(), {"name": "a"}, "only a function can"),
        (_Callable, {}, "only a function can"),
        (functools.partial(plain), {"name": "a"}, "only a function can"),
        (_Callable().method, {}, "it is bound to an object; declare a function that calls it"),
        (print, {}, "cannot be a tool|takes args by position"),
    ],
)
def test_what_cannot_be_a_tool_is_refused_where_it_is_declared(
    function: Callable[[], Any], options: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ToolDefinitionError, match=problem):
        tool(**options)(function)


def test_a_name_in_the_place_of_the_function_is_told_how_to_write_it() -> None:
    with pytest.raises(ToolDefinitionError, match=r"write @tool, or @tool\(name=\.\.\.\)"):
        tool("search")  # type: ignore[call-overload]


@pytest.mark.parametrize("after", [-0.1, float("nan"), float("inf"), 30 * 86_400 + 1])
def test_a_retry_is_not_after_what_is_no_time(after: float) -> None:
    with pytest.raises(ValueError, match="after must be between 0 and"):
        Retry(after=after)


def test_two_tools_of_one_name_are_refused() -> None:
    with pytest.raises(ToolDefinitionError, match="two tools are called search: give one of them another name"):
        Registry.of(search, tool(name="search")(declarable()))


def test_one_tool_named_twice_is_one() -> None:
    assert Registry.of(search, search).names == ["search"]


def test_a_function_without_the_decorator_is_no_tool() -> None:
    with pytest.raises(ToolDefinitionError, match="plain is not a tool: declare it with @tool"):
        Registry.of(plain)


@pytest.mark.parametrize(
    ("retries", "max_attempts", "fits"), [(3, 4, True), (4, 4, False), (1, 1, False), (0, 1, True)]
)
def test_a_tool_gets_the_retries_that_it_was_promised_or_no_worker(
    *, retries: int, max_attempts: int, fits: bool
) -> None:
    @tool(retries=retries)
    async def f() -> None: ...

    registry = Registry.of(f)
    if fits:
        registry.check(max_attempts)
        return
    with pytest.raises(ToolDefinitionError, match=rf"f has {retries} retries.*raise TOOLSPAN_MAX_ATTEMPTS"):
        registry.check(max_attempts)


# ── loading ────────────────────────────────────────────────────────────────────────────────────────────────────────


class Package:
    """A package in a folder of its own, under a name that no other test has."""

    def __init__(self, folder: Path) -> None:
        self.name = f"loaded{next(_numbers)}"
        self._folder = folder / self.name
        self.write("__init__", "")

    def write(self, module: str, text: str) -> None:
        path = self._folder.joinpath(*module.split(".")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("from toolspan import tool, worker_lifespan\n" + textwrap.dedent(text))


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Package]:
    monkeypatch.syspath_prepend(tmp_path)
    made = Package(tmp_path)
    yield made
    for name in [name for name in sys.modules if name.split(".")[0] == made.name]:
        del sys.modules[name]


TWO = """
@tool
async def one() -> None: ...

@tool
def two() -> None: ...

def neither() -> None: ...
"""


def test_a_module_gives_all_its_tools(package: Package) -> None:
    package.write("tools", TWO)

    assert Registry.load([f"{package.name}.tools"]).names == ["one", "two"]


def test_a_module_and_a_name_give_one_tool(package: Package) -> None:
    package.write("tools", TWO)

    assert Registry.load([f"{package.name}.tools:two"]).names == ["two"]


def test_a_package_gives_the_tools_of_all_its_modules(package: Package) -> None:
    package.write("tools", TWO)
    package.write("deep.__init__", "")
    package.write("deep.deeper", "@tool\nasync def three() -> None: ...\n")

    assert Registry.load([package.name]).names == ["one", "three", "two"]


def test_a_package_that_is_loaded_is_not_run(package: Package) -> None:
    package.write("tools", TWO)
    package.write("__main__", "raise SystemExit('I was run')\n")

    assert Registry.load([package.name]).names == ["one", "two"]


def test_a_tool_that_is_imported_elsewhere_is_still_one_tool(package: Package) -> None:
    package.write("tools", TWO)
    package.write("more", f"from {package.name}.tools import one\n")

    assert Registry.load([package.name, f"{package.name}.more", f"{package.name}.tools:one"]).names == ["one", "two"]


def test_two_modules_with_tools_of_one_name_are_refused(package: Package) -> None:
    package.write("tools", TWO)
    package.write("more", TWO)
    with pytest.raises(ToolDefinitionError, match="two tools are called one"):
        Registry.load([package.name])


def test_things_that_have_every_attribute_are_neither_tools_nor_lifespans(package: Package) -> None:
    package.write("tools", TWO)
    package.write(
        "odd",
        """
        from unittest.mock import MagicMock, call

        class Proxy:
            def __getattr__(self, name: str) -> None:
                raise RuntimeError("working outside of a request")

        everything = MagicMock()
        request = Proxy()
        """,
    )
    registry = Registry.load([package.name])

    assert registry.names == ["one", "two"]
    assert registry.lifespans == []


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ("{p}.nowhere", r"there is no module loaded\d+\.nowhere: is it installed"),
        ("nowhere_at_all", "there is no module nowhere_at_all"),
        ("nowhere.at.all", r"there is no module nowhere\.at\.all"),
        ("{p}.tools.one", r"there is no module loaded\d+\.tools\.one"),
        ("{p}.empty", r"there are no tools in loaded\d+\.empty: declare them with @tool"),
        ("{p}.tools:neither", r"loaded\d+\.tools:neither is not a tool: declare it with @tool"),
        ("{p}.tools:three", r"loaded\d+\.tools:three is not a tool"),
        ("", "'' names no module"),
        (":one", "'' names no module"),
        (".tools", r"'\.tools' names no module"),
    ],
)
def test_what_cannot_be_found_is_told_in_a_sentence(package: Package, spec: str, problem: str) -> None:
    package.write("tools", TWO)
    package.write("empty", "")
    with pytest.raises(ToolDefinitionError, match=problem):
        Registry.load([spec.replace("{p}", package.name)])


def test_a_module_that_lacks_another_says_which(package: Package) -> None:
    package.write("tools", "import something_not_installed\n")
    with pytest.raises(ToolDefinitionError, match=r"cannot be imported: .*something_not_installed"):
        Registry.load([f"{package.name}.tools"])


# ── lifespans ──────────────────────────────────────────────────────────────────────────────────────────────────────

LIFESPAN = """
import {package}

@tool
async def {name}() -> None: ...

@worker_lifespan
async def pool():
    {package}.log.append("{name} opens")
    yield
    {package}.log.append("{name} closes")
"""


def with_lifespans(package: Package, *names: str) -> list[str]:
    package.write("__init__", "log = []\n")
    for name in names:
        package.write(name, LIFESPAN.format(package=package.name, name=name))
    return [f"{package.name}.{name}" for name in names]


async def test_lifespans_open_in_the_order_in_which_they_were_asked_for_and_close_in_the_reverse(
    package: Package,
) -> None:
    registry = Registry.load(with_lifespans(package, "b", "a"))
    log = sys.modules[package.name].log
    async with registry.lifespan():
        opened = list(log)

    assert opened == ["b opens", "a opens"]
    assert log == ["b opens", "a opens", "a closes", "b closes"]


async def test_a_lifespan_belongs_to_each_tool_of_its_module_and_opens_once(package: Package) -> None:
    (module,) = with_lifespans(package, "a")
    registry = Registry.load([f"{module}:a", module])
    async with registry.lifespan():
        pass

    assert sys.modules[package.name].log == ["a opens", "a closes"]


async def test_what_was_opened_is_closed_when_the_next_does_not_open(package: Package) -> None:
    modules = with_lifespans(package, "a")
    package.write(
        "bad",
        """
        @tool
        def bad() -> None: ...

        @worker_lifespan
        async def pool():
            raise ConnectionError("no database")
            yield
        """,
    )
    registry = Registry.load([*modules, f"{package.name}.bad"])
    with pytest.raises(ConnectionError, match="no database"):
        async with registry.lifespan():
            pass

    assert sys.modules[package.name].log == ["a opens", "a closes"]


async def _returns() -> None: ...


@pytest.mark.parametrize("function", [plain, _returns, _yields, None])
def test_what_does_not_yield_once_is_no_lifespan(function: Any) -> None:
    with pytest.raises(ToolDefinitionError, match="cannot be a lifespan: write `async def`, and yield once"):
        worker_lifespan(function)
