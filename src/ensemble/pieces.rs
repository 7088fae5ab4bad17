//! Raw texts as pieces of the union, and as each member's tokens.

use super::{Ensemble, Fusion, Member, Prompts, StartError};
use crate::vocab::{Piece, UnionId};

impl Ensemble {
    /// A text as union pieces: the canonical tokens of the first member that takes part, as their
    /// bytes. Joined they are the text: a byte that this member has no token for is the piece of
    /// that one byte, and what stands around it is encoded apart.
    ///
    /// # Errors
    /// If no member has a token for some byte.
    pub fn pieces_of(&self, text: &[u8], fusion: &Fusion) -> Result<Vec<UnionId>, StartError> {
        let first = fusion.active().next().unwrap_or(0);
        let tokenizer = &self.members[first].tokenizer;
        let missing = |byte: &u8| tokenizer.missing_bytes().contains(byte);
        let mut pieces = Vec::new();
        for run in text.split_inclusive(missing) {
            let alone = run.last().copied().filter(missing);
            let whole = &run[..run.len() - usize::from(alone.is_some())];
            let piece = |token| self.maps[first].get(token).expect("a token of a text is a piece");
            pieces.extend(tokenizer.encode(whole).into_iter().map(piece));
            if let Some(byte) = alone {
                let piece = self.union.id(&Piece::Bytes(vec![byte]));
                pieces.push(piece.ok_or(StartError::Unspellable { byte })?);
            }
        }
        Ok(pieces)
    }

    /// What pieces spell.
    ///
    /// # Errors
    /// If one is no piece, or is `End` anywhere but at the beginning.
    pub fn bytes_of(&self, pieces: &[UnionId]) -> Result<Vec<u8>, StartError> {
        let mut bytes = Vec::new();
        for (position, &id) in pieces.iter().enumerate() {
            match self.union.pieces().get(id.0 as usize) {
                Some(Piece::Bytes(piece)) => bytes.extend_from_slice(piece),
                Some(Piece::End) if position == 0 => {}
                Some(Piece::End) => return Err(StartError::EndInside { position }),
                None => return Err(StartError::UnknownPiece { id, size: self.union.size() }),
            }
        }
        Ok(bytes)
    }

    /// Union pieces of which those that end after byte `from` are scored, after what each member
    /// begins a text with.
    ///
    /// # Errors
    /// As [`bytes_of`](Self::bytes_of), or if there are none.
    pub fn scored_prompts(
        &self,
        pieces: &[UnionId],
        from: usize,
        fusion: Fusion,
    ) -> Result<Prompts, StartError> {
        self.bytes_of(pieces)?;
        let after_end = pieces.first() == Some(&self.union.end());
        let beginning = |member: &Member| {
            let tokenizer = &member.tokenizer;
            let mut tokens = tokenizer.prompt(b"");
            if after_end && tokens.is_empty() {
                tokens.extend(tokenizer.stops().first());
            }
            tokens
        };
        let tokens: Vec<_> = self.members.iter().map(beginning).collect();
        let pieces = &pieces[usize::from(after_end)..];
        if pieces.is_empty() {
            return Err(StartError::Empty { member: self.members[0].name.clone() });
        }
        let mut end = 0;
        let is_before = |id: &&UnionId| {
            if let Piece::Bytes(bytes) = self.union.piece(**id) {
                end += bytes.len();
            }
            end <= from
        };
        let (passed, scored) = pieces.split_at(pieces.iter().take_while(is_before).count());
        // Weights that follow the prompt do not follow what is scored.
        let (said, prompts) = (self.bytes_of(passed)?, Prompts::new(tokens, fusion));
        Ok(Prompts { said, passed: passed.to_vec(), scored: scored.to_vec(), ..prompts })
    }

    /// A text as each member's own tokens, to be continued.
    pub fn text_prompts(&self, text: impl AsRef<[u8]>, fusion: Fusion) -> Prompts {
        let prompt = |member: &Member| member.tokenizer.prompt(text.as_ref());
        let tokens = self.members.iter().map(prompt).collect();
        Prompts { said: text.as_ref().to_vec(), ..Prompts::new(tokens, fusion) }
    }
}
