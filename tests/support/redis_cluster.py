"""A real Redis Cluster: three masters with a replica each."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import redis

from tests.support.ports import HOST
from tests.support.redis_server import RedisServer

__all__ = ["RedisCluster"]

_SLOTS = 16_384
_MASTERS = 3


class RedisCluster:
    """Three masters and three replicas on the loopback; a replica takes over half a second after its master is gone."""

    def __init__(self, folder: Path, component: str = "valkey") -> None:
        self.nodes = [
            RedisServer(
                folder / str(number),
                component,
                cluster_enabled="yes",
                cluster_node_timeout="500",
                # A failover would wait for some milliseconds per byte that the replica may be behind.
                cluster_replica_validity_factor="0",
                cluster_require_full_coverage="no",
            )
            for number in range(2 * _MASTERS)
        ]
        self._running = ExitStack()

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"{HOST}:{node.port}" for node in self.nodes)

    def master_of(self, key: str) -> RedisServer:
        """The node that has the key's slot now."""
        for node in self.nodes:
            try:
                slot = self._ask(node, "CLUSTER", "KEYSLOT", key)
                for first, last, (_host, port, *_), *_others in self._ask(node, "CLUSTER", "SLOTS"):
                    if first <= slot <= last:
                        return next(each for each in self.nodes if each.port == port)
            except (OSError, redis.RedisError):
                continue
        raise LookupError(key)

    def __enter__(self) -> Self:
        try:
            for node in self.nodes:
                self._running.enter_context(node)
            self._form()
        except BaseException:
            self._running.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def _form(self) -> None:
        _until(self._have_met)
        masters, replicas = self.nodes[:_MASTERS], self.nodes[_MASTERS:]
        share = _SLOTS // _MASTERS
        for number, node in enumerate(masters):
            last = _SLOTS - 1 if number == _MASTERS - 1 else (number + 1) * share - 1
            self._ask(node, "CLUSTER", "ADDSLOTSRANGE", number * share, last)
        for master, replica in zip(masters, replicas, strict=True):
            name = self._ask(master, "CLUSTER", "MYID")
            _until(lambda replica=replica, name=name: self._follows(replica, name))
        _until(self._is_whole)

    def _have_met(self) -> bool:
        """Whether all know each other. Who does not is introduced again: on a busy machine a handshake may time out."""
        first, *others = self.nodes
        strangers = [node for node in self.nodes if "cluster_known_nodes:6" not in self._info(node)]
        for node in others if strangers else ():
            self._ask(node, "CLUSTER", "MEET", HOST, first.port)
        return not strangers

    def _follows(self, replica: RedisServer, master: str) -> bool:
        try:
            self._ask(replica, "CLUSTER", "REPLICATE", master)
        except redis.ResponseError:
            return False
        return True

    def _is_whole(self) -> bool:
        """Whether every slot is served and three replicas follow; which they are may have changed on a busy machine."""
        links = [str(self._ask(node, "INFO", "replication")) for node in self.nodes]
        following = sum("master_link_status:up" in link for link in links)
        served = all("cluster_state:ok" in self._info(node) for node in self.nodes)
        return served and following == len(self.nodes) - _MASTERS

    def _info(self, node: RedisServer) -> str:
        return str(self._ask(node, "CLUSTER", "INFO"))

    def _ask(self, node: RedisServer, *command: Any) -> Any:
        with redis.Redis(host=HOST, port=node.port, socket_timeout=5, decode_responses=True) as client:
            client.response_callbacks.clear()
            return client.execute_command(*command)


def _until(condition: Any) -> None:
    give_up = time.monotonic() + 120.0
    while not condition():
        if time.monotonic() > give_up:
            raise TimeoutError("the cluster does not form")
        time.sleep(0.05)
