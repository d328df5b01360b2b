"""Addresses: what they mean, and that what they cannot mean is refused without showing a secret."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tidegate.model.errors import SettingsError
from tidegate.model.settings import RedisSettings, RedisUrl
from tidegate.redis.address import Address, Deployment, Node, parse_address


def parse(url: str, **more: Any) -> Address:
    return parse_address(RedisSettings(url=RedisUrl(url), **more))


@pytest.mark.parametrize(
    ("url", "deployment", "nodes", "service", "db"),
    [
        ("redis://h", Deployment.STANDALONE, (Node("h", 6379),), None, 0),
        ("redis://h:1/3", Deployment.STANDALONE, (Node("h", 1),), None, 3),
        ("redis://[::1]:7/0", Deployment.STANDALONE, (Node("::1", 7),), None, 0),
        ("redis://u:p@h/", Deployment.STANDALONE, (Node("h", 6379),), None, 0),
        (
            "redis+sentinel://a,b:1,[::2]:3/main/5",
            Deployment.SENTINEL,
            (Node("a", 26379), Node("b", 1), Node("::2", 3)),
            "main",
            5,
        ),
        ("redis+sentinel://a/my%2Fmain", Deployment.SENTINEL, (Node("a", 26379),), "my/main", 0),
        (
            "redis+cluster://a,b:1",
            Deployment.CLUSTER,
            (Node("a", 6379), Node("b", 1)),
            None,
            0,
        ),
        ("redis+cluster://a/0", Deployment.CLUSTER, (Node("a", 6379),), None, 0),
        (
            "unix:///run/redis.sock?db=2",
            Deployment.STANDALONE,
            (Node("localhost", 0, "/run/redis.sock"),),
            None,
            2,
        ),
    ],
)
def test_what_an_address_means(
    url: str, deployment: Deployment, nodes: tuple[Node, ...], service: str | None, db: int
) -> None:
    address = parse(url)
    assert (address.deployment, address.nodes) == (deployment, nodes)
    assert (address.service, address.db, address.tls) == (service, db, None)


def test_logins_are_unquoted_and_settings_win() -> None:
    address = parse("redis://us%3Aer:p%40ss%2F@h")
    assert (address.username, address.password) == ("us:er", "p@ss/")
    address = parse("redis://:only@h")
    assert (address.username, address.password) == (None, "only")
    address = parse("redis://u:p@h", username="x", password="y")
    assert (address.username, address.password) == ("x", "y")
    address = parse("unix://u:p@/run/redis.sock")
    assert (address.username, address.password) == ("u", "p")


def test_tls_checks_the_name_unless_told_otherwise() -> None:
    for url in ("rediss://h", "rediss+cluster://h", "rediss+sentinel://h/m"):
        tls = parse(url).tls
        assert tls is not None
        assert tls.check_hostname
        loose = parse(url, tls_check_hostname=False).tls
        assert loose is not None
        assert not loose.check_hostname


@pytest.mark.parametrize(
    "url",
    [
        "redis://u:hunter2@",
        "redis://u:hunter2@:6379",
        "redis://u:hunter2@h:port",
        "redis://u:hunter2@h:99999",
        "redis://u:hunter2@h/x",
        "redis://u:hunter2@h/-1",
        "redis://u:hunter2@h/\u0661",
        "redis://u:hunter2@h/999999",
        "redis://u:hunter2@a,b",
        "redis://u:hunter2@[::1",
        "redis://u:hunter2@[x]/0",
        "redis+sentinel://u:hunter2@a",
        "redis+sentinel://u:hunter2@a,,b/m",
        "redis+cluster://u:hunter2@a/1",
        "redis+cluster://u:hunter2@,",
        "unix://?password=hunter2",
        "unix://u:hunter2@/s?db=x",
        "unix:///s?db&password=hunter2",
    ],
)
def test_what_it_cannot_mean_is_refused_without_its_password(url: str) -> None:
    with pytest.raises((SettingsError, ValidationError)) as caught:
        parse(url)
    assert "hunter2" not in str(caught.value)


def test_a_file_that_is_missing_or_no_certificate_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="redis"):
        parse("rediss://h", tls_ca_file=tmp_path / "missing.pem")
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("no certificate")
    with pytest.raises(SettingsError):
        parse("rediss://h", tls_ca_file=wrong)


@given(st.text(max_size=60), st.sampled_from(["redis", "rediss", "unix", "redis+sentinel"]))
def test_any_text_is_read_or_refused(rest: str, scheme: str) -> None:
    try:
        address = parse(f"{scheme}://{rest}")
    except (SettingsError, ValidationError):
        return
    assert address.nodes
    assert all(node.path or 0 < node.port < 65_536 for node in address.nodes)
