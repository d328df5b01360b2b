"""The loader over models of its own: a flat one, and one with a group."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import pytest
from pydantic import BeforeValidator, Field, SecretStr

from tidegate.model.errors import SettingsError
from tidegate.model.settings import Group, RedisUrl
from tidegate.model.settings.values import split_list
from tidegate.settings_loading.environment import from_environment
from tidegate.settings_loading.fields import fields_of
from tidegate.settings_loading.loading import Loaded, Problem, load

PREFIX = "APP_"


class Flat(Group):
    group_name = ""

    port: Annotated[int, Field(ge=0, le=65_535, description="Where it listens.")] = 80
    wait_s: Annotated[float, Field(ge=1, le=9, description="How long it waits.")] = 2.0
    name: Annotated[str | None, Field(description="How it is called.")] = None
    numbers: Annotated[
        tuple[int, ...],
        Field(max_length=3, description="Some numbers."),
        BeforeValidator(split_list),
    ] = ()
    password: Annotated[SecretStr | None, Field(description="Its password.")] = None
    url: Annotated[RedisUrl | None, Field(description="Its Redis.")] = None


class Tree(Group):
    group_name = ""

    flat: Flat = Field(default_factory=Flat)


def loaded(model: type[Group], env: Mapping[str, str]) -> Loaded[Any]:
    fields, problems = fields_of(model, PREFIX), list[Problem]()
    return load(model, fields, from_environment(env, fields, problems, prefix=PREFIX), problems)


def wrong(model: type[Group], **env: str) -> list[str]:
    with pytest.raises(SettingsError) as refused:
        loaded(model, env)
    return list(refused.value.problems)


def test_a_flat_model_has_plain_paths_and_a_tree_has_groups() -> None:
    assert [f"{f.path} {f.variable}" for f in fields_of(Flat, PREFIX).values()][:2] == [
        "port APP_PORT",
        "wait_s APP_WAIT_S",
    ]
    assert [f"{f.path} {f.variable}" for f in fields_of(Tree, PREFIX).values()][:2] == [
        "flat.port APP_FLAT__PORT",
        "flat.wait_s APP_FLAT__WAIT_S",
    ]
    assert loaded(Tree, {"APP_FLAT__PORT": "81"}).settings.flat.port == 81


def test_fields_are_told_in_words() -> None:
    fields = fields_of(Flat, PREFIX)
    assert fields["port"].allowed == "a whole number from 0 to 65535"
    assert fields["numbers"].allowed == "a list of at most 3, each a whole number"
    cells = [field.default_cell for field in fields.values()]
    assert cells == ["`80`", "`2`", "not set", "(empty)", "not set", "not set"]


def test_where_a_value_came_from_is_told() -> None:
    found = loaded(Flat, {"app_port": "81", "HOME": "/"})
    assert (found.settings.port, found.sources["port"]) == (81, "APP_PORT")
    assert found.sources["wait_s"] == "default"


def test_a_wrong_member_of_a_list_shows_the_list_as_it_was_written() -> None:
    text = "numbers = 1,x: must be a list of at most 3, each a whole number (from APP_NUMBERS)"
    assert wrong(Flat, APP_NUMBERS="1,x") == [text]
    tree = wrong(Tree, APP_FLAT__NUMBERS="1,x")
    assert tree == [f"flat.{text.replace('APP_', 'APP_FLAT__')}"]


def test_all_that_is_wrong_is_told_at_once() -> None:
    lines = wrong(Flat, APP_PROT="1", APP_PORT="-1", APP_WAIT_S="soon")
    assert lines == [
        "APP_PROT: no such variable; did you mean APP_PORT? (from the environment)",
        "port = -1: must be a whole number from 0 to 65535 (from APP_PORT)",
        "wait_s = soon: must be a number from 1 to 9 (from APP_WAIT_S)",
    ]


def test_a_variable_of_a_service_is_no_port() -> None:
    links = {"APP_PORT": "tcp://10.0.0.1:80", "APP_PORT_80_TCP": "tcp://10.0.0.1:80"}
    assert loaded(Flat, links | {"APP_SERVICE_HOST": "10.0.0.1"}).settings.port == 80


def test_no_password_is_shown_wherever_it_was_put() -> None:
    fields = fields_of(Flat, PREFIX)
    assert fields["password"].show("hunter2") == "***"
    assert fields["url"].show("hunter2") == "***"
    assert fields["url"].show("redis://u:hunter2@h") == "redis://u:***@h"
    (line,) = wrong(Flat, APP_NUMBERS="1,redis://u:hunter2@h")
    assert "hunter2" not in line
