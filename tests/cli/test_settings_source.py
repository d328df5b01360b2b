"""Which source wins, what is said about a wrong setting, and what is never said."""

from pathlib import Path

import pytest

from tidegate.cli.settings_fields import plain_value, setting_fields
from tidegate.cli.settings_source import load_settings, parse_assignment
from tidegate.model.errors import SettingsError
from tidegate.settings_loading.loading import Given


def problems(
    flags: list[Given] | None = None,
    config: Path | None = None,
    env: dict[str, str] | None = None,
) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load_settings(flags or [], config, env or {})
    return list(caught.value.problems)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "gateway.yaml"


def test_defaults_when_nobody_says_anything() -> None:
    loaded = load_settings([], None, {})
    assert set(loaded.sources.values()) == {"default"}
    assert loaded.sources.keys() == setting_fields().keys()


def test_flag_then_variable_then_file_then_default(config: Path) -> None:
    config.write_text("server: {port: 1001, admin_port: 1002, host: h}\n")
    env = {"TIDEGATE_SERVER__PORT": "2001", "TIDEGATE_SERVER__ADMIN_PORT": "2002"}
    loaded = load_settings([Given("server.port", "3001", "--port")], config, env)
    server = loaded.settings.server
    assert (server.port, server.admin_port, server.host) == (3001, 2002, "h")
    assert loaded.sources["server.port"] == "--port"
    assert loaded.sources["server.admin_port"] == "TIDEGATE_SERVER__ADMIN_PORT"
    assert loaded.sources["server.host"] == f"file {config}"
    assert loaded.sources["server.pod"] == "default"


def test_a_later_set_goes_before_an_earlier_one() -> None:
    flags = [parse_assignment("log.level=debug"), parse_assignment("log.level=error")]
    assert load_settings(flags, None, {}).settings.log.level == "error"


def test_the_file_may_be_named_by_a_variable(config: Path) -> None:
    config.write_text("log: {level: debug}")
    assert load_settings([], None, {"TIDEGATE_CONFIG": str(config)}).settings.log.level == "debug"


def test_variables_in_any_case_and_lists_with_commas() -> None:
    loaded = load_settings([], None, {"tidegate_topic__conflated_types": "progress,heartbeat"})
    assert loaded.settings.topic.conflated_types == ("progress", "heartbeat")


def test_empty_text_unsets_what_may_be_unset(config: Path) -> None:
    config.write_text("redis: {username: somebody, password: secret}")
    env = {"TIDEGATE_REDIS__USERNAME": "", "TIDEGATE_REDIS__PASSWORD": ""}
    redis = load_settings([], config, env).settings.redis
    assert redis.username is None
    assert redis.password is None


@pytest.mark.parametrize("text", ["", "# nothing\n", "server:\n", "server: {}\n"])
def test_an_empty_file_or_group_is_fine(config: Path, text: str) -> None:
    config.write_text(text)
    assert load_settings([], config, {}).settings.server.port == 8080


def test_one_line_for_each_mistake_with_path_value_allowed_and_source(config: Path) -> None:
    config.write_text("server: {auth: some}\ntopic: {max_topics: true}\nlog: 3\nview: {}\n")
    env = {"TIDEGATE_SERVER__PORT": "99999", "TIDEGATE_SERVER__PROT": "1"}
    flags = [Given("viewer.lag", "1", "--set"), Given("topic.max_topics", "long", "--set")]
    assert problems(flags, config, env) == [
        f"log: must be a mapping of settings (from file {config})",
        f"view: no such group; did you mean viewer? (from file {config})",
        (
            "TIDEGATE_SERVER__PROT: no such variable; did you mean TIDEGATE_SERVER__PORT? "
            "(from the environment)"
        ),
        "viewer.lag: no such setting; did you mean viewer.lagging_policy? (from --set)",
        "server.port = 99999: must be a whole number from 0 to 65535 (from TIDEGATE_SERVER__PORT)",
        f"server.auth = some: must be one of none, jwt (from file {config})",
        "topic.max_topics = long: must be a whole number from 1 to 10000000 (from --set)",
    ]


def test_a_constant_is_no_setting(config: Path) -> None:
    config.write_text("topic: {linger_s: 1}\n")
    env = {"TIDEGATE_DISPATCH__PACE_S": "0"}
    lines = problems([Given("viewer.low_water_bytes", "1", "--set")], config, env)
    assert [line.split(":")[0] for line in lines] == [
        "topic.linger_s",
        "TIDEGATE_DISPATCH__PACE_S",
        "viewer.low_water_bytes",
    ]
    assert all("no such" in line for line in lines)


def test_a_rule_between_fields_says_where_the_value_came_from() -> None:
    (line,) = problems(env={"TIDEGATE_VIEWER__HISTORY_ENTRIES": "70000"})
    assert line == (
        "viewer.history_entries = 70000: must be at most viewer.history_max_entries (10000) "
        "(from TIDEGATE_VIEWER__HISTORY_ENTRIES)"
    )


def test_a_wrong_member_shows_the_list_as_it_was_written() -> None:
    (line,) = problems(env={"TIDEGATE_TOPIC__TERMINAL_TYPES": "done,not ok"})
    assert line.startswith("topic.terminal_types = done,not ok: must be a list of at most 64")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "is no valid YAML"),
        ("- a\n- b\n", "must be a mapping"),
        ("text", "must be a mapping"),
        ("a: \x00", "is no valid YAML"),
    ],
)
def test_a_file_that_is_no_mapping(config: Path, text: str, said: str) -> None:
    config.write_text(text)
    (line,) = problems(config=config)
    assert line.startswith(f"{config}: {said}")


def test_a_missing_file(config: Path) -> None:
    assert problems(config=config) == [f"{config}: no such file (from --config)"]


def test_a_malformed_assignment() -> None:
    with pytest.raises(SettingsError, match="must be written as group"):
        parse_assignment("log.level")


SERVICE_LINKS = {
    "TIDEGATE_SERVICE_HOST": "10.0.0.1",
    "TIDEGATE_SERVICE_PORT": "8080",
    "TIDEGATE_SERVICE_PORT_HTTP": "8080",
    "TIDEGATE_PORT": "tcp://10.0.0.1:8080",
    "TIDEGATE_PORT_8080_TCP": "tcp://10.0.0.1:8080",
    "TIDEGATE_PORT_8080_TCP_ADDR": "10.0.0.1",
    "TIDEGATE_ADMIN_SERVICE_HOST": "10.0.0.2",
    "TIDEGATE_ADMIN_PORT": "tcp://10.0.0.2:9090",
}


def test_variables_that_kubernetes_makes_for_our_service_are_passed_over() -> None:
    load_settings([], None, SERVICE_LINKS)


@pytest.mark.parametrize("name", ["TIDEGATE_PORT", "TIDEGATE_SERVER_PORT", "TIDEGATE_REDIS"])
def test_but_a_misspelt_variable_is_not(name: str) -> None:
    (line,) = problems(env={name: "8081"})
    assert line.startswith(f"{name}: no such variable")


SECRET = "hunter2"


@pytest.mark.parametrize(
    "env",
    [
        {"TIDEGATE_REDIS__URL": f"redis//:{SECRET}@h"},
        {"TIDEGATE_REDIS__URL": f"http://u:{SECRET}@h"},
        {"TIDEGATE_REDIS__PASWORD": SECRET},
        {"TIDEGATE_REDIS__PASSWORD": SECRET, "TIDEGATE_SERVER__PORT": "x"},
    ],
)
def test_no_problem_shows_a_secret(env: dict[str, str]) -> None:
    assert SECRET not in "\n".join(problems(env=env))


def test_a_secret_of_the_wrong_type_is_not_shown(config: Path) -> None:
    config.write_text(f"redis: {{password: [{SECRET}]}}")
    (line,) = problems(config=config)
    assert line == f"redis.password = ***: must be text (from file {config})"


def test_shown_values_are_redacted() -> None:
    env = {"TIDEGATE_REDIS__URL": f"redis://u:{SECRET}@h", "TIDEGATE_REDIS__PASSWORD": SECRET}
    loaded = load_settings([], None, env)
    shown = [plain_value(loaded.settings, path) for path in setting_fields()]
    assert SECRET not in repr(shown)
    assert "redis://u:***@h" in shown
