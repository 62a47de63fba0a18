"""Lists and writes: whole, or an error, because nothing can stand in for them."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from mcp_server_langgraph.auth._last_known import LastKnown
from mcp_server_langgraph.auth._openfga_api import OpenFGAApi
from mcp_server_langgraph.auth._openfga_model import ModelWatch
from mcp_server_langgraph.auth._openfga_pipelines import listing_of
from mcp_server_langgraph.auth._openfga_questions import Question, RelationTuple, circumstances
from mcp_server_langgraph.auth._openfga_refusals import told_as_ours
from mcp_server_langgraph.auth._openfga_standby import Standby
from mcp_server_langgraph.auth._repeats import never_repeated
from mcp_server_langgraph.auth.authorization import ListingIncomplete, ModelMismatch, TokenRefused
from mcp_server_langgraph.resilience import Pipeline

__all__ = ["Relations"]

# A list that OpenFGA cut at its own deadline is waited for, so that it can be told from one that never comes.
_SLACK: Final = 0.5


class Relations:
    """Asks and tells `api` with the policies of `pipeline`. `listing_deadline`: seconds that OpenFGA gives a list."""

    def __init__(
        self,
        api: OpenFGAApi,
        pipeline: Pipeline,
        model: ModelWatch,
        known: LastKnown,
        standby: Standby,
        *,
        listing_deadline: float,
    ) -> None:
        self._api = api
        self._model = model
        self._known = known
        self._standby = standby
        self._deadline = listing_deadline
        self._writes = never_repeated(pipeline, "openfga.write")
        self._listing = listing_of(pipeline, listing_deadline + _SLACK)

    async def list_objects(self, about: Question, consistent: bool) -> list[str]:
        """Objects of the type of the question's object, which is itself of no importance."""
        self._model.require()
        body: dict[str, Any] = {"user": about.user, "relation": about.relation, "type": about.object_type}
        body |= circumstances(about.contextual_tuples, about.context)
        body |= {"consistency": "HIGHER_CONSISTENCY"} if consistent else {}
        with self._as_ours("OpenFGA did not list objects", [about]):
            objects, seconds = await self._listing.call(self._list, body)
        if seconds >= self._deadline:
            raise ListingIncomplete(f"OpenFGA took {seconds:.1f} s, and may have left objects out", objects)
        return objects

    async def write(self, added: Sequence[RelationTuple], removed: Sequence[RelationTuple]) -> None:
        self._model.require()
        try:
            with self._as_ours("OpenFGA did not write, or its answer was lost", [*added, *removed]):
                await self._writes.call(self._api.write, added, removed)
        finally:
            self._known.forget()

    async def aclose(self) -> None:
        """Give the connections back."""
        await self._api.aclose()

    async def _list(self, body: Mapping[str, Any]) -> tuple[list[str], float]:
        began = time.monotonic()
        with self._standby.listening():
            objects = await self._api.list_objects(body, patience=self._deadline + _SLACK)
        return objects, time.monotonic() - began

    @contextmanager
    def _as_ours(self, what: str, asked: Sequence[Question | RelationTuple]) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            ours = told_as_ours(error, what, asked)
            if ours is None:
                raise
            if isinstance(ours, ModelMismatch):
                self._model.doubt()
            if isinstance(ours, TokenRefused):
                self._model.refused()
            raise ours from error
