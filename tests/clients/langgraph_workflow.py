"""The orchestrator-worker workflow of LangGraph's documentation, against a running server.

    python tests/clients/langgraph_workflow.py http://127.0.0.1:8080/v1 MODEL

A planner with structured output, by each of langchain's three methods, then a worker for each
section, in parallel, and their texts joined. Ends with an error at the first thing that is not so.
"""

import operator
import sys
from typing import Annotated, TypedDict

from langchain_core.messages import HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI
from langgraph.constants import END, START
from langgraph.graph import StateGraph
from langgraph.types import Send
from pydantic import BaseModel, Field


class Section(BaseModel):
    name: str = Field(description="the section's name")
    description: str = Field(description="what it is about")


class Plan(BaseModel):
    """The plan of a report."""

    sections: list[Section] = Field(min_length=1, max_length=3)


class State(TypedDict):
    topic: str
    sections: list[Section]
    completed: Annotated[list, operator.add]
    report: str


class WorkerState(TypedDict):
    section: Section
    completed: Annotated[list, operator.add]


def workflow(llm, method):
    planner = llm.with_structured_output(Plan, method=method)

    def plan(state):
        system = "Write the plan of a report as JSON with `sections`, each a `name` and a `description`."
        asked = [SystemMessage(system), HumanMessage(f"The topic is {state['topic']}.")]
        if method != "json_mode":
            return {"sections": planner.invoke(asked).sections}
        # The mode promises JSON, not this schema; a model this small rarely keeps to it by itself.
        raw = llm.with_structured_output(None, method=method).invoke(asked)
        assert isinstance(raw, dict), raw
        names = [str(name)[:40] for name in raw][:3] or [state["topic"]]
        return {"sections": [Section(name=name, description="") for name in names]}

    def write(state):
        section = state["section"]
        answer = llm.invoke([HumanMessage(f"Write one sentence on {section.name}.")])
        return {"completed": [answer.content]}

    def join(state):
        return {"report": "\n\n".join(state["completed"])}

    def send(state):
        return [Send("write", {"section": section}) for section in state["sections"]]

    graph = StateGraph(State)
    graph.add_node("plan", plan)
    graph.add_node("write", write)
    graph.add_node("join", join)
    graph.add_edge(START, "plan")
    graph.add_conditional_edges("plan", send, ["write"])
    graph.add_edge("write", "join")
    graph.add_edge("join", END)
    return graph.compile()


def main(base_url, model):
    llm = ChatOpenAI(base_url=base_url, api_key="none", model=model, max_tokens=300, seed=3)
    for method in ("json_schema", "function_calling", "json_mode"):
        state = workflow(llm, method).invoke({"topic": "the sea"})
        texts = state["completed"]
        assert len(texts) == len(state["sections"]), state
        assert all(isinstance(text, str) for text in texts), state
        print(f"{method}: {len(texts)} sections, {len(state['report'])} characters")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
