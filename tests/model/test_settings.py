"""The tree's own promises: frozen, bounded, whole, and silent about secrets."""

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from tidegate.cli.settings_fields import setting_fields
from tidegate.model.settings import RedisSettings, Settings, ViewerSettings, redact_url

SECRET = "hunter2"


def refused(tree: dict[str, Any]) -> str:
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate(tree)
    return str(caught.value)


def test_defaults_are_valid_and_auth_is_not_chosen() -> None:
    settings = Settings()
    assert Settings.model_validate(settings.model_dump()) == settings
    assert settings.server.auth is None


def test_nothing_can_be_changed() -> None:
    settings = Settings()
    with pytest.raises(ValidationError, match="frozen"):
        settings.viewer = ViewerSettings()  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        settings.viewer.history_entries = 3  # type: ignore[misc]


def test_every_field_has_a_reason_and_every_number_has_bounds() -> None:
    for group, info in Settings.model_fields.items():
        model = info.annotation
        assert isinstance(model, type)
        assert issubclass(model, BaseModel)
        properties = model.model_json_schema()["properties"]
        for name in properties:  # those that are no constants
            field = model.model_fields[name]
            assert field.description, f"{group}.{name} has no description"
            assert field.description.endswith("."), f"{group}.{name} is no sentence"
            if properties[name].get("type") in ("integer", "number"):
                assert {"minimum", "maximum"} <= properties[name].keys(), f"{group}.{name}"


def test_every_default_keeps_its_own_bounds() -> None:
    # pydantic does not validate defaults; the dump of them is.
    for info in Settings.model_fields.values():
        model = info.annotation
        assert isinstance(model, type)
        assert issubclass(model, BaseModel)
        model.model_validate(model().model_dump())


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({"viewer": {"history_entries": 20_000}}, "viewer.history_entries: must be at most"),
        ({"redis": {"tls_cert_file": "c.pem"}}, "redis.tls_cert_file: needs redis.tls_key_file"),
        ({"redis": {"tls_key_file": "k.pem"}}, "redis.tls_key_file: needs redis.tls_cert_file"),
        ({"redis": {"key_prefix": "{tidegate}:x"}}, "redis.key_prefix: must not start with"),
        ({"dispatch": {"max_bytes": 1024}}, "dispatch.max_entry_bytes: must be at most"),
        ({"topic": {"total_ring_bytes": 2048}}, "topic.total_ring_bytes: must be at least"),
        (
            {"topic": {"conflated_types": ["operation_failed"]}},
            "topic.conflated_types: must not contain operation_failed",
        ),
        ({"server": {"admin_port": 8080}}, "server.admin_port: must differ"),
    ],
)
def test_rules_between_fields_name_the_path(tree: dict[str, Any], words: str) -> None:
    assert words in refused(tree)


def test_the_same_port_is_fine_on_another_address_or_when_it_is_any_free_one() -> None:
    Settings.model_validate({"server": {"host": "10.0.0.1", "admin_port": 8080}})
    Settings.model_validate({"server": {"port": 0, "admin_port": 0}})


@pytest.mark.parametrize("tree", [{"viewer": {"linger": 1}}, {"views": {}}])
def test_unknown_names_are_errors(tree: dict[str, Any]) -> None:
    assert "not permitted" in refused(tree)


@pytest.mark.parametrize("value", [True, False, "nan", "inf", -1, 1e9, "soon", None])
def test_a_duration_is_a_number_within_bounds(value: object) -> None:
    assert "window_s" in refused({"drain": {"window_s": value}})


@pytest.mark.parametrize("pod", ["", "a b", "a:b", "x" * 129, "pod\n", "päd"])
def test_a_pod_name_is_fit_for_a_consumer(pod: str) -> None:
    assert "server.pod" in refused({"server": {"pod": pod}})


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("a,b", ("a", "b")),
        (" a , b ,", ("a", "b")),
        ('["a", "b"]', ("a", "b")),
        ("", ()),
        (["a"], ("a",)),
    ],
)
def test_lists_may_be_text(written: object, read: tuple[str, ...]) -> None:
    tree = {"topic": {"conflated_types": written}}
    assert Settings.model_validate(tree).topic.conflated_types == read


@pytest.mark.parametrize("url", ["localhost:6379", "http://x", "redis:/x", "redis://", SECRET])
def test_a_wrong_redis_url_is_refused_without_being_repeated(url: str) -> None:
    text = refused({"redis": {"url": url}})
    assert "must start with one of redis://" in text
    assert SECRET not in text


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://h:1/0", "redis://h:1/0"),
        ("redis://u@h", "redis://u@h"),
        ("redis://:hunter2@h", "redis://:***@h"),
        ("rediss://u:hunter2@h1,h2/main", "rediss://u:***@h1,h2/main"),
        ("redis://u:hun/ter2@x@h/0", "redis://u:***@h/0"),
        (
            "unix:///run/r.sock?db=1&password=hunter2&x=1",
            "unix:///run/r.sock?db=1&password=***&x=1",
        ),
        ("redis://h?sentinel_password=hunter2", "redis://h?sentinel_password=***"),
        ("hunter2", "***"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert redact_url(url) == shown


def test_no_secret_in_any_text_of_the_tree() -> None:
    redis = RedisSettings.model_validate({"url": f"redis://u:{SECRET}@h", "password": SECRET})
    settings = Settings(redis=redis)
    for text in (repr(settings), str(settings), settings.model_dump_json(), f"{redis.url}"):
        assert SECRET not in text
    assert SECRET in settings.redis.url.get_secret_value()


def test_the_number_of_settings_is_bounded() -> None:
    """Whoever adds one makes a constant of another that nobody can choose."""
    assert len(setting_fields()) <= 90
