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
        ({"TIDEGATE_OPERATOR_NAMESPACE": "Not A Name"}, "namespace: must be the name"),
        ({"TIDEGATE_OPERATOR_IDENTITY": "a/b"}, "identity: must be a name"),
        ({"TIDEGATE_OPERATOR_LEASE_RENEW_S": "8"}, "lease_renew_s: must be below"),
        ({"TIDEGATE_OPERATOR_LEASE_DEADLINE_S": "10"}, "lease_deadline_s: must be below"),
        ({"TIDEGATE_OPERATOR_INTERVAL_S": "nan"}, "interval_s: "),
        ({"TIDEGATE_OPERATOR_STUCK_S": "6"}, "stuck_s: must be more than twice"),
        ({"TIDEGATE_OPERATOR_REDIS_URL": "http://redis"}, "redis_url: must start with one of"),
        ({"TIDEGATE_OPERATOR_REDIS_URL": "redis://:geheim@"}, "the host is missing"),
        ({"TIDEGATE_OPERATOR_REDIS_HOSTS": "redis://a"}, "redis_hosts: must be hosts with or"),
        ({"TIDEGATE_OPERATOR_REDIS_HOSTS": "a,b:70000"}, "redis_hosts: "),
        ({"TIDEGATE_OPERATOR_TARGET": "A_b"}, "target: must be a name"),
        ({"TIDEGATE_OPERATOR_GATEWAY": "*"}, "gateway: must be a name"),
        ({"TIDEGATE_OPERATOR_KEY_PREFIX": "b"}, "key_prefix: "),
        ({"TIDEGATE_OPERATOR_PORT": "99999"}, "port: "),
        (
            {"TIDEGATE_OPERATOR_REDIS_CERT_FILE": "c.pem"},
            "redis_cert_file: needs operator.redis_key_file",
        ),
        (
            {"TIDEGATE_OPERATOR_REDIS_KEY_FILE": "k.pem"},
            "redis_key_file: needs operator.redis_cert_file",
        ),
        (
            {"TIDEGATE_OPERATOR_REDIS_SENTINEL_USERNAME": "me"},
            "redis_sentinel_username: needs operator.redis_sentinel_password",
        ),
    ],
)
def test_a_wrong_setting_is_refused_by_name(environ: dict[str, str], words: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load_settings({}, {"TIDEGATE_OPERATOR_NAMESPACE": "one"} | environ)
    assert words in str(refused.value)


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


def test_the_page_of_the_metrics_has_the_table() -> None:
    assert metrics_table() in (DOCS / "operator-metrics.md").read_text("utf-8")
