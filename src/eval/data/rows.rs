//! One row of each shape as a sample.

use serde::{Deserialize, de::DeserializeOwned};

use super::Rows;
use crate::{
    eval::{Item, Sample},
    sampling::split_mix,
};

/// The field that is wrong, and how.
type Wrong = (String, String);

fn wrong(field: &str, reason: impl Into<String>) -> Wrong {
    (field.to_owned(), reason.into())
}

/// The sample that stands in a line. A row without an id of its own is called by its line.
pub(super) fn sample(rows: Rows, text: &str, line: usize) -> Result<Sample, Wrong> {
    match rows {
        Rows::Mmlu => read::<Mmlu>(text)?.sample(line),
        Rows::Texts => Ok(read::<Typed>(text)?.sample(line)),
        Rows::HumanEval => Ok(read::<HumanEval>(text)?.sample()),
        Rows::Gsm8k => Ok(read::<Gsm8k>(text)?.sample()),
        Rows::HellaSwag => read::<HellaSwag>(text)?.sample(),
        Rows::TruthfulQa => read::<TruthfulQa>(text)?.sample(),
        Rows::LongWrite => read::<LongWrite>(text)?.sample(line),
        Rows::Arc => read::<Arc>(text)?.sample(),
        Rows::Choice => {
            let own: Own<Choice> = read(text)?;
            check_answer(&own.row.choices, own.row.answer, "answer")?;
            let Choice { question: stem, choices, answer } = own.row;
            Ok(named(own.id, own.group, line, Item::Choice { stem, choices, answer }))
        }
        Rows::Exact => {
            let Own { id, group, row: Exact { question, answer } } = read(text)?;
            Ok(named(id, group, line, Item::Exact { question, answer }))
        }
        Rows::Text => {
            let Own { id, group, row: Text { text } } = read(text)?;
            if text.is_empty() {
                return Err(wrong("text", "is empty"));
            }
            Ok(named(id, group, line, Item::Text(text)))
        }
    }
}

fn read<T: DeserializeOwned>(text: &str) -> Result<T, Wrong> {
    let row = &mut serde_json::Deserializer::from_str(text);
    serde_path_to_error::deserialize(row).map_err(|error| {
        let field = error.path().to_string();
        // The path of a row that is no JSON, or lacks a field that the reason names.
        let field = if field == "." { String::new() } else { field };
        (field, reason(error.inner()))
    })
}

/// What is wrong, without serde's place in a text that is one line.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(at) => format!("{} at column {}", &text[..at], error.column()),
        None => text,
    }
}

fn named(id: Option<String>, group: Option<String>, line: usize, item: Item) -> Sample {
    Sample { id: id.unwrap_or_else(|| line.to_string()), group: group.unwrap_or_default(), item }
}

fn check_answer(choices: &[String], answer: usize, field: &str) -> Result<(), Wrong> {
    if choices.len() < 2 {
        return Err(wrong("choices", format!("needs at least 2, and has {}", choices.len())));
    }
    if answer >= choices.len() {
        let last = choices.len() - 1;
        return Err(wrong(field, format!("is {answer}, but the choices are 0 to {last}")));
    }
    Ok(())
}

#[derive(Deserialize)]
struct Mmlu {
    question: String,
    answer: String,
}

impl Mmlu {
    fn sample(self, line: usize) -> Result<Sample, Wrong> {
        let shape =
            || wrong("question", "does not end with the lines `A. ` to `D. ` and `Answer:`");
        let mut rest = self.question.strip_suffix("\nAnswer:").ok_or_else(shape)?;
        let mut choices = Vec::with_capacity(4);
        // From the end, so that a list within the question stays in it.
        for letter in ['D', 'C', 'B', 'A'] {
            let (before, choice) = rest.rsplit_once(&format!("\n{letter}. ")).ok_or_else(shape)?;
            choices.push(choice.to_owned());
            rest = before;
        }
        choices.reverse();
        let answer = ["A", "B", "C", "D"].iter().position(|letter| *letter == self.answer);
        let answer = answer.ok_or_else(|| {
            wrong("answer", format!("is `{}`, but the choices are A to D", self.answer))
        })?;
        let item = Item::Choice { stem: rest.trim_end().to_owned(), choices, answer };
        Ok(named(None, None, line, item))
    }
}

#[derive(Deserialize)]
struct Typed {
    text: String,
    r#type: String,
}

impl Typed {
    fn sample(self, line: usize) -> Sample {
        named(None, Some(self.r#type), line, Item::Text(self.text))
    }
}

#[derive(Deserialize)]
struct HumanEval {
    task_id: String,
    prompt: String,
    test: String,
    entry_point: String,
}

impl HumanEval {
    fn sample(self) -> Sample {
        let Self { task_id, prompt, test: tests, entry_point } = self;
        let item = Item::Program { prompt, tests, entry_point };
        Sample { id: task_id, group: String::new(), item }
    }
}

#[derive(Deserialize)]
struct Gsm8k {
    id: String,
    prompt: String,
    expected: String,
}

impl Gsm8k {
    fn sample(self) -> Sample {
        let item = Item::Exact { question: self.prompt, answer: self.expected };
        Sample { id: self.id, group: String::new(), item }
    }
}

#[derive(Deserialize)]
struct HellaSwag {
    id: String,
    activity_label: String,
    ctx: String,
    endings: Vec<String>,
    expected_index: usize,
}

impl HellaSwag {
    fn sample(self) -> Result<Sample, Wrong> {
        check_answer(&self.endings, self.expected_index, "expected_index")?;
        let stem = plain(&format!("{}: {}", self.activity_label, self.ctx));
        let choices = self.endings.iter().map(|ending| plain(ending)).collect();
        let item = Item::Choice { stem, choices, answer: self.expected_index };
        Ok(Sample { id: self.id, group: String::new(), item })
    }
}

/// The text without the marks that WikiHow's pages left in it, as EleutherAI's
/// lm-evaluation-harness reads HellaSwag (`tasks/hellaswag/utils.py`), which also puts the activity
/// before the scene: figures of other programs are of such texts.
fn plain(text: &str) -> String {
    let text = text.trim().replace(" [title]", ". ");
    let mut plain = String::with_capacity(text.len());
    let mut rest = &text[..];
    while let Some((before, marked)) = rest.split_once('[') {
        let Some((_, after)) = marked.split_once(']') else { break };
        plain.push_str(before);
        rest = after;
    }
    plain.push_str(rest);
    plain.replace("  ", " ")
}

#[derive(Deserialize)]
struct TruthfulQa {
    id: String,
    question: String,
    choices: Vec<String>,
    expected_index: usize,
}

impl TruthfulQa {
    /// The right answer always comes first in the file, and a model that is shown the choices may
    /// like the first: their order here is drawn from the sample's id.
    fn sample(self) -> Result<Sample, Wrong> {
        check_answer(&self.choices, self.expected_index, "expected_index")?;
        let item = Item::Choice { stem: self.question, choices: Vec::new(), answer: 0 };
        let mut sample = Sample { id: self.id, group: String::new(), item };
        let seed = sample.rank();
        let mut order: Vec<usize> = (0..self.choices.len()).collect();
        order.sort_by_key(|&index| split_mix(seed, index as u64));
        if let Item::Choice { choices, answer, .. } = &mut sample.item {
            *choices = order.iter().map(|&index| self.choices[index].clone()).collect();
            let place = order.iter().position(|&index| index == self.expected_index);
            *answer = place.expect("every choice has a place");
        }
        Ok(sample)
    }
}

#[derive(Deserialize)]
struct LongWrite {
    prompt: String,
    r#type: String,
}

impl LongWrite {
    fn sample(self, line: usize) -> Result<Sample, Wrong> {
        if self.prompt.trim().is_empty() {
            return Err(wrong("prompt", "is empty"));
        }
        Ok(named(None, Some(self.r#type), line, Item::Topic(self.prompt)))
    }
}

#[derive(Deserialize)]
struct Arc {
    id: String,
    question: ArcQuestion,
    choices: Option<ArcColumns>,
    #[serde(rename = "answerKey")]
    answer_key: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum ArcQuestion {
    Published { stem: String, choices: Vec<ArcChoice> },
    OfTheHub(String),
}

#[derive(Deserialize)]
struct ArcChoice {
    text: String,
    label: String,
}

#[derive(Deserialize)]
struct ArcColumns {
    text: Vec<String>,
    label: Vec<String>,
}

impl Arc {
    fn sample(self) -> Result<Sample, Wrong> {
        let (stem, choices, labels): (_, Vec<String>, Vec<String>) =
            match (self.question, self.choices) {
                (ArcQuestion::Published { stem, choices }, _) => {
                    let both = choices.into_iter().map(|choice| (choice.text, choice.label));
                    let (choices, labels) = both.unzip();
                    (stem, choices, labels)
                }
                (ArcQuestion::OfTheHub(stem), Some(columns)) => (stem, columns.text, columns.label),
                (ArcQuestion::OfTheHub(_), None) => return Err(wrong("choices", "is missing")),
            };
        let answer = labels.iter().position(|label| *label == self.answer_key);
        let answer = answer.ok_or_else(|| {
            let labels = labels.join(", ");
            wrong("answerKey", format!("is `{}`, but the labels are {labels}", self.answer_key))
        })?;
        check_answer(&choices, answer, "answerKey")?;
        let item = Item::Choice { stem, choices, answer };
        Ok(Sample { id: self.id, group: String::new(), item })
    }
}

#[derive(Deserialize)]
struct Own<Row> {
    id: Option<String>,
    group: Option<String>,
    #[serde(flatten)]
    row: Row,
}

#[derive(Deserialize)]
struct Choice {
    question: String,
    choices: Vec<String>,
    answer: usize,
}

#[derive(Deserialize)]
struct Exact {
    question: String,
    answer: String,
}

#[derive(Deserialize)]
struct Text {
    text: String,
}
