"""Sessions over TLS, and as a user who may do just what is needed."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from tests.auth.redis_sessions import opened, said, texts
from tests.support.certificates import write_certificate
from tests.support.eventually import until
from tests.support.ports import HOST, free_port
from tests.support.redis_server import RedisSentinel, RedisServer

pytestmark = pytest.mark.real_time

# What docs/how-to/keep-sessions.md says that the user needs.
COMMANDS = (
    "+eval +exists +del +pexpire +hgetall +hmget +hset +hsetnx +hexists "
    "+zadd +zrem +zcard +zrange +zrevrange +zremrangebyscore"
)


@contextmanager
def secured(
    folder: Path, *, host: str = HOST, expired: bool = False, **options: str
) -> Iterator[tuple[int, Path]]:
    """A Redis with TLS: the port, and the certificate."""
    certificate, secret = write_certificate(folder, host=host, expired=expired)
    port = free_port()
    with RedisServer(
        folder / "data",
        "redis",
        tls_port=str(port),
        tls_cert_file=str(certificate),
        tls_key_file=str(secret),
        tls_ca_cert_file=str(certificate),
        tls_auth_clients="no",
        **options,
    ):
        yield port, certificate


async def becomes_durable(url: str, ca_file: Path) -> None:
    """What the operator has just told the servers takes effect within seconds."""
    async with opened(url, ca_file=str(ca_file)) as store:
        await store.append("c", "ann", said("hello"))
        await until(lambda: not store.pending)


async def is_durable(url: str, ca_file: Path | None = None) -> bool:
    async with opened(url, ca_file=ca_file and str(ca_file)) as store:
        return (await store.append("c", "ann", said("hello"))).durable


@pytest.mark.parametrize("in_url", [False, True])
async def test_a_server_with_a_certificate_that_is_vouched_for_is_trusted(
    tmp_path: Path, in_url: bool
) -> None:
    with secured(tmp_path) as (port, certificate):
        url = f"rediss://{HOST}:{port}/0"
        if in_url:
            assert await is_durable(f"{url}?ssl_ca_certs={certificate}")
        else:
            assert await is_durable(url, certificate)


async def test_a_server_that_nobody_vouches_for_gets_nothing(tmp_path: Path) -> None:
    with secured(tmp_path) as (port, _):
        assert not await is_durable(f"rediss://{HOST}:{port}")


async def test_an_expired_certificate_is_refused(tmp_path: Path) -> None:
    with secured(tmp_path, expired=True) as (port, certificate):
        assert not await is_durable(f"rediss://{HOST}:{port}", certificate)


async def test_a_certificate_of_another_host_is_refused(tmp_path: Path) -> None:
    with secured(tmp_path, host="127.0.0.2") as (port, certificate):
        assert not await is_durable(f"rediss://{HOST}:{port}", certificate)


async def test_a_server_without_tls_is_not_spoken_to_in_the_clear(valkey: RedisServer) -> None:
    assert not await is_durable(f"rediss://{HOST}:{valkey.port}")


async def test_a_cluster_over_tls(tmp_path: Path) -> None:
    with secured(tmp_path, cluster_enabled="yes", tls_cluster="yes") as (port, certificate):
        with redis.Redis(
            host=HOST, port=port, ssl=True, ssl_ca_certs=str(certificate), decode_responses=True
        ) as operator:
            operator.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
        await becomes_durable(f"rediss+cluster://{HOST}:{port}", certificate)
        assert not await is_durable(f"rediss+cluster://{HOST}:{port}")


async def test_sentinel_and_master_over_tls(tmp_path: Path) -> None:
    certificate, secret = write_certificate(tmp_path)
    tls = {
        "tls-cert-file": str(certificate),
        "tls-key-file": str(secret),
        "tls-ca-cert-file": str(certificate),
        "tls-auth-clients": "no",
        "tls-replication": "yes",
    }
    secure, ours = free_port(), free_port()
    options = {name.replace("-", "_"): value for name, value in tls.items()}
    with RedisServer(tmp_path / "data", "redis", tls_port=str(secure), **options) as server:
        server.port, plain_port = secure, server.port
        lines = [f"{name} {value}" for name, value in tls.items()]
        sentinel = RedisSentinel(tmp_path / "sentinel", server, f"tls-port {ours}", *lines)
        server.port = plain_port
        with sentinel:
            await becomes_durable(f"rediss+sentinel://{HOST}:{ours}/main", certificate)
            assert not await is_durable(f"rediss+sentinel://{HOST}:{ours}/main")


async def test_a_user_who_may_do_just_what_is_needed_is_enough(server: RedisServer) -> None:
    with redis.Redis(host=HOST, port=server.port) as operator:
        operator.execute_command("ACL SETUSER mcp on >p%40ss ~app:*".replace("%40", "@") + " " + COMMANDS)
    url = f"redis://mcp:p%40ss@{HOST}:{server.port}/0"
    async with opened(url, namespace="app", extend_on_read=True) as store:
        await store.append("c", "ann", said("hello"), expected_version=0)
        await store.ensure_room("ann", None)
        assert texts(await store.get("c", "ann")) == ["hello"]
        assert len(await store.search("ann", "hello")) == 1
        await store.probe()
        assert await store.delete("c", "ann")
        assert await store.delete_all("ann") == 0
        assert not store.degraded


async def test_a_wrong_password_is_an_outage_and_stands_in_no_log(
    valkey: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    with redis.Redis(host=HOST, port=valkey.port) as operator:
        operator.execute_command("ACL SETUSER mcp on >right ~* +@all")
    caplog.set_level(logging.DEBUG)
    assert not await is_durable(f"redis://mcp:swordfish@{HOST}:{valkey.port}/0")
    assert "swordfish" not in caplog.text
