"""`@tool`, and the registry that finds tools by name."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import math
import pkgutil
import re
import traceback
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar, overload

from toolspan.codec import NotJsonError, dumps
from toolspan.errors import ToolDefinitionError
from toolspan.model import ToolInfo
from toolspan.tools.signature import Signature

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Sequence
    from contextlib import AbstractAsyncContextManager

    from toolspan.model import DeliveryContract

P = ParamSpec("P")
R = TypeVar("R")

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}", re.ASCII)
_MARK: Final = "__toolspan_tool__"
_LIFESPAN: Final = "__toolspan_lifespan__"


class Retry(Exception):  # noqa: N818
    """Raised by a tool that wants another attempt: after that many seconds, or after the backoff if None."""

    def __init__(self, after: float | None = None, message: str = "the tool asked for another attempt") -> None:
        if after is not None and not 0 <= after <= _LONGEST_RETRY:
            problem = f"after must be between 0 and {_LONGEST_RETRY} seconds, not {after}"
            raise ValueError(problem)
        super().__init__(message)
        self.after = after


_LONGEST_RETRY: Final = 30 * 86_400
_LEAST_RATE: Final = 1 / 86_400


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that callers may run. *timeout* and *backoff* (first and longest delay) are seconds.

    *max_concurrency* and *rate* (calls per second) hold for the whole fleet.
    """

    name: str
    function: Callable[..., Any]
    description: str = ""
    timeout: float | None = None
    retries: int = 0
    backoff: tuple[float, float] = (1.0, 60.0)
    delivery: DeliveryContract = "at_least_once"
    max_concurrency: int | None = None
    rate: float | None = None
    is_async: bool = field(init=False)
    limited: bool = field(init=False)
    immediate: bool = field(init=False)
    """Whether nothing stands before its first instruction once its arguments fit: no limit, no thread and no mark."""
    info: ToolInfo = field(init=False)
    digest: str = field(init=False)
    validate: Callable[[dict[str, Any]], dict[str, Any]] = field(init=False, repr=False, compare=False)
    """Gives the keyword arguments for a call's arguments; raises InvalidArgumentsError."""

    def __post_init__(self) -> None:
        self._check()
        signature = Signature(self.name, self.function)
        info = ToolInfo(self.name, self.description, signature.schema, self.delivery, self.timeout)
        try:
            described = dumps(info)
        except NotJsonError as exc:
            message = f"{self.name} cannot be a tool: its schema is not JSON: {exc}"
            raise ToolDefinitionError(message) from None
        is_async = inspect.iscoroutinefunction(self.function)
        limited = self.max_concurrency is not None or self.rate is not None
        for name, value in (
            ("is_async", is_async),
            ("limited", limited),
            ("immediate", is_async and not limited and self.delivery == "at_least_once"),
            ("info", info),
            ("digest", hashlib.sha256(described).hexdigest()[:16]),
            ("validate", signature.validate),
        ):
            object.__setattr__(self, name, value)

    def _check(self) -> None:
        problem = None
        if not inspect.isroutine(self.function):
            problem = "only a function can; write @tool, or @tool(name=...)"
        elif inspect.isgeneratorfunction(self.function) or inspect.isasyncgenfunction(self.function):
            problem = "it yields; a tool returns its result"
        elif not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            problem = "its name must be 1-128 of A-Za-z0-9_.- and begin with a letter or digit"
        else:
            problem = self._problem_of_options()
        if problem is not None:
            message = f"{self.name} cannot be a tool: {problem}"
            raise ToolDefinitionError(message)

    def _problem_of_options(self) -> str | None:
        problem = None
        if self.timeout is not None and not _is_seconds(self.timeout):
            problem = "timeout must be a number of seconds, more than 0"
        elif not isinstance(self.retries, int) or self.retries < 0:
            problem = "retries must be a whole number, not less than 0"
        elif not _is_backoff(self.backoff):
            problem = "backoff must be the first and the longest delay in seconds"
        elif self.delivery not in ("at_least_once", "at_most_once"):
            problem = "delivery must be at_least_once or at_most_once"
        elif self.delivery == "at_most_once" and self.retries:
            problem = "what runs at most once cannot have retries"
        elif self.max_concurrency is not None and not _is_count(self.max_concurrency):
            problem = "max_concurrency must be a whole number, at least 1"
        elif self.rate is not None and not _is_rate(self.rate):
            problem = "rate must be a number of calls per second, at least one a day"
        return problem


@overload
def tool(function: Callable[P, R], /) -> Callable[P, R]: ...


@overload
def tool(
    *,
    name: str | None = None,
    timeout: float | None = None,
    retries: int = 0,
    backoff: tuple[float, float] = (1.0, 60.0),
    delivery: DeliveryContract = "at_least_once",
    max_concurrency: int | None = None,
    rate: float | None = None,
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...


def tool(
    function: Callable[P, R] | None = None,
    /,
    *,
    name: str | None = None,
    timeout: float | None = None,
    retries: int = 0,
    backoff: tuple[float, float] = (1.0, 60.0),
    delivery: DeliveryContract = "at_least_once",
    max_concurrency: int | None = None,
    rate: float | None = None,
) -> Callable[P, R] | Callable[[Callable[P, R]], Callable[P, R]]:
    """Declare a function, `async def` or `def`, as a tool; it stays the plain function that it was.

    The name defaults to the function's, the first paragraph of its docstring becomes the description, its signature
    the schema. *timeout* is seconds. *retries* more attempts follow an exception or a timeout, after *backoff* (first
    and longest delay in seconds, exponential, with full jitter). *delivery* says whether an orphan may be run again.

    *max_concurrency* calls of it run at once, and *rate* calls a second are begun (0.1: one in ten seconds), in the
    whole fleet, over all its workers and streams. After a pause, as many as *rate* may begin at once, at least one.
    What has to wait does so in the worker for a moment, or is given back until later, so that calls of other tools
    pass it. Each worker asks by the numbers that it was started with: while a deployment changes them, calls that the
    others run count, but how many are too many is for the worker to say that wants to begin one. Slots of a worker
    that was killed come back once its lease is over.

    Raises:
        ToolDefinitionError: if it cannot be a tool as it is written.
    """

    def declare(declared: Callable[P, R]) -> Callable[P, R]:
        one = Tool(
            getattr(declared, "__name__", repr(declared)) if name is None else name,
            declared,
            description=_first_paragraph(inspect.getdoc(declared)),
            timeout=timeout,
            retries=retries,
            backoff=backoff,
            delivery=delivery,
            max_concurrency=max_concurrency,
            rate=rate,
        )
        try:
            setattr(declared, _MARK, one)
        except AttributeError:
            message = f"{one.name} cannot be a tool: it is bound to an object; declare a function that calls it"
            raise ToolDefinitionError(message) from None
        return declared

    return declare if function is None else declare(function)


def worker_lifespan(
    function: Callable[[], AsyncIterator[None]],
) -> Callable[[], AbstractAsyncContextManager[None]]:
    """Declare an async generator that runs around the life of a worker which serves this module's tools.

    What comes before its `yield` opens what the tools need; what comes after closes it, once they have ended.

    Raises:
        ToolDefinitionError: if it is anything else.
    """
    if not inspect.isasyncgenfunction(function):
        message = f"{getattr(function, '__name__', function)} cannot be a lifespan: write `async def`, and yield once"
        raise ToolDefinitionError(message)
    manager = asynccontextmanager(function)
    setattr(manager, _LIFESPAN, True)
    return manager


class Registry:
    """The tools of one worker."""

    def __init__(
        self, tools: Iterable[Tool] = (), lifespans: Iterable[Callable[[], AbstractAsyncContextManager[None]]] = ()
    ) -> None:
        self._tools: dict[str, Tool] = {}
        self.lifespans = list(lifespans)
        """What is opened around the life of a worker, in this order."""
        for one in tools:
            known = self._tools.setdefault(one.name, one)
            if known is not one:
                message = f"two tools are called {one.name}: give one of them another name"
                raise ToolDefinitionError(message)
        self.find = self._tools.get

    @classmethod
    def of(cls, *functions: Callable[..., Any]) -> Registry:
        """Make a registry of functions that were declared with `@tool`.

        Raises:
            ToolDefinitionError: if one was not, or two have one name.
        """
        return cls([_declared(function) for function in functions])

    @classmethod
    def joined(cls, registries: Iterable[Registry]) -> Registry:
        """Make one registry of several.

        Raises:
            ToolDefinitionError: if two tools have one name.
        """
        several = list(registries)
        lifespans = {id(lifespan): lifespan for one in several for lifespan in one.lifespans}
        return cls((declared for one in several for declared in one.tools), lifespans.values())

    @classmethod
    def load(cls, specs: Sequence[str]) -> Registry:
        """Import tools: `MODULE` for all of a module, or of a package's modules, `MODULE:NAME` for one of them.

        Raises:
            ToolDefinitionError: if there is nothing of that name, or two tools have one name.
        """
        tools: dict[int, Tool] = {}
        lifespans: dict[int, Any] = {}
        for spec in specs:
            module_name, _, attribute = spec.partition(":")
            module = _imported(module_name)
            if attribute:
                one = _declared(getattr(module, attribute, None), spec)
                tools[id(one)] = one
                found = [module]
            else:
                found = [module, *_submodules(module)]
                some = {id(t): t for m in found for t in _tools_in(m)}
                if not some:
                    message = f"there are no tools in {module_name}: declare them with @tool"
                    raise ToolDefinitionError(message)
                tools |= some
            lifespans |= {id(v): v for m in found for v in _functions_in(m) if hasattr(v, _LIFESPAN)}
        return cls(tools.values(), lifespans.values())

    @property
    def tools(self) -> list[Tool]:
        """All tools, in the order in which they were found."""
        return list(self._tools.values())

    @property
    def names(self) -> list[str]:
        """Names of all tools, in order."""
        return sorted(self._tools)

    def check(self, max_attempts: int) -> None:
        """Make sure that every tool gets the attempts that it was promised.

        Raises:
            ToolDefinitionError: if one is allowed as many retries as the stream allows attempts.
        """
        for one in self._tools.values():
            if one.retries >= max_attempts:
                message = (
                    f"{one.name} has {one.retries} retries, but a call gets only {max_attempts} attempts: "
                    "lower them, or raise TOOLSPAN_MAX_ATTEMPTS"
                )
                raise ToolDefinitionError(message)

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Open what the tools need, and close it at the end, in the reverse order, whatever the end is."""
        async with AsyncExitStack() as stack:
            for one in self.lifespans:
                manager = one()
                await manager.__aenter__()
                # Without the exception, which would be raised at its `yield`: what comes after would not be run.
                stack.push_async_callback(manager.__aexit__, None, None, None)
            yield


def _is_seconds(value: object) -> bool:
    return isinstance(value, int | float) and 0 < value < math.inf


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_rate(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and _LEAST_RATE <= value < math.inf


def _is_backoff(value: Sequence[float]) -> bool:
    return (
        isinstance(value, tuple | list)
        and len(value) == 2  # noqa: PLR2004
        and all(map(_is_seconds, value))
        and value[0] <= value[1]
    )


def _declared(function: Any, name: str | None = None) -> Tool:
    found = getattr(function, _MARK, None)
    if not isinstance(found, Tool):
        message = f"{name or getattr(function, '__name__', function)} is not a tool: declare it with @tool"
        raise ToolDefinitionError(message)
    return found


def _imported(name: str) -> ModuleType:
    if not name or name.startswith("."):
        message = f"{name!r} names no module: say MODULE, or MODULE:NAME"
        raise ToolDefinitionError(message)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as exc:
        if exc.name is not None and (name == exc.name or name.startswith(f"{exc.name}.")):
            message = f"there is no module {name}: is it installed, or below the current directory?"
            raise ToolDefinitionError(message) from None
        raise _broken(name, exc) from exc
    except ToolDefinitionError:
        raise
    except (Exception, SystemExit) as exc:
        # Whatever a module does while it is imported: whoever starts the worker has to mend it first.
        raise _broken(name, exc) from exc


def _broken(name: str, exc: BaseException) -> ToolDefinitionError:
    last = traceback.extract_tb(exc.__traceback__)[-1]
    where = (
        f"{exc.filename}, line {exc.lineno}" if isinstance(exc, SyntaxError) else f"{last.filename}, line {last.lineno}"
    )
    return ToolDefinitionError(f"{name} cannot be imported: {type(exc).__name__}: {exc} ({where})")


def _submodules(module: ModuleType) -> list[ModuleType]:
    path = getattr(module, "__path__", None)
    if path is None:
        return []
    names = [info.name for info in pkgutil.walk_packages(path, f"{module.__name__}.")]
    # Importing that one would run the program.
    return [_imported(name) for name in names if not name.endswith(".__main__")]


def _tools_in(module: ModuleType) -> list[Tool]:
    marked = (getattr(function, _MARK, None) for function in _functions_in(module))
    return [one for one in marked if isinstance(one, Tool)]


def _functions_in(module: ModuleType) -> list[Any]:
    """List what may carry a mark of ours: other things may answer to every name, or break when asked."""
    return [value for value in vars(module).values() if inspect.isroutine(value)]


def _first_paragraph(text: str | None) -> str:
    return " ".join((text or "").partition("\n\n")[0].split())
