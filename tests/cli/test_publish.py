"""`tidegate publish` on real servers: what it appends, prints and refuses."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import finish, invoke, start
from tests.servers.binaries import require
from tests.servers.cluster import Cluster
from tests.servers.sentinel import Sentinels
from tests.servers.standalone import Options, Server
from tests.servers.tls import Certificates
from tidegate.cli.publish import default_type, parse_object

KEY = "operation-progress:42"


async def entries(server: Server, key: str = KEY) -> list[tuple[str, dict[str, object]]]:
    """Id and parsed message of each entry; `message` is its only field."""
    async with server.client(decode_responses=True) as client:
        found: Any = await client.xrange(key)
    assert all(fields.keys() == {"message"} for _, fields in found)
    return [(entry_id, json.loads(fields["message"])) for entry_id, fields in found]


async def test_one_object_becomes_one_entry(redis_server: Server) -> None:
    data = '{"progress": 0.5, "big": 12345678901234567890123, "text": "größer"}'
    done = await invoke("publish", "42", data, "--redis", redis_server.url)
    assert done.code == 0, done
    ((entry_id, message),) = await entries(redis_server)
    assert done.out == f"{entry_id}\n"
    assert message["type"] == "progress"
    assert message["data"] == json.loads(data)
    assert str(message["timestamp"]).endswith("Z")


async def test_type_prefix_and_maxlen(redis_server: Server) -> None:
    where = ("--redis", redis_server.url, "--prefix", "ops/")
    for n in range(3):
        await invoke("publish", "42", f'{{"n":{n}}}', "--type", "note", "--maxlen", "1", *where)
    found = await entries(redis_server, "ops/42")
    # The trimming is approximate, by whole nodes of the stream.
    assert [message["type"] for _, message in found] == ["note"] * 3


async def test_lines_from_stdin_are_published_as_they_come(redis_server: Server) -> None:
    process = await start("publish", "42", "-", "--redis", redis_server.url)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b'{"n": 1}\n')
    first = (await process.stdout.readline()).decode().strip()
    assert [entry_id for entry_id, _ in await entries(redis_server)] == [first]
    process.stdin.write(b'\n{"status": "completed"}\n')
    done = await finish(process)
    assert done.code == 0, done
    found = await entries(redis_server)
    assert [message["type"] for _, message in found] == ["progress", "operation_completed"]
    assert done.out == f"{found[1][0]}\n"


@pytest.mark.parametrize("bad", ['{"n"', "[1]", '{"n": NaN}', "\udcff"])
async def test_a_bad_line_is_named_and_what_was_before_stays(
    redis_server: Server, bad: str
) -> None:
    text = '{"n": 1}\n\n{"n": 2}\n' + bad + '\n{"n": 3}\n'
    lines = text.encode(errors="surrogateescape")
    done = await invoke("publish", "42", "-", "--redis", redis_server.url, stdin=lines)
    assert done.code == 1
    assert done.err.startswith("tidegate: line 4: ")
    assert [message["data"] for _, message in await entries(redis_server)] == [{"n": 1}, {"n": 2}]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("a b", "{}"), 2, "operation_id: must be"),
        (("42", "half"), 2, "JSON: Expecting value"),
        (("42", "[]"), 2, "JSON: must be an object"),
        (("42", "{}", "--redis", "localhost"), 2, "redis.url = ***: must start with"),
        (("42", "{}", "--redis", "redis://h/x"), 2, "cannot be used: db must be a number"),
        (("42", "{}", "--redis", "redis://u:hunter2@127.0.0.1:1"), 1, "redis://u:***@127.0.0.1:1"),
    ],
)
async def test_what_is_wrong_is_said(arguments: tuple[str, ...], code: int, said: str) -> None:
    done = await invoke("publish", *arguments)
    assert done.code == code, done
    assert said in done.err
    assert "hunter2" not in done.err


async def test_a_key_that_is_no_stream_is_said(redis_server: Server) -> None:
    async with redis_server.client() as client:
        await client.set(KEY, "text")
    done = await invoke("publish", "42", "{}", "--redis", redis_server.url)
    assert done.code == 1
    assert "WRONGTYPE" in done.err


async def test_password_by_variable(tmp_path: Path) -> None:
    options = Options(password="hunter2")
    async with Server(require("valkey9"), options, directory=tmp_path / "s") as server:
        where = ("--redis", f"redis://{server.address}")
        refused = await invoke("publish", "42", "{}", *where)
        assert refused.code == 1
        done = await invoke("publish", "42", "{}", *where, TIDEGATE_REDIS__PASSWORD="hunter2")
        assert done.code == 0, done


async def test_a_unix_socket() -> None:
    async with Server(require("valkey9"), Options(unix_socket=True)) as server:
        done = await invoke("publish", "42", "{}", "--redis", server.unix_url)
        assert done.code == 0, done


@pytest.mark.real("tls-server")
async def test_tls(certificates: Certificates) -> None:
    async with Server(require("tls-server"), Options(tls=certificates)) as server:
        refused = await invoke("publish", "42", "{}", "--redis", server.url)
        assert refused.code == 1
        ca = f"redis.tls_ca_file={certificates.ca_file}"
        done = await invoke("publish", "42", "{}", "--redis", server.url, "--set", ca)
        assert done.code == 0, done


async def test_a_cluster(cluster: Cluster) -> None:
    for n in range(8):  # keys of several slots
        done = await invoke("publish", f"op-{n}", "{}", "--redis", cluster.url)
        assert done.code == 0, done


async def test_sentinel(sentinel: Sentinels) -> None:
    done = await invoke("publish", "42", "{}", "--redis", sentinel.url)
    assert done.code == 0, done
    done = await invoke("publish", "42", "{}", "--redis", sentinel.url + "-not")
    assert done.code == 1
    assert "no reachable Sentinel knows this primary" in done.err


@pytest.mark.real("valkey9")
async def test_sentinels_with_a_login_of_their_own() -> None:
    async with Sentinels(
        require("valkey9"),
        Options(password="of the servers"),
        replicas=0,
        sentinel_password="of the Sentinels",
    ) as sentinel:
        login = {"TIDEGATE_REDIS__PASSWORD": "of the servers"}
        done = await invoke("publish", "42", "{}", "--redis", sentinel.url, **login)
        assert done.code == 1
        assert "the Sentinels refuse the login; set redis.sentinel_password" in done.err
        login["TIDEGATE_REDIS__SENTINEL_PASSWORD"] = "of the Sentinels"
        done = await invoke("publish", "42", "{}", "--redis", sentinel.url, **login)
        assert done.code == 0, done


@pytest.mark.parametrize(
    ("data", "type_"),
    [
        ({}, "progress"),
        ({"status": "running"}, "progress"),
        ({"status": "cancelled"}, "operation_cancelled"),
        ({"status": ["completed"]}, "progress"),
    ],
)
def test_an_end_has_a_type_of_its_own(data: dict[str, object], type_: str) -> None:
    assert default_type(data) == type_


@pytest.mark.parametrize("text", ["", "1", '{"a":1}x', '{"a": Infinity}'])
def test_what_is_no_json_object(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_object(text)


async def test_an_operation_is_listed_in_a_feed(redis_server: Server) -> None:
    data = '{"status": "running", "title": "Export"}'
    where = ("--redis", redis_server.url)
    done = await invoke("publish", "42", data, "--feed", "user:7", *where)
    assert done.code == 0, done
    ((entry_id, _),) = await entries(redis_server)
    assert done.out == f"{entry_id}\n"
    ((_, listed),) = await entries(redis_server, "operation-progress:user:7")
    assert listed["type"] == "listed"
    assert listed["data"] == {"operation": "42", "title": "Export"}
    assert (await invoke("publish", "42", data, "--feed", "user 7", *where)).code == 2
    assert (await invoke("publish", "42", "-", "--feed", "user:7", *where)).code == 2
