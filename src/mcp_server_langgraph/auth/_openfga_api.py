"""OpenFGA's HTTP API, the requests of it that are needed, one attempt each.

The official SDK is not used. Measured here: it takes 750-1,000 ms to import against 190 ms for httpx2, which the
MCP SDK has loaded anyway; it waits 300 s, and retries three times, unless told otherwise; it reads `Retry-After: 5`
as a date and loses it; and it lets aiohttp's errors through beside its own. (openfga-sdk 0.10.5.)
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import httpx2

from mcp_server_langgraph.auth._http import UnusableReply, json_reply, new_client, without_token
from mcp_server_langgraph.auth._openfga_listing import objects_of
from mcp_server_langgraph.auth._openfga_questions import Question, RelationTuple
from mcp_server_langgraph.resilience import Pipeline, Timeout

__all__ = ["MOST_IN_A_BATCH", "ItemError", "Model", "OpenFGAApi"]

MOST_IN_A_BATCH: Final = 50
"""Questions that OpenFGA takes in one batch check, by default (--max-checks-per-batch-check)."""

# Seconds in all for what is looked up in the background: several steps, each bounded by the client itself.
_LOOK_SECONDS: Final = 1.0
_MODEL_HEADER: Final = "openfga-authorization-model-id"


class ItemError(NamedTuple):
    """What is wrong with one question of a batch. `ours`: the question itself; else OpenFGA could not answer it."""

    text: str
    ours: bool


class Model(NamedTuple):
    """An authorization model: its id, its types, and its relations as "type#relation"."""

    id: str
    types: frozenset[str]
    relations: frozenset[str]

    def has(self, name: str) -> bool:
        """Whether it knows "type#relation"; a "relation" alone: of any type."""
        return name in self.relations or any(known.endswith(f"#{name}") for known in self.relations)


class OpenFGAApi:
    """One store. `saw_model` hears which model decided, answer by answer; `attempt` is what bounds an attempt.
    `token`: what OpenFGA wants of us; None for nothing.

    Raises httpx2.HTTPError and UnusableReply. `consistent`: what OpenFGA may have in its own caches does not count.
    """

    def __init__(
        self,
        api_url: str,
        store_id: str,
        model_id: str | None,
        attempt: Timeout | None,
        token: str | None = None,
    ) -> None:
        self._looks = Pipeline("probe", Timeout(_LOOK_SECONDS), operation="openfga store and model")
        self._client = new_client(api_url, token)
        self._store = f"/stores/{quote(store_id, safe='')}"
        self._model_id = model_id
        self._model = {} if model_id is None else {"authorization_model_id": model_id}
        self.saw_model: Callable[[str], object] = str
        self._attempt = attempt

    async def check(self, question: Question, *, consistent: bool = False) -> bool:
        reply, _ = await self._post("check", {**question.body(), **self._asked(consistent)})
        allowed = reply.get("allowed")
        if not isinstance(allowed, bool):
            raise UnusableReply("the reply to a check does not say whether it is allowed")
        return allowed

    async def batch_check(
        self, questions: Sequence[Question], *, consistent: bool = False
    ) -> list[bool | ItemError]:
        """Answers in the order of the questions, of which there may be `MOST_IN_A_BATCH`."""
        checks = [
            {**question.body(), "correlation_id": str(number)} for number, question in enumerate(questions)
        ]
        reply, request = await self._post("batch-check", {"checks": checks, **self._asked(consistent)})
        results = reply.get("result")
        if not isinstance(results, dict):
            raise UnusableReply("the reply to a batch check has no results")
        answers = [_item(results.get(str(number)), request) for number in range(len(questions))]
        if answers and all(isinstance(answer, ItemError) and not answer.ours for answer in answers):
            raise UnusableReply("OpenFGA could not answer any question of the batch")
        return answers

    async def list_objects(self, body: Mapping[str, Any], *, patience: float) -> list[str]:
        """Objects of one type that the user has the relation to. `patience`: seconds between two pieces."""
        path = f"{self._store}/streamed-list-objects"
        wanted = {**body, **self._model}
        async with self._client.stream("POST", path, json=wanted, timeout=patience) as response:
            self._note(response)
            return await objects_of(response)

    async def write(self, writes: Iterable[RelationTuple], deletes: Iterable[RelationTuple]) -> None:
        """Write and delete in one transaction. What is there, or gone, already is left as it is (OpenFGA 1.10)."""
        body: dict[str, Any] = dict(self._model)
        if added := [entry.key() for entry in writes]:
            body["writes"] = {"tuple_keys": added, "on_duplicate": "ignore"}
        if removed := [entry.edge() for entry in deletes]:
            body["deletes"] = {"tuple_keys": removed, "on_missing": "ignore"}
        await self._post("write", body)

    async def probe(self) -> None:
        """Read the store's own record: a request that no caller has any influence on."""
        reply = await self._looked_up(self._store)
        if "id" not in reply:
            raise UnusableReply("the store's record has no id")

    async def model(self) -> Model | None:
        """The model that decides; None where the store has none."""
        models = f"{self._store}/authorization-models"
        if self._model_id is not None:
            path = f"{models}/{quote(self._model_id, safe='')}"
            return _model((await self._looked_up(path)).get("authorization_model"))
        found = (await self._looked_up(models, page_size=1)).get("authorization_models")
        if not isinstance(found, list):
            raise UnusableReply("the reply has no models")
        return _model(found[0]) if found else None

    async def aclose(self) -> None:
        await self._client.aclose()

    async def _looked_up(self, path: str, **params: int) -> dict[str, Any]:
        """What is asked for ourselves, no caller: past the circuit, which it may find out to be needless."""
        return _reply(await self._looks.call(self._client.get, path, params=params))

    async def _post(self, what: str, body: Mapping[str, Any]) -> tuple[dict[str, Any], httpx2.Request]:
        response = await self._client.post(f"{self._store}/{what}", json=body, timeout=self._step())
        reply = _reply(response)
        self._note(response)
        return reply, response.request

    def _step(self) -> float | None:
        """The client's own limit for a step, but where an operator gives attempts more time: as long as these."""
        own, attempt = self._client.timeout.read, self._attempt
        return max(own, attempt.seconds) if own is not None and attempt is not None else own

    def _note(self, response: httpx2.Response) -> None:
        model_id = response.headers.get(_MODEL_HEADER)
        if model_id:
            self.saw_model(model_id)

    def _asked(self, consistent: bool) -> dict[str, str]:
        return {**self._model, "consistency": "HIGHER_CONSISTENCY"} if consistent else self._model


def _reply(response: httpx2.Response) -> dict[str, Any]:
    reply = json_reply(response)
    if response.status_code != 200:
        raise UnusableReply(f"a reply of status {response.status_code}")
    return reply


def _item(result: object, request: httpx2.Request) -> bool | ItemError:
    if isinstance(result, dict):
        allowed, error = result.get("allowed"), result.get("error")
        # An answer with an error is none, whatever else it says.
        if isinstance(allowed, bool) and not error:
            return allowed
        if isinstance(error, dict):
            text = without_token(str(error.get("message", "no message")), request)
            return ItemError(text, ours="input_error" in error)
    return ItemError("no answer", ours=False)


def _model(found: object) -> Model:
    try:
        definitions: list[dict[str, Any]] = found["type_definitions"]  # type: ignore[index]
        relations = {
            f"{definition['type']}#{relation}"
            for definition in definitions
            for relation in definition.get("relations") or {}
        }
        types = frozenset(str(definition["type"]) for definition in definitions)
        return Model(str(found["id"]), types, frozenset(relations))  # type: ignore[index]
    except (KeyError, TypeError) as error:
        raise UnusableReply("the reply holds no model") from error
