"""What the pages say of settings and permissions is what the code says."""

from pathlib import Path

import pytest

from tidegate.model.errors import SettingsError
from tidegate_operator.kube.permissions import PERMISSIONS
from tidegate_operator.settings import load_settings
from tidegate_operator.tables import permissions_table, settings_table
from tidegate_operator.telemetry.metrics import metrics_table

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_has_all_settings_and_permissions() -> None:
    page = (DOCS / "operator-running.md").read_text("utf-8")
    assert settings_table() in page
    assert permissions_table() in page


def test_nothing_is_asked_of_the_whole_cluster_but_zones() -> None:
    assert {one.when for one in PERMISSIONS if one.resource == "nodes"} == {"zones"}
    assert all("*" not in one.verbs and one.resource != "*" for one in PERMISSIONS)


def test_a_flag_goes_before_a_variable() -> None:
    settings = load_settings(
        {"namespace": "one", "port": None},
        {"TIDEGATE_OPERATOR_NAMESPACE": "two", "TIDEGATE_OPERATOR_PORT": "8123"},
    )
    assert (settings.namespace, settings.port) == ("one", 8123)


def test_variables_of_a_service_with_the_operators_name_are_passed_over() -> None:
    environ = {
        "TIDEGATE_OPERATOR_PORT": "tcp://10.96.0.7:9091",
        "TIDEGATE_OPERATOR_PORT_9091_TCP_ADDR": "10.96.0.7",
        "TIDEGATE_OPERATOR_SERVICE_HOST": "10.96.0.7",
        "TIDEGATE_OPERATOR_SERVICE_PORT_METRICS": "9091",
    }
    assert load_settings({"namespace": "one"}, environ).port == 9091


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"TIDEGATE_OPERATOR_LEASE_DURATON_S": "9"}, "did you mean TIDEGATE_OPERATOR_LEASE_DUR"),
        ({"TIDEGATE_OPERATOR_NAMESPACE": "Not A Name"}, "namespace = Not A Name: must be the name"),
        ({"TIDEGATE_OPERATOR_IDENTITY": "a/b"}, "identity = a/b: must be a name"),
        (
            {"TIDEGATE_OPERATOR_LEASE_RENEW_S": "8"},
            "lease_renew_s = 8: must be below lease_deadline_s (7.0)",
        ),
        (
            {"TIDEGATE_OPERATOR_LEASE_DEADLINE_S": "10"},
            "lease_deadline_s = 10: must be below lease_duration_s (10)",
        ),
        ({"TIDEGATE_OPERATOR_INTERVAL_S": "nan"}, "interval_s = nan: must be a number from 0.2"),
        (
            {"TIDEGATE_OPERATOR_STUCK_S": "6"},
            "stuck_s = 6: must be more than twice interval_s (5.0)",
        ),
        (
            {"TIDEGATE_OPERATOR_REDIS_URL": "http://redis"},
            "redis_url = http://redis: must start with one of",
        ),
        ({"TIDEGATE_OPERATOR_REDIS_URL": "redis://:geheim@"}, "the host is missing"),
        (
            {"TIDEGATE_OPERATOR_REDIS_HOSTS": "redis://a"},
            "redis_hosts = redis://a: must be hosts with or",
        ),
        ({"TIDEGATE_OPERATOR_REDIS_HOSTS": "a,b:70000"}, "redis_hosts = a,b:70000: "),
        ({"TIDEGATE_OPERATOR_TARGET": "A_b"}, "target = A_b: must be a name"),
        ({"TIDEGATE_OPERATOR_GATEWAY": "*"}, "gateway = *: must be a name"),
        (
            {"TIDEGATE_OPERATOR_KEY_PREFIX": "b"},
            "key_prefix = b: must be text of 4 to 128 characters",
        ),
        (
            {"TIDEGATE_OPERATOR_PORT": "99999"},
            "port = 99999: must be a whole number from 0 to 65535",
        ),
        (
            {"TIDEGATE_OPERATOR_REDIS_CERT_FILE": "c.pem"},
            "redis_cert_file = c.pem: needs redis_key_file beside it",
        ),
        (
            {"TIDEGATE_OPERATOR_REDIS_KEY_FILE": "k.pem"},
            "redis_key_file = k.pem: needs redis_cert_file beside it",
        ),
        (
            {"TIDEGATE_OPERATOR_REDIS_SENTINEL_USERNAME": "me"},
            "redis_sentinel_username = me: needs redis_sentinel_password beside it",
        ),
    ],
)
def test_a_wrong_setting_is_refused_by_name(environ: dict[str, str], words: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load_settings({}, {"TIDEGATE_OPERATOR_NAMESPACE": "one"} | environ)
    assert words in str(refused.value)


def test_one_line_for_each_mistake_with_value_allowed_and_source() -> None:
    environ = {"TIDEGATE_OPERATOR_PORT": "x", "TIDEGATE_OPERATOR_LEASES": "", "PATH": "/bin"}
    with pytest.raises(SettingsError) as refused:
        load_settings({"namespace": "one", "redis_url": "http://r", "log_level": "loud"}, environ)
    assert refused.value.problems == (
        (
            "TIDEGATE_OPERATOR_LEASES: no such variable; did you mean TIDEGATE_OPERATOR_LEASE? "
            "(from the environment)"
        ),
        (
            "redis_url = http://r: must start with one of redis://, rediss://, unix://, "
            "redis+sentinel://, rediss+sentinel://, redis+cluster://, rediss+cluster:// "
            "(from --redis)"
        ),
        "port = x: must be a whole number from 0 to 65535 (from TIDEGATE_OPERATOR_PORT)",
        "log_level = loud: must be one of debug, info, warning, error (from --log-level)",
    )


def test_an_empty_variable_is_not_given() -> None:
    environ = {"TIDEGATE_OPERATOR_PORT": "", "TIDEGATE_OPERATOR_KEY_PREFIX": ""}
    settings = load_settings({"namespace": "one"}, environ)
    assert (settings.port, settings.key_prefix) == (9091, None)


def test_a_password_is_never_shown() -> None:
    environ = {
        "TIDEGATE_OPERATOR_REDIS_URL": "redis://user:geheim@redis",
        "TIDEGATE_OPERATOR_REDIS_PASSWORD": "geheim",
        "TIDEGATE_OPERATOR_REDIS_SENTINEL_PASSWORD": "geheim",
    }
    assert "geheim" not in repr(load_settings({"namespace": "one"}, environ))
    with pytest.raises(SettingsError) as refused:
        load_settings({}, {"TIDEGATE_OPERATOR_REDIS_URL": "rediss//u:geheim@x"})
    assert "geheim" not in str(refused.value)
    with pytest.raises(SettingsError) as refused:
        load_settings({}, {"TIDEGATE_OPERATOR_REDIS_HOSTS": "a,redis://u:geheim@x"})
    assert "redis_hosts = a,redis://u:***@x" in str(refused.value)


def test_the_page_of_the_metrics_has_the_table() -> None:
    assert metrics_table() in (DOCS / "operator-metrics.md").read_text("utf-8")
