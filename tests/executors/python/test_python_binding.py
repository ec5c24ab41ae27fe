"""Where the parameters of a function get their values, and which functions cannot be called by nodes at all."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from dagengine import Context
from dagengine.clock import SystemClock
from dagengine.errors import ExecutorError
from dagengine.executors.python import PythonFunctions


async def test_arguments_come_from_args_by_name(calls) -> None:
    assert await calls.value(lambda a, b: [a, b], args={"b": 2, "a": {"x": None}}) == [{"x": None}, 2]


async def test_a_parameter_without_argument_gets_the_result_of_the_node_of_its_name(calls) -> None:
    assert await calls.value(lambda load: load + 1, nodes={"load": 41}) == 42


async def test_an_argument_wins_over_a_node_of_its_name(calls) -> None:
    assert await calls.value(lambda load: load, nodes={"load": 1}, args={"load": 2}) == 2


async def test_a_result_that_is_null_is_a_value(calls) -> None:
    assert await calls.value(lambda load=5: load, nodes={"load": None}) is None


async def test_a_default_stands_in_for_what_there_is_not(calls) -> None:
    assert await calls.value(lambda a, b=7: [a, b], args={"a": 1}) == [1, 7]


async def test_a_default_gives_way_to_a_value(calls) -> None:
    assert await calls.value(lambda load=7: load, nodes={"load": 1}) == 1


async def test_keyword_only_parameters_are_bound_too(calls) -> None:
    def function(*, a: int, b: int = 2) -> int:
        return a + b

    assert await calls.value(function, args={"a": 1}) == 3


async def test_inputs_and_nodes_are_whole(calls) -> None:
    value = await calls.value(lambda inputs, nodes: [inputs, nodes], inputs={"x": 1}, nodes={"a": 1, "b-c": [2]})
    assert value == [{"x": 1}, {"a": 1, "b-c": [2]}]


async def test_item_and_index_are_those_of_the_element_and_index_counts_from_one(calls) -> None:
    assert await calls.value(lambda item, index: [item, index], item={"k": 1}, index=0) == [{"k": 1}, 1]


async def test_without_foreach_item_and_index_are_none(calls) -> None:
    assert await calls.value(lambda item, index: [item, index]) == [None, None]


async def test_context_tells_which_attempt_it_is(calls) -> None:
    def function(context: Context) -> list[Any]:
        return [context.execution, context.node, context.index, context.attempt]

    assert await calls.value(function, execution="e-9", node="load", index=3, attempt=2) == ["e-9", "load", 3, 2]


async def test_a_function_that_takes_any_argument_gets_those_of_args(calls) -> None:
    assert await calls.value(lambda a, **others: [a, others], args={"a": 1, "b": 2, "c": 3}) == [1, {"b": 2, "c": 3}]


async def test_other_positional_arguments_stay_empty(calls) -> None:
    assert await calls.value(lambda *others, a: [a, list(others)], args={"a": 1}) == [1, []]


async def test_a_parameter_without_value_is_named(calls) -> None:
    outcome = await calls.call(lambda a, b: [a, b], args={"a": 1})
    assert (outcome.conclusion, outcome.error.type) == ("fail", "BindingError")
    assert outcome.error.message == "parameter 'b' is neither in `args` nor an upstream node that succeeded"


async def test_an_argument_without_parameter_is_named(calls) -> None:
    outcome = await calls.call(lambda a, b=1: [a, b], args={"a": 1, "c": 2})
    assert outcome.error.message == "the function has no parameter 'c' (it has: a, b)"


async def test_a_function_that_is_not_known_is_named(calls, job) -> None:
    calls.submit(job("nowhere"))
    (outcome,) = await calls.wait()
    assert (outcome.conclusion, outcome.error.type) == ("fail", "FunctionMissing")
    assert outcome.error.message == "the function 'nowhere' is not registered here"


class Adder:
    def __init__(self, by: int) -> None:
        self.by = by

    def add(self, a: int) -> int:
        return a + self.by

    def __call__(self, a: int) -> int:
        return a + self.by


class AsyncAdder(Adder):
    async def __call__(self, a: int) -> int:  # type: ignore[override]  # a different kind of adder
        return a + self.by


async def add_later(a: int, by: int) -> int:
    return a + by


@pytest.mark.parametrize(
    "function",
    [
        Adder(2).add,
        Adder(2),
        AsyncAdder(2),
        functools.partial(lambda a, by: a + by, by=2),
        functools.partial(add_later, by=2),
    ],
    ids=["bound method", "object", "asynchronous object", "partial", "asynchronous partial"],
)
async def test_everything_that_can_be_called_by_name_can_be_a_function(calls, function: Any) -> None:
    assert await calls.value(function, args={"a": 40}) == 42


class TestRegistering:
    @pytest.fixture
    def functions(self) -> PythonFunctions:
        return PythonFunctions({"f": add_later}, clock=SystemClock())

    def test_what_is_registered_is_known(self, functions: PythonFunctions) -> None:
        assert "f" in functions
        assert "g" not in functions

    def test_the_same_function_again_is_fine(self, functions: PythonFunctions) -> None:
        functions.register("f", add_later)

    def test_the_same_method_of_the_same_object_again_is_fine(self, functions: PythonFunctions) -> None:
        adder = Adder(1)
        functions.register("m", adder.add)
        functions.register("m", adder.add)

    @pytest.mark.parametrize("other", [print, Adder(1).add])
    def test_another_function_of_that_name_is_refused(self, functions: PythonFunctions, other: Any) -> None:
        with pytest.raises(ExecutorError, match="another function is registered as 'f' already"):
            functions.register("f", other)

    def test_a_method_of_another_object_is_another_function(self, functions: PythonFunctions) -> None:
        functions.register("m", Adder(1).add)
        with pytest.raises(ExecutorError):
            functions.register("m", Adder(1).add)

    def test_a_parameter_that_is_given_by_position_only_is_refused(self, functions: PythonFunctions) -> None:
        def function(a: int, /, b: int) -> None: ...

        with pytest.raises(ExecutorError, match="'g' cannot be called by nodes: its parameter 'a' is positional-only"):
            functions.register("g", function)
        assert "g" not in functions

    def test_one_with_a_default_may_be_positional_only(self, functions: PythonFunctions) -> None:
        def function(a: int = 1, /, b: int = 2) -> None: ...

        functions.register("g", function)

    def test_a_function_that_does_not_tell_its_parameters_is_refused(self, functions: PythonFunctions) -> None:
        with pytest.raises(ExecutorError, match="'g' cannot be called by nodes"):
            functions.register("g", dict)

    def test_what_cannot_be_called_is_refused(self, functions: PythonFunctions) -> None:
        with pytest.raises(ExecutorError, match="'g' cannot be called by nodes: 5 is not a callable object"):
            functions.register("g", 5)  # type: ignore[arg-type]  # that is the point
