"""Writes tests/fixtures/templates.json: what jinja2 makes of conversations in real chat templates.

    pip install jinja2==3.1.6
    npm install @huggingface/ollama-utils@0.0.18
    python tests/reference/render_templates.py node_modules/@huggingface/ollama-utils [--show]

The templates are those of GGUF files, out of the package's `dist/index.js`. They are rendered as
`apply_chat_template` of the `transformers` library does it. Kept is the SHA-256 of each prompt, for
the templates' own text is not ours; `--show` prints the prompts. A history that a template refuses
has `null`.
"""

import hashlib
import json
import re
import sys
from pathlib import Path

import jinja2
import jinja2.ext
import jinja2.sandbox

FIXTURE = Path(__file__).parent.parent / "fixtures" / "templates.json"
# The template, its BOS and EOS, and whether it knows tools.
TEMPLATES = {
    "library/qwen3:0.6b": ("", "<|im_end|>", True),
    "library/qwen2.5:0.5b": ("", "<|im_end|>", True),
    "library/qwen2.5-coder:1.5b": ("", "<|im_end|>", True),
    "library/qwen2:0.5b": ("", "<|im_end|>", False),
    "library/llama3.1:8b": ("<|begin_of_text|>", "<|eot_id|>", True),
    "library/llama3.2:3b": ("<|begin_of_text|>", "<|eot_id|>", True),
    "library/llama3:8b": ("<|begin_of_text|>", "<|eot_id|>", False),
    "library/llama2:7b": ("<s>", "</s>", False),
    "library/mistral:7b-instruct-fp16": ("<s>", "</s>", False),
    "library/mistral-large:123b": ("<s>", "</s>", False),
    "library/mistral-small:24b": ("<s>", "</s>", False),
    "library/tinyllama:1.1b": ("<s>", "</s>", False),
    "library/smollm2:135m": ("<|im_start|>", "<|im_end|>", False),
}


def call(id, name, arguments):
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def function(name, description, parameters):
    return {
        "type": "function",
        "function": {"name": name, "description": description, "parameters": parameters},
    }


WEATHER = function(
    "weather",
    "The weather at a place, in °C & \"now\" <b>",
    {
        "type": "object",
        "properties": {"at": {"type": "string", "description": "Ort, z. B. Zürich"}},
        "required": ["at"],
    },
)
ADD = function(
    "add",
    "a + b",
    {
        "type": "object",
        "properties": {
            "terms": {"type": "array", "items": {"type": "number"}, "minItems": 2},
            "round": {"type": ["integer", "null"], "default": None, "enum": [None, 0, 1.5, True]},
        },
    },
)
ASKED = {"role": "user", "content": "Is it warmer in Rome or Bern?"}
CALLED = [
    ASKED,
    {"role": "assistant", "content": "", "tool_calls": [call("c1", "weather", {"at": "Rome"})]},
    {"role": "tool", "tool_call_id": "c1", "content": "21.5"},
]
CONVERSATIONS = {
    "a question": ([{"role": "user", "content": " Hi  there\n"}], []),
    "several turns": (
        [
            {"role": "system", "content": "Be brief.\n"},
            {"role": "user", "content": "What is 2+2? "},
            {"role": "assistant", "content": " 4"},
            {"role": "user", "content": "tab\tand \"quotes\" & 'more' <é> {{ x }}"},
        ],
        [],
    ),
    "thoughts": (
        [
            {"role": "user", "content": "One?"},
            {"role": "assistant", "content": "<think>\nhm\n</think>\n\nyes"},
            {"role": "user", "content": "Two?"},
            {"role": "assistant", "content": "<think>\nho\n</think>\n\nno"},
            {"role": "user", "content": "Three?"},
        ],
        [],
    ),
    "tools": ([{"role": "system", "content": "Be brief."}, ASKED], [WEATHER, ADD]),
    "tools without a system message": ([ASKED], [ADD]),
    "a call and its result": (CALLED, [WEATHER]),
    "two calls at once": (
        [
            ASKED,
            {
                "role": "assistant",
                "content": "I look it up.",
                "tool_calls": [
                    call("c1", "weather", {"at": "Rome", "days": [1, 2.5, None, True]}),
                    call("c2", "weather", {"at": "Bern's \"old\" town"}),
                ],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "21.5"},
            {"role": "tool", "tool_call_id": "c2", "content": "{\"sun\": \"é\"}"},
        ],
        [WEATHER],
    ),
    "an answer after a call": (
        [
            *CALLED,
            {"role": "assistant", "content": "<think>\nwarm\n</think>\n\n21.5 degrees."},
            {"role": "user", "content": "Thanks. And <|tomorrow|>?"},
        ],
        [WEATHER],
    ),
    "two users in a row": (
        [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}, {"role": "user", "content": "c"}],
        [],
    ),
}
DATE = {"date_string": "22 Nov 2026"}
ARGS = {
    "library/qwen3:0.6b": [{}, {"enable_thinking": False}, {"enable_thinking": True}],
    "library/llama3.1:8b": [{}, {**DATE, "tools_in_user_message": False}],
    "library/llama3.2:3b": [DATE, {**DATE, "tools_in_user_message": False}],
}
ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}


def literal(source, start):
    """The string of JavaScript that begins at `start`."""
    quote, text, at = source[start], "", start + 1
    while source[at] != quote:
        if source[at] == "\\":
            at += 1
            assert source[at] in "ntr\\'\"`$", source[at]
            text += ESCAPES.get(source[at], source[at])
        else:
            text += source[at]
        at += 1
    return text


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def main():
    source = (Path(sys.argv[1]) / "dist" / "index.js").read_text()
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    cases = []
    for name, (bos, eos, knows_tools) in TEMPLATES.items():
        found = re.search(r'model: "' + re.escape(name) + r'",\s*gguf: ', source)
        template = environment.from_string(literal(source, found.end()))
        for title, (messages, tools) in CONVERSATIONS.items():
            has_calls = tools or any("tool_calls" in message for message in messages)
            if has_calls and not knows_tools:
                continue
            for args in ARGS.get(name, [{}]):
                try:
                    prompt = template.render(
                        messages=messages,
                        tools=tools or None,
                        add_generation_prompt=True,
                        bos_token=bos,
                        eos_token=eos,
                        **args,
                    )
                except jinja2.exceptions.TemplateError as error:
                    print(name, title, "refused:", error)
                    prompt = None
                if prompt is not None and "--show" in sys.argv:
                    print(f"=== {name}, {title}, {args}\n{prompt}")
                sum = prompt is not None and hashlib.sha256(prompt.encode()).hexdigest() or None
                cases.append({"template": name, "bos": bos, "eos": eos, "conversation": title, "args": args, "sha256": sum})
    made_with = f"jinja2 {jinja2.__version__}; tests/reference/render_templates.py says how"
    conversations = {
        title: {"messages": messages, "tools": tools}
        for title, (messages, tools) in CONVERSATIONS.items()
    }
    row = lambda value: json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    talks = ",\n".join(f"{row(title)}: {row(value)}" for title, value in conversations.items())
    body = ",\n".join(map(row, cases))
    text = f'{{\n"made_with": {row(made_with)},\n"conversations": {{\n{talks}\n}},\n"cases": [\n{body}\n]\n}}\n'
    FIXTURE.write_text(text)


main()
