"""Asks a running server through the official OpenAI SDK.

    pip install -r tests/clients/requirements.txt
    python tests/clients/openai_sdk.py http://127.0.0.1:8080/v1

Every model that the server lists is asked plainly, as a stream, for a JSON schema, for calls of a
function, and through the Responses API; then come the errors that the SDK must recognise. With a
process id after the address, the server is stopped at the end while a stream runs, which has to
end in an error. Ends with status 1 at the first thing that is not so.
"""

import http.server
import json
import os
import signal
import sys
import threading
import urllib.request
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
    return choice.message.content, choice.finish_reason, counted(answer.usage)


def counted(usage):
    """Without what was in a cache already, which is more the second time."""
    return usage.prompt_tokens, usage.completion_tokens, usage.total_tokens


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
    return text, chunks[-2].choices[0].finish_reason, counted(chunks[-1].usage)


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


WEATHER = {
    "name": "weather",
    "description": "the weather at a place",
    "parameters": {
        "type": "object",
        "properties": {"at": {"type": "string", "enum": ["Rome", "Bern"]}},
        "required": ["at"],
        "additionalProperties": False,
    },
}


def ask_for_call(client, model):
    asked = {
        "model": model,
        "messages": [{"role": "user", "content": "What is the weather in Rome?"}],
        "tools": [{"type": "function", "function": WEATHER}],
        "tool_choice": {"type": "function", "function": {"name": "weather"}},
        "max_tokens": 64,
        "seed": 7,
    }
    plain = client.chat.completions.create(**asked).choices[0]
    with client.chat.completions.stream(**asked) as stream:
        streamed = stream.get_final_completion().choices[0]
    for choice in (plain, streamed):
        call = choice.message.tool_calls[0]
        check(choice.finish_reason == "tool_calls", f"{model}: {choice}")
        check(call.function.name == "weather", f"{model}: {call}")
        check(json.loads(call.function.arguments)["at"] in ("Rome", "Bern"), f"{model}: {call}")
    same = [choice.message.tool_calls[0].function.arguments for choice in (plain, streamed)]
    check(same[0] == same[1], f"{model}: {same}")
    result = {"role": "tool", "tool_call_id": plain.message.tool_calls[0].id, "content": "sun"}
    after = [*asked["messages"], plain.message, result]
    answer = client.chat.completions.create(
        model=model, messages=after, tools=asked["tools"], tool_choice="none", max_tokens=8
    )
    check(answer.choices[0].message.content is not None, f"{model}: {answer}")


def spelled(tokens):
    return b"".join(bytes(token.bytes) for token in tokens).decode()


def ask_for_response(client, model):
    logprobs = {"include": ["message.output_text.logprobs"], "top_logprobs": 2}
    asked = {"model": model, "input": "What is a duet?", "max_output_tokens": 24, **logprobs}
    plain = client.responses.create(**asked)
    check(plain.output_text, f"{model}: {plain}")
    check(plain.status in ("completed", "incomplete"), f"{model}: {plain}")
    told = plain.output[0].content[0].logprobs
    check(spelled(told) == plain.output_text, f"{model}: {told}")
    check(all(len(token.top_logprobs) == 2 for token in told), f"{model}: {told}")
    kinds, text, told = [], "", []
    for event in client.responses.create(stream=True, **asked):
        check(event.sequence_number == len(kinds), f"{model}: {event}")
        kinds.append(event.type)
        if event.type == "response.output_text.delta":
            text += event.delta
            told += event.logprobs
        last = event
    check(kinds[0] == "response.created", f"{model}: {kinds}")
    check(last.response.output_text == text, f"{model}: {last}")
    check(spelled(told) == text, f"{model}: {told}")
    asked = {"model": model, "input": "Review this as JSON: a fine film.", "text_format": Review}
    parsed = client.responses.parse(**asked)
    with client.responses.stream(**asked) as stream:
        streamed = stream.get_final_response()
    for answer in (parsed, streamed):
        check(isinstance(answer.output_parsed, Review), f"{model}: {answer}")
    tool = {"type": "function", "strict": True, **WEATHER}
    called = client.responses.create(
        model=model, input="The weather in Rome?", tools=[tool], tool_choice="required"
    )
    check(called.output[0].type == "function_call", f"{model}: {called.output}")
    check(json.loads(called.output[0].arguments)["at"] in ("Rome", "Bern"), f"{called.output}")


def ask_raw(client, model):
    raw = client.chat.completions.with_raw_response.create(
        model=model,
        messages=QUESTION,
        max_tokens=1,
        extra_headers={"x-request-id": "mine"},
        extra_body={"no_such_field": 1},
    )
    check(raw.headers["x-request-id"] == "mine", f"{raw.headers}")
    check(raw.headers["x-ignored-params"] == "no_such_field", f"{raw.headers}")
    text = client.completions.create(model=model, prompt=["One", "Two"], max_tokens=2, echo=True)
    check([choice.index for choice in text.choices] == [0, 1], f"{text}")
    check(text.choices[1].text.startswith("Two"), f"{text}")
    two = client.chat.completions.create(model=model, messages=QUESTION, max_tokens=2, n=2)
    check([choice.index for choice in two.choices] == [0, 1], f"{two}")


def come_back_when_told(base_url, model):
    """Behind a proxy that is full twice, the SDK waits as it is told and tries again."""
    asked = []

    class Proxy(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            asked.append(self.path)
            if len(asked) <= 2:
                status, kind = 429, "application/json"
                answer = b'{"error": {"message": "full", "code": "rate_limit_exceeded"}}'
            else:
                request = urllib.request.Request(base_url + self.path, body)
                request.add_header("content-type", "application/json")
                with urllib.request.urlopen(request) as onward:
                    status, kind, answer = onward.status, onward.headers["content-type"], onward.read()
            self.send_response(status)
            self.send_header("retry-after", "1")
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_):
            pass

    proxy = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{proxy.server_port}"
    patient = openai.OpenAI(base_url=address, api_key="none", max_retries=3)
    patient.chat.completions.create(model=model, messages=QUESTION, max_tokens=1)
    check(len(asked) == 3, f"asked {len(asked)} times")
    proxy.shutdown()


def stop_in_mid_stream(client, model, server):
    """The stream that outlives the server's grace ends in an error, not as if it were whole."""
    # A text that cannot end before the server does.
    numbers = {"type": "array", "items": {"type": "integer"}, "minItems": 400}
    schema = {"type": "object", "properties": {"n": numbers}, "required": ["n"]}
    stream = client.chat.completions.create(
        model=model,
        messages=QUESTION,
        stream=True,
        max_tokens=1900,
        response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": schema}},
    )
    chunks = 0
    try:
        for chunk in stream:
            chunks += 1
            if chunks == 3:
                os.kill(server, signal.SIGTERM)
    except openai.APIError as raised:
        check(raised.code == "engine_stopped", f"{raised!r}")
    else:
        check(False, f"the stream ended well after {chunks} chunks")


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
        ask_for_call(client, model)
        ask_for_response(client, model)
        ask_raw(client, model)
    come_back_when_told(str(client.base_url).rstrip("/"), models[0])
    expect(client, openai.NotFoundError, "model_not_found", "model", model="no-such-model")
    expect(
        client, openai.BadRequestError, "invalid_value", "temperature", model=models[0], temperature=3
    )
    expect(
        client,
        openai.BadRequestError,
        "unsupported_parameter",
        "modalities",
        model=models[0],
        modalities=["audio"],
    )
    print(f"{len(models)} models and 3 refusals are as openai {openai.__version__} wants them")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    # One try and no key: what the server says the first time is what is checked.
    client = openai.OpenAI(base_url=sys.argv[1], api_key="none", max_retries=0, timeout=300)
    main(client)
    if len(sys.argv) == 3:
        stop_in_mid_stream(client, client.models.list().data[0].id, int(sys.argv[2]))
        print("a stream that the server cuts ends in an error")
