//! Shows how tokenizers split a text, and what an ensemble would say next, to be read in a terminal
//! or by a program.
//!
//! Reads no files and knows no engine: tokens, distributions and a place to write to.

use std::io::{self, Write};

use serde_json::{Value, json};

use crate::{
    ensemble::{Ensemble, Outlook},
    tokenizer::Tokenizer,
    vocab::{Piece, TokenId, UnionId, VocabMap},
};

/// How to write.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// With the colours of a terminal.
    pub colour: bool,
    /// With the id of each token.
    pub ids: bool,
    /// Columns of a line.
    pub width: usize,
}

/// One member's tokens of a text.
#[derive(Debug)]
pub struct Split {
    pub member: String,
    pub tokens: Vec<Token>,
}

#[derive(Debug)]
pub struct Token {
    pub id: TokenId,
    /// `None` for a special one.
    pub bytes: Option<Vec<u8>>,
    /// How a template writes it, of a special one.
    pub mark: Option<String>,
}

/// What comes next.
#[derive(Debug)]
pub struct Next {
    /// The members that take part.
    members: Vec<Member>,
    mix: Vec<Mixed>,
}

#[derive(Debug)]
struct Member {
    name: String,
    weight: f32,
    top: Vec<(Piece, f32)>,
}

/// A piece of the mixture, and what each member says of it; `None` if it has no token for it.
#[derive(Debug)]
struct Mixed {
    piece: Piece,
    probability: f32,
    said: Vec<Option<f32>>,
}

impl Split {
    pub fn new(member: &str, tokenizer: &Tokenizer, tokens: &[TokenId]) -> Self {
        let token = |&id: &TokenId| Token {
            id,
            bytes: tokenizer.bytes(id).map(<[u8]>::to_vec),
            mark: tokenizer.mark(id).map(str::to_owned),
        };
        Self { member: member.to_owned(), tokens: tokens.iter().map(token).collect() }
    }

    pub fn to_json(&self) -> Value {
        let token = |token: &Token| {
            let bytes = token.bytes.as_deref();
            let text = bytes.and_then(|bytes| str::from_utf8(bytes).ok());
            json!({"id": token.id.0, "text": text, "bytes": bytes, "mark": token.mark})
        };
        json!({"model": self.member, "tokens": self.tokens.iter().map(token).collect::<Vec<_>>()})
    }
}

impl Next {
    /// The `count` most probable pieces of each member and of the mixture.
    pub fn new(ensemble: &Ensemble, outlook: &Outlook, count: usize) -> Self {
        let piece = |id: UnionId| ensemble.union().piece(id).clone();
        let active: Vec<(usize, &Vec<f32>)> = outlook
            .members
            .iter()
            .enumerate()
            .filter_map(|(member, own)| Some((member, own.as_ref()?)))
            .collect();
        let members = active
            .iter()
            .map(|&(member, own)| Member {
                name: ensemble.members()[member].name.clone(),
                weight: ensemble.members()[member].weight,
                top: top(own, count).into_iter().map(|(id, p)| (piece(id), p)).collect(),
            })
            .collect();
        let mixed = |(id, probability): (UnionId, f32)| Mixed {
            piece: piece(id),
            probability,
            said: active
                .iter()
                .map(|&(member, own)| {
                    let given = own[id.0 as usize];
                    (given > 0.0 || has(&ensemble.maps()[member], id)).then_some(given)
                })
                .collect(),
        };
        Self { members, mix: top(&outlook.mix, count).into_iter().map(mixed).collect() }
    }

    pub fn to_json(&self) -> Value {
        let guess = |piece: &Piece, probability: f32| {
            let (bytes, end) = match piece {
                Piece::Bytes(bytes) => (Some(bytes.as_slice()), false),
                Piece::End => (None, true),
            };
            let text = bytes.and_then(|bytes| str::from_utf8(bytes).ok());
            json!({"text": text, "bytes": bytes, "end": end, "probability": probability})
        };
        let member = |member: &Member| {
            let top: Vec<Value> = member.top.iter().map(|(piece, p)| guess(piece, *p)).collect();
            json!({"model": member.name, "weight": member.weight, "top": top})
        };
        let mixed = |mixed: &Mixed| {
            let mut value = guess(&mixed.piece, mixed.probability);
            value["members"] = json!(mixed.said);
            value
        };
        json!({
            "members": self.members.iter().map(member).collect::<Vec<_>>(),
            "mix": self.mix.iter().map(mixed).collect::<Vec<_>>(),
        })
    }
}

/// The most probable pieces, of equals the first in byte order.
fn top(probs: &[f32], count: usize) -> Vec<(UnionId, f32)> {
    let mut order: Vec<(u32, f32)> =
        (0..).zip(probs.iter().copied()).filter(|p| p.1 > 0.0).collect();
    order.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    order.truncate(count);
    order.into_iter().map(|(id, p)| (UnionId(id), p)).collect()
}

fn has(map: &VocabMap, piece: UnionId) -> bool {
    let len = u32::try_from(map.len()).expect("a vocabulary has fewer than 2^32 entries");
    (0..len).any(|token| map.get(TokenId(token)) == Some(piece))
}

/// Backgrounds that black reads well on, for tokens in turn (of the 256 of a terminal).
const GROUNDS: [u8; 4] = [153, 157, 223, 183];

/// Each member's tokens, borders visible.
///
/// # Errors
/// If `out` cannot be written to.
pub fn write_splits(splits: &[Split], look: Look, out: &mut dyn Write) -> io::Result<()> {
    let width = splits.iter().map(|split| columns(&split.member)).max().unwrap_or(0);
    for split in splits {
        let name = format!("{}{}", split.member, " ".repeat(width - columns(&split.member)));
        let count = match split.tokens.len() {
            1 => "1 token".to_owned(),
            count => format!("{count} tokens"),
        };
        writeln!(out, "{}  {}", paint(&name, "1", look), paint(&count, "2", look))?;
        let mut used = 0;
        for (index, token) in split.tokens.iter().enumerate() {
            let (text, style) = match &token.bytes {
                Some(bytes) => {
                    let part = if str::from_utf8(bytes).is_err() { ";4" } else { "" };
                    (visible(bytes), format!("30;48;5;{}{part}", GROUNDS[index % GROUNDS.len()]))
                }
                None => {
                    let mark = token.mark.as_ref().map(|mark| visible(mark.as_bytes()));
                    let mark = mark.unwrap_or_else(|| token.id.0.to_string());
                    (format!("⟨{mark}⟩"), "7".to_owned())
                }
            };
            let shows_id = look.ids && (token.bytes.is_some() || token.mark.is_some());
            let id = if shows_id { token.id.0.to_string() } else { String::new() };
            let border = if look.colour { "" } else { "│" };
            let wide = columns(&text) + columns(&id) + columns(border) + usize::from(look.ids);
            if used == 0 || used + wide > look.width {
                write!(out, "{}  ", if used == 0 { "" } else { "\n" })?;
                used = 2;
            }
            write!(out, "{}{border}", paint(&text, &style, look))?;
            if look.ids {
                write!(out, "{} ", paint(&id, "2", look))?;
            }
            used += wide;
        }
        writeln!(out, "\n")?;
    }
    Ok(())
}

/// The members' most probable pieces side by side; then those of the mixture, with what each member
/// says of them.
///
/// # Errors
/// If `out` cannot be written to.
pub fn write_next(next: &Next, look: Look, out: &mut dyn Write) -> io::Result<()> {
    let chosen = next.mix.first().map(|mixed| &mixed.piece);
    let several = next.members.len() > 1;
    let names: Vec<String> = next
        .members
        .iter()
        .map(|member| match several {
            true => format!("{} × {:.2}", member.name, member.weight),
            false => member.name.clone(),
        })
        .collect();
    let cell = names.iter().map(|name| columns(name)).max().unwrap_or(0).max(CELL);
    let rows = next.members.iter().map(|member| member.top.len()).max().unwrap_or(0);
    let heads: Vec<String> =
        names.iter().map(|name| paint(&padded(name, cell), "1", look)).collect();
    writeln!(out, "    {}", heads.join("   "))?;
    for row in 0..rows {
        write!(out, "{}", paint(&format!("{:>3}", row + 1), "2", look))?;
        for member in &next.members {
            let Some((piece, probability)) = member.top.get(row) else {
                write!(out, "{}", " ".repeat(cell + 3))?;
                continue;
            };
            let style = if Some(piece) == chosen { "1;32" } else { "0" };
            write!(out, " {}  ", guess(piece, *probability, cell, style, look))?;
        }
        writeln!(out)?;
    }
    if !several {
        return Ok(());
    }
    writeln!(out, "\n    {}", paint(&padded("together", CELL), "1", look))?;
    for (row, mixed) in next.mix.iter().enumerate() {
        let style = if row == 0 { "1;32" } else { "0" };
        let said: Vec<String> = next
            .members
            .iter()
            .zip(&mixed.said)
            .map(|(member, said)| match said {
                Some(said) => format!("{} {}", member.name, percent(*said).trim_start()),
                None => format!("{} has no such token", member.name),
            })
            .collect();
        let rank = paint(&format!("{:>3}", row + 1), "2", look);
        let guess = guess(&mixed.piece, mixed.probability, CELL, style, look);
        writeln!(out, "{rank} {guess}   {}", paint(&said.join(" · "), "2", look))?;
    }
    Ok(())
}

/// A piece, its bar and its probability.
const CELL: usize = 14 + 1 + BAR + 1 + 7;
const BAR: usize = 10;

fn guess(piece: &Piece, probability: f32, cell: usize, style: &str, look: Look) -> String {
    let text = match piece {
        Piece::Bytes(bytes) => visible(bytes),
        Piece::End => "⟨end⟩".to_owned(),
    };
    let room = cell - BAR - 9;
    let text = if columns(&text) > room {
        let kept: String = text.chars().take(room - 1).collect();
        format!("{kept}…")
    } else {
        text
    };
    let text = padded(&text, room);
    let eighths = (probability * 8.0 * BAR as f32).round() as usize;
    let mut bar = "█".repeat(eighths / 8);
    bar.push_str(["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"][eighths % 8]);
    let bar = padded(&bar, BAR);
    format!("{} {} {}", paint(&text, style, look), paint(&bar, "36", look), percent(probability))
}

fn percent(probability: f32) -> String {
    format!("{:>5.1} %", 100.0 * probability)
}

/// Text as it is, with whitespace and single bytes made visible.
fn visible(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                ' ' => text.push('·'),
                '\n' => text.push('⏎'),
                '\t' => text.push('⇥'),
                // Among them what would steer the terminal.
                c if c.is_control() || INVISIBLE.contains(&c) => text.extend(c.escape_unicode()),
                c => text.push(c),
            }
        }
        text.extend(chunk.invalid().iter().map(|byte| format!("⟨{byte:02X}⟩")));
    }
    text
}

/// Marks that join, hide or turn the text around them.
const INVISIBLE: [char; 12] = [
    '\u{ad}', '\u{200b}', '\u{200c}', '\u{200d}', '\u{200e}', '\u{200f}', '\u{202a}', '\u{202b}',
    '\u{202c}', '\u{202d}', '\u{202e}', '\u{feff}',
];

fn padded(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(columns(text))))
}

/// How many columns of a terminal the text takes.
fn columns(text: &str) -> usize {
    unicode_width::UnicodeWidthStr::width(text)
}

fn paint(text: &str, style: &str, look: Look) -> String {
    if look.colour { format!("\x1b[{style}m{text}\x1b[0m") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Look = Look { colour: false, ids: false, width: 24 };

    fn split(tokens: &[(u32, Option<&[u8]>)]) -> Split {
        let token = |&(id, bytes): &(u32, Option<&[u8]>)| Token {
            id: TokenId(id),
            bytes: bytes.map(<[u8]>::to_vec),
            mark: (id == 9).then(|| "<|x\x1b|>".to_owned()),
        };
        Split { member: "toy".to_owned(), tokens: tokens.iter().map(token).collect() }
    }

    fn splits(split: Split, look: Look) -> String {
        let mut out = Vec::new();
        write_splits(&[split], look, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn tokens_are_shown_with_their_borders_whitespace_and_bytes() {
        let tokens =
            [(1, None), (2, Some(&b"a b"[..])), (3, Some(b"\n\t")), (4, Some(b"\xe2\x9c"))];
        assert_eq!(splits(split(&tokens), PLAIN), "toy  4 tokens\n  ⟨1⟩│a·b│⏎⇥│⟨E2⟩⟨9C⟩│\n\n");
        let ids = Look { ids: true, ..PLAIN };
        assert_eq!(splits(split(&tokens[1..3]), ids), "toy  2 tokens\n  a·b│2 ⏎⇥│3 \n\n");
        assert_eq!(splits(split(&[(9, None)]), ids), "toy  1 token\n  ⟨<|x\\u{1b}|>⟩│9 \n\n");
        let coloured = splits(split(&tokens[3..]), Look { colour: true, ..PLAIN });
        assert!(coloured.contains("\x1b[30;48;5;153;4m⟨E2⟩⟨9C⟩\x1b[0m"), "{coloured:?}");
        let steering = splits(split(&[(1, Some(b"\x1b[2J"))]), PLAIN);
        assert!(steering.contains(r"\u{1b}[2J") && !steering.contains('\x1b'), "{steering:?}");
    }

    #[test]
    fn long_texts_are_broken_between_tokens() {
        let tokens: Vec<(u32, Option<&[u8]>)> =
            (0..5).map(|id| (id, Some("缩放定律".as_bytes()))).collect();
        for line in splits(split(&tokens), PLAIN).lines() {
            assert!(columns(line) <= 24, "{line}");
        }
    }

    #[test]
    fn what_members_and_mixture_say_stands_side_by_side() {
        let piece = |text: &str| Piece::Bytes(text.as_bytes().to_vec());
        let member = |name: &str, top: &[(&str, f32)]| Member {
            name: name.to_owned(),
            weight: 0.5,
            top: top.iter().map(|&(text, p)| (piece(text), p)).collect(),
        };
        let next = Next {
            members: vec![member("small", &[(" a", 0.75)]), member("large", &[(" ab", 0.5)])],
            mix: vec![
                Mixed { piece: piece(" a"), probability: 0.5, said: vec![Some(0.75), Some(0.25)] },
                Mixed { piece: Piece::End, probability: 0.25, said: vec![None, Some(0.5)] },
            ],
        };
        let mut out = Vec::new();
        write_next(&next, PLAIN, &mut out).unwrap();
        let out = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = out.lines().map(str::trim_end).collect();
        assert_eq!(
            lines[0].split_whitespace().collect::<Vec<_>>(),
            ["small", "×", "0.50", "large", "×", "0.50"]
        );
        assert_eq!(lines[1].matches('%').count(), 2, "{out}");
        assert!(lines[1].contains("·a") && lines[1].contains("███████▌"), "{out}");
        assert!(lines[4].ends_with("50.0 %   small 75.0 % · large 25.0 %"), "{out}");
        assert!(lines[5].contains("⟨end⟩"), "{out}");
        assert!(lines[5].ends_with("small has no such token · large 50.0 %"), "{out}");
        assert_eq!(next.to_json()["mix"][1]["members"], json!([null, 0.5]));
    }
}
