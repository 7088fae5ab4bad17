"""Asks a running server through EleutherAI's `lm-eval`, and checks the figures that it gets.

    python tests/clients/lm_eval/check.py http://127.0.0.1:8080/v1 MODEL [LOG]

`local-completions` scores the choices of `questions.jsonl` and writes answers, with the server's
tokenizer; `local-chat-completions` writes answers. `lm-eval` names no model to the tokenizer, so
MODEL has to be the first that the server lists, or share its vocabulary. What it was given must be
what the server says of the same texts when it is asked plainly. With the log of a `tutti eval --data
questions.jsonl --kind mc` of the same model, its log-probabilities must be those too: they are
found without HTTP.
Ends with an error at the first thing that is not so.
"""

import json
import math
import os
import sys
from pathlib import Path

# Nothing is fetched: the tasks are here.
os.environ["HF_HUB_OFFLINE"] = "1"

import lm_eval
import openai
from lm_eval.tasks import TaskManager

HERE = Path(__file__).parent
TOKENS = 24
STOPS = ["\n", "Question:"]


def evaluate(kind, address, model, task):
    """What `lm-eval` makes of a task: its figures, and for each sample prompts and answers."""
    os.chdir(HERE)
    remote = {"tokenizer_backend": "remote"} if kind == "local-completions" else {}
    found = lm_eval.simple_evaluate(
        model=kind,
        model_args={"model": model, "base_url": address, "max_length": 2048, **remote},
        tasks=[task],
        task_manager=TaskManager(include_path=str(HERE), include_defaults=False),
        apply_chat_template=kind == "local-chat-completions",
        log_samples=True,
        bootstrap_iters=0,
    )
    return found["results"][task], found["samples"][task]


def close(one, other):
    """The same numbers, added up in another order."""
    return len(one) == len(other) and all(math.isclose(a, b, abs_tol=1e-4) for a, b in zip(one, other))


def logprob(client, model, context, text):
    """The logarithm of a text's probability after a context, and whether it is the greedy one."""
    answer = client.completions.create(
        model=model, prompt=context + text, echo=True, logprobs=1, max_tokens=1
    )
    told = answer.choices[0].logprobs
    end = len(context + text)
    places = [at for at, start in enumerate(told.text_offset) if len(context) <= start < end]
    assert told.text_offset[places[0]] == len(context), "the context ends where a token does"
    chosen = [told.token_logprobs[at] for at in places]
    best = [max(told.top_logprobs[at].values()) for at in places]
    return sum(chosen), chosen == best


def choices(client, base, model):
    """The log-probabilities of all choices, row by row."""
    figures, samples = evaluate("local-completions", f"{base}/completions", model, "tutti_choice")
    rows = []
    for sample in sorted(samples, key=lambda sample: sample["doc_id"]):
        got = [answer for answer, in sample["resps"]]
        pairs = [argument[:2] for argument in sample["arguments"]]
        plain = [logprob(client, model, *pair) for pair in pairs]
        assert close([p for p, _ in got], [p for p, _ in plain]), (got, plain)
        assert [greedy for _, greedy in got] == [greedy for _, greedy in plain], (got, plain)
        rows.append([p for p, _ in got])
    return figures["acc,none"], rows


def logged(path, model):
    """What `tutti eval` found of the same rows."""
    rows, right = {}, {}
    for line in map(json.loads, Path(path).read_text().splitlines()):
        if line["line"] == "sample" and line["system"] == model:
            rows[int(line["sample"])] = line["detail"]["logprobs"]
            right[int(line["sample"])] = line["scores"]["right, sum"][0]
    assert rows, f"{path} has nothing of {model}"
    return sum(right.values()) / len(right), [rows[line] for line in sorted(rows)]


def answers(client, base, model):
    """Greedy texts up to a stop string, raw and as a chat."""
    _, samples = evaluate("local-completions", f"{base}/completions", model, "tutti_write")
    asked = {"model": model, "temperature": 0, "max_tokens": TOKENS, "stop": STOPS}
    for sample in samples:
        prompt, _ = sample["arguments"][0]
        plain = client.completions.create(prompt=prompt, **asked).choices[0]
        assert sample["resps"] == [[plain.text]], (sample["resps"], plain)
        assert not any(stop in plain.text for stop in STOPS), plain
    _, samples = evaluate("local-chat-completions", f"{base}/chat/completions", model, "tutti_write")
    for sample in samples:
        (chat,) = sample["arguments"][0][0]
        plain = client.chat.completions.create(messages=json.loads(chat), **asked).choices[0]
        assert sample["resps"] == [[plain.message.content]], (sample["resps"], plain)
    return len(samples)


def main(base, model, log=None):
    client = openai.OpenAI(base_url=base, api_key="none", max_retries=0, timeout=300)
    found = logged(log, model) if log else None
    accuracy, rows = choices(client, base, model)
    print(f"{model}: accuracy {accuracy} on {len(rows)} questions, as the server says itself")
    if found:
        own_accuracy, own = found
        assert accuracy == own_accuracy, (accuracy, own_accuracy)
        assert len(rows) == len(own) and all(map(close, rows, own)), (rows, own)
        print(f"{model}: `tutti eval` finds the same {sum(map(len, rows))} log-probabilities")
    print(f"{model}: {answers(client, base, model)} answers, raw and as chats")


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    main(*sys.argv[1:])
