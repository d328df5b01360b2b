"""LangChain core: a chain, agent or model as an operation: its tokens, steps, tools and errors.

    from tidegate.integrations.langchain import OperationCallback

    with operation("42", title="Answer") as op:
        chain.invoke(question, config={"callbacks": [OperationCallback(op)]})

| event of LangChain           | entry                                                             |
|------------------------------|-------------------------------------------------------------------|
| a token                      | `append` with `text`; small ones are joined                       |
| a chain, model, tool starts  | `step` with `step`, `kind`, `name`, `state` running               |
| and ends                     | the same with `completed`; `failed` has `error`                   |

Prompts, inputs and outputs are not published: only the application knows what viewers may see.
Errors are redacted like all of the reporter's. The operation itself is ended by its own block.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler

from tidegate.integrations.describing import describe_text
from tidegate.integrations.reported import TaskOperation
from tidegate.integrations.streams import Appending, chunk_text

STEP = "step"
#: Runs whose start is remembered; the oldest are forgotten.
RUNS_MAX = 1_000
#: Of chains the inner ones are many: a prompt, a parser.
HIDDEN_TAG = "langsmith:hidden"


class OperationCallback(BaseCallbackHandler):
    """Reports calls as one operation; may be used for several calls, one after the other."""

    def __init__(self, op: TaskOperation) -> None:
        self._op = op
        self._appending = Appending(op)
        self._runs: OrderedDict[UUID, tuple[str, str]] = OrderedDict()

    # -- models -----------------------------------------------------------------------------------

    def on_llm_start(self, serialized: Any, prompts: Any, *, run_id: UUID, **named: Any) -> None:
        """See LangChain."""
        self._begin("model", serialized, run_id, named)

    def on_chat_model_start(
        self, serialized: Any, messages: Any, *, run_id: UUID, **named: Any
    ) -> None:
        """See LangChain."""
        self._begin("model", serialized, run_id, named)

    def on_llm_new_token(self, token: Any, **named: Any) -> None:
        """See LangChain."""
        text = token if isinstance(token, str) else chunk_text({"content": token})
        self._appending.add(text or "")

    def on_llm_end(self, response: Any, *, run_id: UUID, **_: Any) -> None:
        """See LangChain."""
        self._end(run_id)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        """See LangChain."""
        self._end(run_id, error)

    # -- chains and tools -------------------------------------------------------------------------

    def on_chain_start(self, serialized: Any, inputs: Any, *, run_id: UUID, **named: Any) -> None:
        """See LangChain."""
        if HIDDEN_TAG not in (named.get("tags") or ()):
            self._begin("chain", serialized, run_id, named)

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **_: Any) -> None:
        """See LangChain."""
        self._end(run_id)

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        """See LangChain."""
        self._end(run_id, error)

    def on_tool_start(self, serialized: Any, input_str: Any, *, run_id: UUID, **named: Any) -> None:
        """See LangChain."""
        self._begin("tool", serialized, run_id, named)

    def on_tool_end(self, output: Any, *, run_id: UUID, **_: Any) -> None:
        """See LangChain."""
        self._end(run_id)

    def on_tool_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        """See LangChain."""
        self._end(run_id, error)

    # -- inside -----------------------------------------------------------------------------------

    def _begin(self, kind: str, serialized: Any, run_id: UUID, named: dict[str, Any]) -> None:
        name = named.get("name") or (serialized or {}).get("name") or kind
        self._runs[run_id] = (kind, str(name)[:200])
        while len(self._runs) > RUNS_MAX:
            self._runs.popitem(last=False)
        self._step(run_id, *self._runs[run_id], "running")

    def _end(self, run_id: UUID, error: BaseException | None = None) -> None:
        self._appending.flush()
        run = self._runs.pop(run_id, None)
        if run is None:
            return
        if error is None:
            self._step(run_id, *run, "completed")
        else:
            text = self._op.reporter.redact(describe_text(error))
            self._step(run_id, *run, "failed", error=text)

    def _step(self, run_id: UUID, kind: str, name: str, state: str, **data: str) -> None:
        # Not `status`: that would be the status of the operation.
        self._op.publish(
            STEP, {"step": str(run_id), "kind": kind, "name": name, "state": state, **data}
        )
