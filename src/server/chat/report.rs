//! A chat whose answer is a report: the last message of the user is the topic.
//!
//! A stream tells the sections as they are written, in the plan's order and as the models say
//! them, in `reasoning_content`; its `content` is the document, the same as without a stream. The
//! run is kept like any other and ends with its request.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc};

use axum::{
    Json,
    response::{
        IntoResponse, Response,
        sse::{self, KeepAlive, Sse},
    },
};
use futures::stream;

use super::{
    request::Question,
    response::{Chunk, ChunkChoice, Completion, Delta, Head},
};
use crate::{
    engine::{FinishReason, FusionRequest, GenerateRequest, Prompt, StopConditions},
    report::{Part, Planned, Report, ReportEvent, ReportRequest},
    sampling::Penalties,
    server::{
        ApiError, App,
        generation::Answer,
        ops::Record,
        reports::{self, MAX_TOKENS, Reading, Started, Told},
        sse::Out,
        tools::{Reader, Toolbox},
        wire::{StreamOptions, WireFusion, naming},
    },
    tokenizer::chat::{Message, Role},
};

/// The report of `writer` that the question asks for; `ignored` are the fields that nothing reads.
pub(super) async fn answer(
    app: &App,
    record: Arc<Record>,
    (writer, question): (String, Question),
    mut ignored: Vec<String>,
) -> Result<Response, ApiError> {
    let Question { generate, choices, stream, toolbox, .. } = question;
    let head = Head::new(&generate.model);
    if let Some(param) = unusable(&generate, choices, &toolbox) {
        let reason = "cannot be used for a report; leave it out";
        return Err(ApiError::unsupported(param, reason));
    }
    let (request, unread) = request(writer, generate, app.config.report_retries)?;
    ignored.extend(unread);
    let ignored = app.ignore(ignored)?;
    let started = reports::start(app, request).await?;
    if let Some(options) = stream {
        let transcript = Transcript::new(head, options);
        return Ok(naming(&ignored, respond(app, started, transcript, record)));
    }
    let run = reports::load(app.runs(), started.ended(&app.life).await?).await?;
    let report = run.report().map_err(|error| ApiError::ReportFailed {
        reason: run.failure.clone().unwrap_or_else(|| error.to_string()),
    })?;
    let usage = report.facts.usage.into();
    record.add(usage);
    let end = Some((FinishReason::Stop, usage));
    let answer = Answer { text: report.body(), end, ..Answer::default() };
    let completion = Completion::new(head, [(answer, Reader::new(&toolbox))], None)?;
    Ok(naming(&ignored, Json(completion).into_response()))
}

/// What is asked of the pipeline, and the messages that it does not read.
fn request(
    writer: String,
    generate: GenerateRequest,
    retries: usize,
) -> Result<(ReportRequest, Vec<String>), ApiError> {
    let Prompt::Chat { messages, .. } = generate.prompt else {
        return Err(ApiError::missing("messages"));
    };
    let is_topic = |message: &Message| message.role == Role::User;
    let topic = messages.iter().rposition(is_topic).ok_or_else(|| {
        ApiError::invalid("messages", "has none of the user, whose last one is the report's topic")
    })?;
    let unread = (0..messages.len()).filter(|&index| index != topic);
    let unread = unread.map(|index| format!("messages[{index}]")).collect();
    let request = ReportRequest {
        topic: messages[topic].content.clone(),
        model: writer,
        sections: None,
        plan: None,
        max_tokens: MAX_TOKENS,
        retries,
        plan_max_tokens: None,
        sampling: generate.sampling,
    };
    request.check().map_err(|error| {
        ApiError::invalid(format!("messages[{topic}]"), format!("is no topic: {error}"))
    })?;
    Ok((request, unread))
}

/// The first field that would ask for another kind of answer.
fn unusable(generate: &GenerateRequest, choices: usize, toolbox: &Toolbox) -> Option<&'static str> {
    let GenerateRequest { prompt, penalties, stop, constraint, logprobs, fusion, .. } = generate;
    let usual = Penalties::default();
    let switched = |prompt: &Prompt| matches!(prompt, Prompt::Chat { template_args, .. } if !template_args.is_empty());
    let asked = [
        ("n", choices > 1),
        ("tools", !toolbox.tools.is_empty()),
        ("response_format", constraint.is_some()),
        ("logprobs", logprobs.is_some()),
        ("stop", !stop.strings.is_empty()),
        ("min_tokens", stop.min_tokens != StopConditions::default().min_tokens),
        ("ignore_eos", stop.ignore_end),
        ("frequency_penalty", penalties.frequency != usual.frequency),
        ("presence_penalty", penalties.presence != usual.presence),
        ("repetition_penalty", penalties.repetition != usual.repetition),
        ("logit_bias", !penalties.bias.is_empty()),
        ("chat_template_kwargs", switched(prompt)),
        ("ensemble", *fusion != FusionRequest::default()),
    ];
    asked.into_iter().find(|(_, is_asked)| *is_asked).map(|(param, _)| param)
}

/// The report lives in the body: when the client goes away it ends.
fn respond(app: &App, started: Started, transcript: Transcript, record: Arc<Record>) -> Response {
    let reading = Reading::new(app, started.id.clone(), 0);
    let state = Sending {
        app: app.clone(),
        id: started.id.clone(),
        reading: Some(reading),
        transcript,
        record,
        out: Out::default(),
        _guard: started.guarded(),
    };
    let events = stream::unfold(state, async |mut state| {
        let event = state.next().await?;
        Some((Ok::<_, Infallible>(event), state))
    });
    let comments = KeepAlive::new().interval(app.config.keep_alive).text("keep-alive");
    Sse::new(events).keep_alive(comments).into_response()
}

struct Sending {
    app: App,
    id: String,
    /// `None` once nothing more comes.
    reading: Option<Reading>,
    transcript: Transcript,
    record: Arc<Record>,
    out: Out,
    _guard: reports::EndsWithRequest,
}

impl Sending {
    async fn next(&mut self) -> Option<sse::Event> {
        loop {
            if let Some(event) = self.out.pop() {
                return Some(event);
            }
            let event = match self.reading.as_mut()?.next().await {
                Some(Told::Entry(entry)) => entry.event,
                Some(Told::Over { reason }) => ReportEvent::Failed { reason },
                None => {
                    self.reading = None;
                    continue;
                }
            };
            match event {
                ReportEvent::Finished(_) => self.finish().await,
                // Ends without `[DONE]`.
                ReportEvent::Failed { reason } => {
                    self.out.json(&ApiError::ReportFailed { reason }.object());
                }
                event => self.transcript.take(event, &mut self.out),
            }
        }
    }

    async fn finish(&mut self) {
        let run = reports::load(self.app.runs(), self.id.clone()).await;
        let report = run.and_then(|run| {
            run.report().map_err(|error| ApiError::ReportFailed { reason: error.to_string() })
        });
        match report {
            Ok(report) => {
                self.record.add(report.facts.usage.into());
                self.transcript.end(&report, &mut self.out);
            }
            Err(error) => self.out.json(&error.object()),
        }
    }
}

/// A report as the chunks of a chat.
struct Transcript {
    head: Head,
    with_usage: bool,
    begun: bool,
    /// The parts in the order they are told: the sections, then what is made of them.
    order: Vec<Part>,
    /// What is said of each part and not told yet, and whether it is finished.
    drafts: BTreeMap<Part, Draft>,
}

#[derive(Default)]
struct Draft {
    untold: String,
    finished: bool,
}

impl Transcript {
    fn new(head: Head, options: StreamOptions) -> Self {
        let with_usage = options.include_usage.unwrap_or(false);
        Self { head, with_usage, begun: false, order: Vec::new(), drafts: BTreeMap::new() }
    }

    fn take(&mut self, event: ReportEvent, out: &mut Out) {
        if !std::mem::replace(&mut self.begun, true) {
            self.send(Delta::role(), None, out);
        }
        match event {
            ReportEvent::PlanRefused { fault } => self.think(format!("(again: {fault})\n"), out),
            ReportEvent::Planned(planned) => self.begin(&planned, out),
            ReportEvent::SectionDelta { part, text, .. } => self.say(part, &text, out),
            ReportEvent::SectionRetried { part, fault } => {
                self.say(part, &format!("\n(again: {fault})\n"), out);
            }
            ReportEvent::SectionFinished { part, .. } => {
                self.drafts.entry(part).or_default().finished = true;
                self.advance(out);
            }
            _ => {}
        }
    }

    fn begin(&mut self, planned: &Planned, out: &mut Out) {
        let sections = &planned.plan.sections;
        self.order = (0..sections.len()).map(|index| Part::Section { index }).collect();
        self.order.extend([Part::Introduction, Part::Conclusion]);
        for (index, section) in sections.iter().enumerate() {
            let heading = format!("\n\n{}. {}\n", index + 1, section.name);
            self.drafts.entry(Part::Section { index }).or_default().untold = heading;
        }
        for part in [Part::Introduction, Part::Conclusion] {
            self.drafts.entry(part).or_default().untold = "\n\n".to_owned();
        }
        self.think(planned.plan.title.clone(), out);
        self.advance(out);
    }

    fn say(&mut self, part: Part, text: &str, out: &mut Out) {
        self.drafts.entry(part).or_default().untold.push_str(text);
        if self.order.first() == Some(&part) {
            self.advance(out);
        }
    }

    /// Tells what there is of the part whose turn it is, and of those after it if it is finished.
    fn advance(&mut self, out: &mut Out) {
        while let Some(draft) = self.order.first().and_then(|part| self.drafts.get_mut(part)) {
            let (untold, finished) = (std::mem::take(&mut draft.untold), draft.finished);
            if !untold.is_empty() {
                self.think(untold, out);
            }
            if !finished {
                return;
            }
            self.order.remove(0);
        }
    }

    fn think(&self, text: String, out: &mut Out) {
        self.send(Delta { reasoning_content: Some(text), ..Delta::default() }, None, out);
    }

    /// The document, a chunk a part.
    fn end(&self, report: &Report, out: &mut Out) {
        let body = report.body();
        let mut rest = body.as_str();
        while !rest.is_empty() {
            let next = rest[1..].find("\n## ").map_or(rest.len(), |at| at + 1);
            let (part, after) = rest.split_at(next);
            self.send(Delta { content: Some(part.to_owned()), ..Delta::default() }, None, out);
            rest = after;
        }
        self.send(Delta::default(), Some("stop"), out);
        if self.with_usage {
            out.json(&Chunk::usage(&self.head, report.facts.usage.into()));
        }
        out.done();
    }

    fn send(&self, delta: Delta, finish_reason: Option<&'static str>, out: &mut Out) {
        let choice = ChunkChoice { index: 0, delta, logprobs: None, finish_reason };
        out.json(&Chunk::delta(&self.head, choice, WireFusion::default(), self.with_usage));
    }
}
