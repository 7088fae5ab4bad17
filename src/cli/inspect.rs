//! `tutti inspect`.

use std::{
    env,
    io::{self, IsTerminal, Write},
};

use serde_json::json;
use tutti::{
    config::Config,
    ensemble::Sequence,
    inspect::{self, Look, Next, Split},
    sampling::SamplingParams,
    store::Bars,
    tokenizer::chat::{Conversation, Message, Role},
};

use super::load;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The text
    text: String,
    /// An ensemble or a model; may be given again to see how more of them split the text [default:
    /// the configuration's]
    #[arg(long, value_name = "NAME")]
    model: Vec<String>,
    /// Load the models too and show what each, and all together, would say next
    #[arg(long)]
    next: bool,
    /// The text is a user's message, answered in each model's own template; shows what comes next
    #[arg(long)]
    chat: bool,
    /// How many pieces are shown of what comes next
    #[arg(long, value_name = "K", default_value_t = 10)]
    top: usize,
    /// Show the ids of the tokens
    #[arg(long)]
    ids: bool,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(config: &Config, args: &Args) -> anyhow::Result<()> {
    let default = [config.default_model.as_str()];
    let given: Vec<&str> = args.model.iter().map(String::as_str).collect();
    let names = if given.is_empty() { &default[..] } else { &given[..] };
    if args.next || args.chat {
        next(config, args, names)
    } else {
        let mut splits = Vec::new();
        for (name, tokenizer) in load::tokenizers(config, names, &Bars::stderr())? {
            splits.push(Split::new(&name, &tokenizer, &tokenizer.encode(args.text.as_bytes())));
        }
        write(args, &splits, &[])
    }
}

fn next(config: &Config, args: &Args, names: &[&str]) -> anyhow::Result<()> {
    let (mut splits, mut nexts) = (Vec::<Split>::new(), Vec::new());
    for (_, ensemble) in load::ensembles(config, names, &Bars::stderr())?.ensembles {
        let fusion = ensemble.fusion().clone();
        let prompts = if args.chat {
            let message = Message::new(Role::User, args.text.as_str());
            ensemble.chat_prompts(Conversation::new(&[message]), fusion)?
        } else {
            ensemble.text_prompts(args.text.as_bytes(), fusion)
        };
        for (member, tokens) in ensemble.members().iter().zip(&prompts.tokens) {
            if !splits.iter().any(|split| split.member == member.name) {
                splits.push(Split::new(&member.name, &member.tokenizer, tokens));
            }
        }
        let mut sequence = Sequence::new(&ensemble, prompts, SamplingParams::default(), None)?;
        nexts.push(Next::new(&ensemble, &ensemble.outlook(&mut sequence)?, args.top));
    }
    write(args, &splits, &nexts)
}

fn write(args: &Args, splits: &[Split], nexts: &[Next]) -> anyhow::Result<()> {
    let mut out = io::stdout();
    if args.json {
        let splits: Vec<_> = splits.iter().map(Split::to_json).collect();
        let nexts: Vec<_> = nexts.iter().map(Next::to_json).collect();
        let value = json!({"text": args.text, "splits": splits, "next": nexts});
        return Ok(writeln!(out, "{}", serde_json::to_string_pretty(&value)?)?);
    }
    // https://no-color.org: set and not empty.
    let plain = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let look = Look { colour: out.is_terminal() && !plain, ids: args.ids, width: 96 };
    inspect::write_splits(splits, look, &mut out)?;
    for next in nexts {
        inspect::write_next(next, look, &mut out)?;
    }
    Ok(())
}
