//! A model's own chat template, rendered as its Python reference does.
//!
//! Knows text only: no ids. Behaviour: `apply_chat_template` of the `transformers` library (trimmed
//! blocks, `raise_exception`, `strftime_now`, JSON as Python writes it, methods of Python strings).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{
    chat::{Conversation, Message, Role, ToolCall},
    tools,
};
use minijinja::{
    Environment, Error, ErrorKind, Value, context,
    syntax::SyntaxConfig,
    value::{Kwargs, Serde},
};
use serde_json::json;

/// Why messages could not be made a prompt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChatError {
    #[error("the model has no chat template; give a raw prompt, or use an instruction-tuned model")]
    NoTemplate,
    #[error("the template refuses the messages: {reason}")]
    Refused { reason: String },
    #[error("the template cannot be rendered: {reason}; the model needs another build of its file")]
    Broken { reason: String },
}

#[derive(Debug)]
pub(super) struct Template {
    pub(super) source: String,
    pub(super) bos: String,
    pub(super) eos: String,
}

impl Template {
    /// The conversation with the assistant's turn opened. `now` is what the template's clock shows,
    /// in UTC.
    ///
    /// A template that does not know tools, or refuses these calls by any id, is given them as text.
    pub(super) fn render(
        &self,
        conversation: Conversation<'_>,
        now: SystemTime,
    ) -> Result<String, ChatError> {
        let Conversation { messages, tools, .. } = conversation;
        let has_calls =
            |message: &Message| !message.tool_calls.is_empty() || message.role == Role::Tool;
        if tools.is_empty() && !messages.iter().any(has_calls) {
            return self.render_plain(conversation, now);
        }
        if self.knows_tools(now)? {
            let short = tools::with_short_ids(messages);
            for messages in [messages, &short] {
                let rendered = self.render_plain(Conversation { messages, ..conversation }, now);
                if !matches!(rendered, Err(ChatError::Refused { .. })) {
                    return rendered;
                }
            }
        }
        let messages = tools::as_text(messages.to_vec(), tools);
        let plain = Conversation { messages: &messages, tools: &[], ..conversation };
        self.render_plain(plain, now)
    }

    fn knows_tools(&self, now: SystemTime) -> Result<bool, ChatError> {
        let environment = environment(now);
        let template = environment.template_from_str(&self.source);
        let unset = template.map_err(|error| chat_error(&error))?.undeclared_variables(false);
        Ok(unset.contains("tools"))
    }

    fn render_plain(
        &self,
        Conversation { messages, tools, args }: Conversation<'_>,
        now: SystemTime,
    ) -> Result<String, ChatError> {
        let messages: Vec<Value> = messages.iter().map(dictionary).collect();
        let tools: Vec<serde_json::Value> = tools.iter().map(tools::object).collect();
        let tools = if tools.is_empty() { Value::from(()) } else { Value::from(Serde(tools)) };
        let variables = context! {
            messages,
            add_generation_prompt => true,
            bos_token => self.bos.as_str(),
            eos_token => self.eos.as_str(),
            tools,
            ..Value::from(Serde(args.clone())),
        };
        environment(now)
            .template_from_str(&self.source)
            .and_then(|template| template.render(variables))
            .map_err(|error| chat_error(&error))
    }
}

/// A message as templates see it; what it has not is not there.
fn dictionary(message: &Message) -> Value {
    let mut fields = json!({ "role": message.role.name(), "content": message.content });
    if !message.tool_calls.is_empty() {
        let call = |call: &ToolCall| {
            let function = json!({ "name": call.name, "arguments": call.arguments });
            json!({ "id": call.id, "type": "function", "function": function })
        };
        fields["tool_calls"] = message.tool_calls.iter().map(call).collect();
    }
    if let Some(id) = &message.tool_call_id {
        fields["tool_call_id"] = json!(id);
    }
    if let Some(name) = &message.name {
        fields["name"] = json!(name);
    }
    Value::from(Serde(fields))
}

/// `json.dumps(value, ensure_ascii=False)`.
pub(super) fn python_json(value: &serde_json::Value) -> String {
    let none: [(&str, Value); 0] = [];
    tojson(&Value::from(Serde(value)), None, none.into_iter().collect())
        .expect("every JSON value can be written")
}

/// What the template itself raised.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Raised(String);

fn chat_error(error: &Error) -> ChatError {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(inner) = source {
        if let Some(Raised(reason)) = inner.downcast_ref() {
            return ChatError::Refused { reason: reason.clone() };
        }
        source = inner.source();
    }
    ChatError::Broken { reason: error.to_string() }
}

fn environment<'source>(now: SystemTime) -> Environment<'source> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.expect("the default delimiters differ from one another"));
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_filter("tojson", tojson);
    environment.add_function("raise_exception", |reason: String| -> Result<Value, Error> {
        let error = Error::new(ErrorKind::InvalidOperation, "the template raised an exception");
        Err(error.with_source(Raised(reason)))
    });
    environment.add_function("strftime_now", move |format: &str| strftime(format, now));
    environment
}

/// `json.dumps(value, ensure_ascii=False, indent=indent)`: minijinja's own filter without the
/// escapes that make its output safe in HTML, which a model must not see.
#[allow(clippy::needless_pass_by_value, reason = "a filter's options come by value")]
fn tojson(value: &Value, indent: Option<Value>, options: Kwargs) -> Result<String, Error> {
    // Templates also name options of `json.dumps`; these two mean nothing else than the default.
    for option in ["ensure_ascii", "sort_keys"] {
        if options.get::<Option<bool>>(option)? == Some(true) {
            let reason = format!("tojson does not know {option}=true");
            return Err(Error::new(ErrorKind::InvalidOperation, reason));
        }
    }
    let indent = match indent {
        Some(indent) => Some(indent),
        None => options.get("indent")?,
    };
    options.assert_all_used()?;
    let none: [(&str, Value); 0] = [];
    let json = minijinja::filters::tojson(value, indent, none.into_iter().collect())?.to_string();
    let mut plain = String::with_capacity(json.len());
    let mut rest = json.as_str();
    while let Some(escape) = rest.find('\\') {
        plain.push_str(&rest[..escape]);
        let (c, length) = match rest.as_bytes().get(escape + 1..escape + 6) {
            Some(b"u003c") => ("<", 6),
            Some(b"u003e") => (">", 6),
            Some(b"u0026") => ("&", 6),
            Some(b"u0027") => ("'", 6),
            _ => (&rest[escape..escape + 2], 2),
        };
        plain.push_str(c);
        rest = &rest[escape + length..];
    }
    plain.push_str(rest);
    Ok(plain)
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] =
    ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];

/// The directives of C's `strftime` that dates in templates use; another is an error, not a blank.
fn strftime(format: &str, now: SystemTime) -> Result<String, Error> {
    let seconds = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let month_name = MONTHS[month - 1];
    let day_name = DAYS[usize::try_from(days % 7).expect("below 7")];
    let mut text = String::new();
    let mut directives = format.chars();
    while let Some(c) = directives.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        text.push_str(&match directives.next() {
            Some('Y') => year.to_string(),
            Some('y') => format!("{:02}", year % 100),
            Some('m') => format!("{month:02}"),
            Some('d') => format!("{day:02}"),
            Some('e') => format!("{day:2}"),
            Some('B') => month_name.to_owned(),
            Some('b') => month_name[..3].to_owned(),
            Some('A') => day_name.to_owned(),
            Some('a') => day_name[..3].to_owned(),
            Some('H') => format!("{:02}", second / 3600),
            Some('M') => format!("{:02}", second / 60 % 60),
            Some('S') => format!("{:02}", second % 60),
            Some('%') => "%".to_owned(),
            other => {
                let reason = format!(
                    "strftime_now does not know %{}",
                    other.map_or("".to_owned(), |c| c.to_string())
                );
                return Err(Error::new(ErrorKind::InvalidOperation, reason));
            }
        });
    }
    Ok(text)
}

/// Year, month and day of a number of days since 1970-01-01.
fn civil(mut days: u64) -> (u64, usize, u64) {
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while days >= lengths[month] {
        days -= lengths[month];
        month += 1;
    }
    (year, month + 1, days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(source: &str) -> Result<String, ChatError> {
        let template =
            Template { source: source.to_owned(), bos: "<s>".to_owned(), eos: "</s>".to_owned() };
        let message = Message::new(Role::User, " a<b & \"c\" ");
        // 2024-02-29 12:34:56 UTC, a Thursday.
        let now = UNIX_EPOCH + Duration::from_secs(1_709_210_096);
        template.render(Conversation::new(&[message]), now)
    }

    #[test]
    fn a_template_sees_messages_tokens_and_the_clock() {
        let source = "{{ bos_token }}{% for m in messages %}\n  {%- if m.role == 'user' %}\n[{{ m['content'].strip() }}]{% endif %}\n{% endfor %}\n{{ eos_token }}{% if tools %}tools{% endif %}{% if add_generation_prompt %} go{% endif %}\n";
        assert_eq!(render(source).unwrap(), "<s>[a<b & \"c\"]</s> go");
        let clock = "{{ strftime_now('%d %b %Y, %A %e %B %y, %a %m %H:%M:%S %%') }}";
        assert_eq!(
            render(clock).unwrap(),
            "29 Feb 2024, Thursday 29 February 24, Thu 02 12:34:56 %"
        );
    }

    #[test]
    fn json_is_written_as_python_writes_it() {
        let source =
            r#"{{ {'a': [1, 'é<&>', "it's \\u003c"], 'b': none} | tojson(ensure_ascii=false) }}"#;
        let json = r#"{"a": [1, "é<&>", "it's \\u003c"], "b": null}"#;
        assert_eq!(render(source).unwrap(), json);
        assert_eq!(render("{{ [1] | tojson(indent=2) }}").unwrap(), "[\n  1\n]");
    }

    #[test]
    fn what_a_template_raises_is_a_refusal_and_anything_else_a_broken_template() {
        let raised = render("{{ raise_exception('roles must alternate') }}").unwrap_err();
        assert_eq!(raised, ChatError::Refused { reason: "roles must alternate".to_owned() });
        for source in ["{% if %}", "{{ strftime_now('%Q') }}", "{{ messages.nothing.at_all }}"] {
            assert!(matches!(render(source), Err(ChatError::Broken { .. })), "{source}");
        }
    }

    /// The check is that of Mistral's templates.
    #[test]
    fn a_template_that_wants_ids_of_nine_characters_has_them() {
        let source = "{% if tools %}{% endif %}{% for m in messages %}\
            {% if m.tool_call_id is defined %}[{{ m.tool_call_id }}: {{ m.content }}]{% endif %}\
            {% for call in m.tool_calls or [] %}{% if call.id | length != 9 %}\
            {{ raise_exception('ids have length 9') }}{% endif %}[{{ call.id }}]{% endfor %}\
            {% endfor %}";
        let template = Template { source: source.to_owned(), bos: "".into(), eos: "".into() };
        let call = |id: &str| ToolCall { id: id.into(), name: "f".into(), arguments: json!({}) };
        let result = |id: &str| Message {
            tool_call_id: Some(id.to_owned()),
            ..Message::new(Role::Tool, format!("of {id}"))
        };
        let rendered = |one: &str, two: &str| {
            let mut calling = Message::new(Role::Assistant, "");
            calling.tool_calls = vec![call(one), call(two)];
            let messages = [calling, result(two), result(one)];
            template.render(Conversation::new(&messages), UNIX_EPOCH).unwrap()
        };
        assert_eq!(
            rendered("call_1", "call_22"),
            "[000000000][000000001][000000001: of call_22][000000000: of call_1]"
        );
        assert!(rendered("abcdefgh1", "abcdefgh2").starts_with("[abcdefgh1][abcdefgh2]"));
    }

    #[test]
    fn years_and_months_end_where_they_should() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(58), (1970, 2, 28));
        assert_eq!(civil(59), (1970, 3, 1));
        assert_eq!(civil(11_016), (2000, 2, 29));
        assert_eq!(civil(19_722), (2023, 12, 31));
        assert_eq!(civil(19_723), (2024, 1, 1));
    }
}
