"""Asks a running server through the official OpenAI SDK.

    pip install -r tests/clients/requirements.txt
    python tests/clients/openai_sdk.py http://127.0.0.1:8080/v1

Every model that the server lists is asked plainly, as a stream, and for a JSON schema; then come
the errors that the SDK must recognise. Ends with status 1 at the first thing that is not so.
"""

import sys
from typing import Literal

import openai
from pydantic import BaseModel

QUESTION = [
    {"role": "system", "content": "You answer in one short sentence."},
    {"role": "user", "content": "What is a duet?"},
]
# Both answers to one seeded request are compared, so they must not depend on chance.
SEEDED = {"messages": QUESTION, "max_tokens": 24, "temperature": 0.7, "seed": 7}


class Review(BaseModel):
    """Closed values only, so that no model needs many tokens for it."""

    sentiment: Literal["good", "bad"]
    stars: Literal["1", "2", "3"]


def check(holds, what):
    if not holds:
        sys.exit(f"not so: {what}")


def ask_plainly(client, model):
    answer = client.chat.completions.create(model=model, **SEEDED)
    choice = answer.choices[0]
    check(answer.object == "chat.completion", f"{model}: {answer}")
    check(answer.model == model, f"{model}: the answer is from {answer.model}")
    check(choice.message.role == "assistant" and choice.message.content, f"{model}: {choice}")
    check(choice.finish_reason in ("stop", "length"), f"{model}: {choice}")
    check(0 < answer.usage.completion_tokens <= 24, f"{model}: {answer.usage}")
    return choice.message.content, choice.finish_reason, answer.usage


def ask_as_stream(client, model):
    chunks = list(
        client.chat.completions.create(
            model=model, stream=True, stream_options={"include_usage": True}, **SEEDED
        )
    )
    check(len({chunk.id for chunk in chunks}) == 1, f"{model}: chunks have different ids")
    check(chunks[0].choices[0].delta.role == "assistant", f"{model}: {chunks[0]}")
    check(chunks[-1].choices == [] and chunks[-1].usage, f"{model}: {chunks[-1]}")
    check(all(chunk.usage is None for chunk in chunks[:-1]), f"{model}: usage came early")
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1])
    return text, chunks[-2].choices[0].finish_reason, chunks[-1].usage


def ask_for_schema(client, model):
    answer = client.chat.completions.parse(
        model=model,
        messages=[{"role": "user", "content": "Review this as JSON: a fine film."}],
        response_format=Review,
        max_completion_tokens=64,
        seed=7,
    )
    check(isinstance(answer.choices[0].message.parsed, Review), f"{model}: {answer}")
    return answer.choices[0].message.parsed


def expect(client, error, code, param, **fields):
    """The request with `fields` must raise `error` with these."""
    try:
        client.chat.completions.create(**{"messages": QUESTION, "max_tokens": 1, **fields})
    except error as raised:
        check((raised.code, raised.param) == (code, param), f"{raised.code} {raised.param}")
    else:
        check(False, f"{fields} was served")


def main(client):
    models = [model.id for model in client.models.list()]
    check(models, "the server has models")
    for model in models:
        check(client.models.retrieve(model).id == model, f"{model} can be retrieved")
        plain = ask_plainly(client, model)
        streamed = ask_as_stream(client, model)
        check(plain == streamed, f"{model}: plain {plain}, streamed {streamed}")
        print(f"{model}: {plain[0]!r}, {ask_for_schema(client, model)}")
    expect(client, openai.NotFoundError, "model_not_found", "model", model="no-such-model")
    expect(
        client, openai.BadRequestError, "invalid_value", "temperature", model=models[0], temperature=3
    )
    expect(client, openai.BadRequestError, "unsupported_parameter", "n", model=models[0], n=2)
    print(f"{len(models)} models and 3 refusals are as openai {openai.__version__} wants them")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    # One try and no key: what the server says the first time is what is checked.
    client = openai.OpenAI(base_url=sys.argv[1], api_key="none", max_retries=0, timeout=300)
    main(client)
