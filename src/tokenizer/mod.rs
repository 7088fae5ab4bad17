//! Text to token ids and back, from GGUF metadata or `tokenizer.json`; chat templates.
//!
//! Knows no union and no tensors; the only user of the `tokenizers` crate.
//!
//! Two kinds. Byte-level BPE: text is cut into pre-tokens by a pattern, and the bytes of each are
//! merged into tokens. `SentencePiece` BPE: characters are merged, a space is one of them, and what
//! no piece spells is written byte by byte.
//!
//! What holds for every text, UTF-8 or not: the bytes of its tokens, joined, are the text (as far as
//! the vocabulary has its bytes, see [`Tokenizer::missing_bytes`]). That is why no Unicode
//! normalisation is applied, though the published Qwen2 tokenizer composes its input (NFC): a
//! generated text would come back as other bytes. llama.cpp normalises nothing either. It is also
//! why a literal `▁`, which `SentencePiece` takes for a space, is spelled in bytes here.
//!
//! The space that some `SentencePiece` models see before a prompt ([`DummySpace`]) is in the ids of
//! [`Tokenizer::prompt`] and [`Tokenizer::chat`] and in nothing else: a text that is generated
//! begins with the bytes of its first token. Where such a model answers that is a space; it is not
//! shown, and what members of several vocabularies make of it is the ensemble's to say.

use std::{path::Path, time::SystemTime};

use sha2::{Digest, Sha256};

use crate::{
    gguf::{Gguf, GgufError},
    vocab::TokenId,
};

mod alphabet;
mod bpe;
pub mod chat;
mod encoded;
mod encoder;
mod from_folder;
mod from_gguf;
mod from_json;
mod sentencepiece;
mod spec;
mod special;
mod split;
mod template;
mod tools;

pub use encoded::Encoded;
pub use spec::{Algorithm, DummySpace, MergePair, SpecToken, TokenRole, TokenizerSpec};
pub use split::PreTokenizer;
pub use template::ChatError;

use chat::{Conversation, Message};
use encoder::Encoder;
use special::{Segment, Specials};
use template::Template;

/// Why a tokenizer could not be built.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    #[error(transparent)]
    Gguf(#[from] GgufError),
    #[error(
        "tokenizer kind `{kind}` is not supported; byte-level BPE (`gpt2`) and SentencePiece BPE \
         (`llama`) are"
    )]
    Kind { kind: String },
    #[error(
        "pre-tokenizer `{found}` is not supported; `qwen2`, `smollm`, `llama-bpe` and `gpt-2` are"
    )]
    PreTokenizer { found: String },
    #[error("the tokenizer needs {what}, which is not supported; use another model")]
    Unsupported { what: String },
    #[error("{file} is not readable: {reason}; fetch it again")]
    Json { file: &'static str, reason: String },
    #[error("token `{token}` is not spelled in the byte alphabet of GPT-2")]
    Spelling { token: String },
    #[error("the merges do not fit the tokens: {reason}")]
    Merges { reason: String },
    #[error("the tokenizer contradicts itself: {reason}")]
    Malformed { reason: String },
}

/// What a token is to a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// Stands for these bytes, at least one; they may be part of a character.
    Bytes(Vec<u8>),
    /// Ends the text.
    Stop,
    /// Stands for nothing and is never generated: padding, reserved ids, marks of the template.
    Control,
}

/// A model's vocabulary, its way from text to ids, and its chat template. Immutable.
#[derive(Debug)]
pub struct Tokenizer {
    kinds: Vec<TokenKind>,
    algorithm: String,
    stops: Vec<TokenId>,
    /// Of each of `stops`.
    stop_names: Vec<String>,
    bos: Option<TokenId>,
    specials: Specials,
    encoder: Encoder,
    dummy_space: DummySpace,
    template: Option<Template>,
    fingerprint: [u8; 32],
}

impl Tokenizer {
    /// Reads the metadata under `tokenizer.`.
    ///
    /// # Errors
    /// Also for tokenizer and pre-tokenizer kinds that are not supported, by name.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self, TokenizerError> {
        Self::from_spec(from_gguf::spec(gguf)?)
    }

    /// Reads Hugging Face's `tokenizer.json` and, for the end token, BOS and the chat template,
    /// the `tokenizer_config.json` beside it.
    ///
    /// # Errors
    /// Also for every part of a tokenizer that is not supported, by name.
    pub fn from_json(
        tokenizer_json: &[u8],
        config_json: Option<&[u8]>,
    ) -> Result<Self, TokenizerError> {
        Self::from_spec(from_json::spec(tokenizer_json, config_json)?)
    }

    /// Reads a folder with `tokenizer.json` and the files that Hugging Face's libraries save
    /// beside it.
    ///
    /// # Errors
    /// As [`from_json`](Self::from_json), and if `tokenizer.json` is missing.
    pub fn from_folder(folder: &Path) -> Result<Self, TokenizerError> {
        Self::from_spec(from_folder::spec(folder)?)
    }

    /// # Errors
    /// If a named id is no token, or a merge is not of tokens.
    pub fn from_spec(mut spec: TokenizerSpec) -> Result<Self, TokenizerError> {
        spec.settle_verbatim();
        spec.let_marks_be_written();
        let named = spec.stops.iter().chain(&spec.bos).chain(&spec.eos);
        if let Some(id) = named.copied().find(|id| id.0 as usize >= spec.tokens.len()) {
            let reason = format!("token {} is named, there are {}", id.0, spec.tokens.len());
            return Err(TokenizerError::Malformed { reason });
        }
        let fingerprint = fingerprint(&spec);
        let specials = Specials::new(&spec.tokens);
        let encoder = Encoder::new(&spec)?;
        let dummy_space = match spec.algorithm {
            Algorithm::ByteLevel { .. } => DummySpace::Never,
            Algorithm::SentencePiece { dummy_space, .. } => dummy_space,
        };
        let name = |id: Option<TokenId>| {
            id.map_or_else(String::new, |id| {
                String::from_utf8_lossy(&spec.tokens[id.0 as usize].bytes).into_owned()
            })
        };
        let (bos, eos) = (name(spec.bos), name(spec.eos));
        let stop_names = spec.stops.iter().map(|&id| name(Some(id))).collect();
        let template = spec.chat_template.map(|source| Template { source, bos, eos });
        Ok(Self {
            bos: spec.bos.filter(|_| spec.add_bos),
            algorithm: spec.algorithm.to_string(),
            kinds: kinds(spec.tokens, &spec.stops),
            stops: spec.stops,
            stop_names,
            specials,
            encoder,
            dummy_space,
            template,
            fingerprint,
        })
    }

    /// The number of ids. A model may have more logits than that.
    pub fn len(&self) -> usize {
        self.kinds.len()
    }

    pub fn is_empty(&self) -> bool {
        self.kinds.is_empty()
    }

    /// `None` past the last id; a logit there is as one of a control token.
    pub fn kind(&self, id: TokenId) -> Option<&TokenKind> {
        self.kinds.get(id.0 as usize)
    }

    /// What the token adds to a text; `None` for stop and control tokens.
    pub fn bytes(&self, id: TokenId) -> Option<&[u8]> {
        match self.kind(id)? {
            TokenKind::Bytes(bytes) => Some(bytes),
            TokenKind::Stop | TokenKind::Control => None,
        }
    }

    /// How a template writes a special token.
    pub fn mark(&self, id: TokenId) -> Option<&str> {
        self.specials.name(id)
    }

    /// All tokens that end a text; the first is the model's own choice.
    pub fn stops(&self) -> &[TokenId] {
        &self.stops
    }

    /// How each of [`stops`](Self::stops) is written in a template.
    pub fn stop_names(&self) -> &[String] {
        &self.stop_names
    }

    /// How text becomes tokens, for people.
    pub fn algorithm(&self) -> &str {
        &self.algorithm
    }

    /// Whether words, also the first of a text, are seen with a space before them.
    pub fn has_dummy_space(&self) -> bool {
        self.dummy_space != DummySpace::Never
    }

    /// Whether conversations can be [rendered](Self::render).
    pub fn has_template(&self) -> bool {
        self.template.is_some()
    }

    /// The bytes that no token stands for, in order. [`encode`](Self::encode) leaves them out.
    ///
    /// `SmolLM2` lacks 21: six control characters and the bytes that begin no character in use.
    pub fn missing_bytes(&self) -> &[u8] {
        self.encoder.missing()
    }

    /// A sum over everything that decides what ids mean and how text is encoded; not over the
    /// template.
    pub fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }

    /// The canonical ids of plain text.
    ///
    /// What looks like a special token is text, user-defined ones (`<tool_call>`) included; no BOS
    /// and no dummy space is added, nothing normalised. The bytes need not be UTF-8: an incomplete last character is
    /// cut into pre-tokens as a likely whole one, and invalid bytes as U+FFFD in their place, but
    /// the tokens are always those of the bytes given.
    pub fn encode(&self, text: &[u8]) -> Vec<TokenId> {
        let mut tokens = Vec::with_capacity(text.len() / 4 + 1);
        for piece in self.encoder.split(text) {
            self.encoder.encode(&text[piece.range], |id, _| tokens.push(id));
        }
        tokens
    }

    /// The ids of a raw prompt: plain text, after BOS and a dummy space if the model wants them.
    pub fn prompt(&self, text: &[u8]) -> Vec<TokenId> {
        self.bos.into_iter().chain(self.prompt_text(text, true)).collect()
    }

    /// The ids of a conversation in the model's own template, with the assistant's turn opened.
    ///
    /// Special tokens are read in the template's own text only: a message that says `<|im_end|>`
    /// says it in plain characters. BOS comes first, once, if the model wants one.
    ///
    /// # Errors
    /// If there is no template or it does not take these messages.
    pub fn chat(&self, messages: &[Message]) -> Result<Vec<TokenId>, ChatError> {
        self.converse(Conversation::new(messages))
    }

    /// As [`chat`](Self::chat), with tools and switches.
    ///
    /// # Errors
    /// As [`chat`](Self::chat).
    pub fn converse(&self, conversation: Conversation<'_>) -> Result<Vec<TokenId>, ChatError> {
        let marker = special::marker(conversation);
        let rendered = self.render_marked(conversation, marker)?;
        let mut tokens = Vec::new();
        for segment in self.specials.segments(&rendered) {
            match segment {
                Segment::Special(id) => tokens.push(id),
                Segment::Text(text) => {
                    let first = tokens.is_empty();
                    tokens.extend(self.prompt_text(text.replace(marker, "").as_bytes(), first));
                }
            }
        }
        if let Some(bos) = self.bos
            && tokens.first() != Some(&bos)
        {
            tokens.insert(0, bos);
        }
        Ok(tokens)
    }

    /// The text that [`converse`](Self::converse) encodes, to look at: which parts of it are special
    /// tokens cannot be seen any more.
    ///
    /// # Errors
    /// As [`chat`](Self::chat).
    pub fn render(&self, conversation: Conversation<'_>) -> Result<String, ChatError> {
        let marker = special::marker(conversation);
        Ok(self.render_marked(conversation, marker)?.replace(marker, ""))
    }

    /// A text of a prompt, which may be the first in it.
    fn prompt_text(&self, text: &[u8], first: bool) -> Vec<TokenId> {
        let spaced = match self.dummy_space {
            DummySpace::Never => false,
            DummySpace::First => first && !text.starts_with(b" "),
            DummySpace::Every => true,
        };
        if spaced && !text.is_empty() {
            self.encode(&[b" ", text].concat())
        } else {
            self.encode(text)
        }
    }

    fn render_marked(
        &self,
        conversation: Conversation<'_>,
        marker: char,
    ) -> Result<String, ChatError> {
        let template = self.template.as_ref().ok_or(ChatError::NoTemplate)?;
        let messages = self.specials.broken(conversation.messages, marker);
        let tools = self.specials.broken_tools(conversation.tools, marker);
        let args = self.specials.broken_args(conversation.args, marker);
        let broken = Conversation { messages: &messages, tools: &tools, args: &args };
        template.render(broken, SystemTime::now())
    }
}

fn kinds(tokens: Vec<SpecToken>, stops: &[TokenId]) -> Vec<TokenKind> {
    let kind = |(id, token): (TokenId, SpecToken)| match token.role {
        _ if stops.contains(&id) => TokenKind::Stop,
        TokenRole::Control | TokenRole::Unused => TokenKind::Control,
        _ if token.bytes.is_empty() => TokenKind::Control,
        _ => TokenKind::Bytes(token.bytes),
    };
    (0..).map(TokenId).zip(tokens).map(kind).collect()
}

/// Every field length-prefixed, so that no two specs write the same bytes.
fn fingerprint(spec: &TokenizerSpec) -> [u8; 32] {
    fn field(buffer: &mut Vec<u8>, bytes: &[u8]) {
        buffer.extend((bytes.len() as u64).to_le_bytes());
        buffer.extend(bytes);
    }
    let mut buffer = Vec::new();
    match &spec.algorithm {
        Algorithm::ByteLevel { pre_tokenizer, ignore_merges } => {
            field(&mut buffer, pre_tokenizer.name().as_bytes());
            buffer.push(u8::from(*ignore_merges));
        }
        Algorithm::SentencePiece { scores, dummy_space } => {
            field(&mut buffer, b"sentencepiece");
            buffer.push(*dummy_space as u8);
            let scores = scores.iter().flatten().flat_map(|score| score.to_le_bytes());
            field(&mut buffer, &scores.collect::<Vec<_>>());
        }
    }
    field(&mut buffer, &spec.stops.iter().flat_map(|id| id.0.to_le_bytes()).collect::<Vec<_>>());
    buffer.extend((spec.tokens.len() as u64).to_le_bytes());
    for token in &spec.tokens {
        buffer.push(token.role as u8);
        field(&mut buffer, &token.bytes);
    }
    for (a, b) in &spec.merges {
        field(&mut buffer, a);
        field(&mut buffer, b);
    }
    Sha256::digest(&buffer).into()
}
