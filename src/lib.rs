//! `tutti`: several local language models write each token together.
//!
//! The map, from the outside in (an arrow means "may use"; `tests/it/boundaries.rs` holds them):
//!
//! ```text
//! main -> everything
//! server -> report -> engine -> ensemble -> {model, vocab, sampling, tokenizer, constrain}
//! eval -> {report, engine}
//! bench, inspect -> ensemble
//! config, store: used by main only; config names what {report, ensemble, sampling, model,
//! tokenizer} can be set to;
//! gguf, safetensors -> mapped: leaves under model and tokenizer
//! isa: a leaf under model, sampling and vocab
//! ```
//!
//! | module | does | may not |
//! |---|---|---|
//! | [`config`] | TOML and environment into one checked [`config::Config`] | be read again after start-up |
//! | [`store`] | brings the files of models and data sets to the disk, whole and checked | know what is in the files |
//! | [`mapped`] | maps files into memory and cuts tensors out | know formats |
//! | [`gguf`] | reads the metadata and tensors of a GGUF file, split or not | know models or tokenizers |
//! | [`safetensors`] | reads the tensors of a folder of safetensors | know models or tokenizers |
//! | `isa` | compiles a function for each instruction set, and picks | know what is computed |
//! | [`tokenizer`] | text to [`vocab::TokenId`] and back, chat templates | know the union, or tensors |
//! | [`sampling`] | draws from a slice of probabilities | see tensors, clocks, a global generator |
//! | [`model`] | forwards rows of tokens, keeps keys and values | know other members, the union, requests |
//! | [`vocab`] | the union vocabulary on bytes and each member's map into it | know tensors, threads, `String` tokens |
//! | [`constrain`] | JSON schema to the set of allowed union pieces | know members |
//! | [`ensemble`] | one token step: forward, project, mix, choose, commit | use HTTP, serde, queues |
//! | [`engine`] | the thread that owns all sequences; [`engine::Generate`] | use axum or wire types |
//! | [`bench`] | times forwards, steps and first tokens; a table of it | know engine, server, sockets |
//! | [`inspect`] | lays out how members split a text and what they would say next | read files, know engine, server |
//! | [`server`] | the OpenAI-compatible HTTP API | use candle, do arithmetic |
//! | [`report`] | plan, sections in parallel, one document; keeps every run | know that there is an ensemble, open sockets |
//! | [`eval`] | tasks, scorers, paired statistics, tables over [`engine::Generate`] | be needed by what serves, open files of models |
//!
//! Invariants, as absences: no raw `u32` token id crosses a function boundary; no token is a
//! `String` before the output stage; no sequence state lives in a model; no queue grows without
//! bound; no arrow of the map points upwards.
//!
//! Where the code departs from the first sketch of the design, and why:
//!
//! - `gguf` is a module of its own, because both the tokenizer and the model are read from the
//!   same file and neither may know the other; `safetensors` stands beside it for the sake of
//!   order, and both become one `model::Checkpoint`.
//! - `isa` is a module of its own, and the one place besides the kernels and the memory map with
//!   unsafe code (the call of a function compiled for other instructions), because the draw goes
//!   through a whole vocabulary as the kernels do, and may not know tensors or models.
//! - No candle tensor is on a model's way: weights stay as they lie in the mapped file and are
//!   multiplied by kernels of our own, whose results are the same bits on every instruction set,
//!   in every batch and on any number of threads. Candle reads the file and is the oracle of the
//!   kernels' tests. Only on other devices (`engine.device`) its tensors do the work, and there
//!   results are the same to rounding only.
//! - Union ids are the rank of the piece in byte order (`End` last). Ties then break by byte
//!   string without a second table, and the ids do not depend on the order of the members.

pub mod bench;
pub mod config;
pub mod constrain;
pub mod engine;
pub mod ensemble;
pub mod eval;
pub mod gguf;
pub mod inspect;
mod isa;
pub mod mapped;
pub mod model;
pub mod report;
pub mod safetensors;
pub mod sampling;
pub mod server;
pub mod store;
pub mod tokenizer;
pub mod vocab;
