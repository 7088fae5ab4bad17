// Asks a running server through the official OpenAI SDK for Node.
//
//     node openai_sdk.mjs http://127.0.0.1:8080/v1 MODEL [SERVER]
//
// With the server's process id, the server is stopped at the end while a stream runs, which has to
// end in an error. Ends with an error at the first thing that is not so.

import assert from "node:assert/strict";
import http from "node:http";
import OpenAI from "openai";
import { zodResponseFormat, zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";

const [baseURL, model, server] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: "none", maxRetries: 0 });
const seeded = {
  model,
  messages: [{ role: "user", content: "What is a duet?" }],
  max_tokens: 24,
  seed: 7,
};
const Review = z.object({ sentiment: z.enum(["good", "bad"]), stars: z.enum(["1", "2", "3"]) });

async function plainAndStreamed() {
  const { data: plain, response } = await client.chat.completions.create(seeded).withResponse();
  assert.ok(response.headers.get("x-request-id"));
  const runner = client.chat.completions.stream({
    ...seeded,
    stream_options: { include_usage: true },
  });
  const streamed = await runner.finalChatCompletion();
  assert.equal(streamed.choices[0].message.content, plain.choices[0].message.content);
  assert.equal(streamed.choices[0].finish_reason, plain.choices[0].finish_reason);
  assert.equal(streamed.usage.total_tokens, plain.usage.total_tokens);
}

async function parsed() {
  const answer = await client.chat.completions.parse({
    ...seeded,
    max_tokens: 64,
    response_format: zodResponseFormat(Review, "review"),
  });
  Review.parse(answer.choices[0].message.parsed);
  const response = await client.responses.parse({
    model,
    input: "Review this as JSON: a fine film.",
    text: { format: zodTextFormat(Review, "review") },
  });
  Review.parse(response.output_parsed);
}

const tool = {
  type: "function",
  function: {
    name: "weather",
    parameters: {
      type: "object",
      properties: { at: { type: "string", enum: ["Rome", "Bern"] } },
      required: ["at"],
      additionalProperties: false,
    },
  },
};

async function tools() {
  const asked = {
    ...seeded,
    tools: [tool],
    tool_choice: { type: "function", function: { name: "weather" } },
  };
  const plain = await client.chat.completions.create(asked);
  const streamed = await client.chat.completions.stream(asked).finalChatCompletion();
  for (const answer of [plain, streamed]) {
    const call = answer.choices[0].message.tool_calls[0];
    assert.equal(call.function.name, "weather");
    assert.ok(["Rome", "Bern"].includes(JSON.parse(call.function.arguments).at));
    assert.equal(answer.choices[0].finish_reason, "tool_calls");
  }
  const call = plain.choices[0].message.tool_calls[0];
  const after = await client.chat.completions.create({
    ...seeded,
    tools: [tool],
    messages: [
      ...seeded.messages,
      plain.choices[0].message,
      { role: "tool", tool_call_id: call.id, content: "sun" },
    ],
  });
  assert.ok(after.choices[0].message);
}

async function responses() {
  const plain = await client.responses.create({ model, input: "Hi", max_output_tokens: 24 });
  assert.ok(plain.output_text.length > 0);
  let text = "";
  const stream = client.responses
    .stream({ model, input: "Hi", max_output_tokens: 24 })
    .on("response.output_text.delta", (event) => (text += event.delta));
  const final = await stream.finalResponse();
  assert.equal(final.output_text, text);
}

// A server that is full twice: the SDK waits as it is told and comes back.
async function retries() {
  let asked = 0;
  const target = new URL(baseURL);
  const proxy = http.createServer((request, response) => {
    asked += 1;
    if (asked <= 2) {
      response.writeHead(429, { "retry-after": "1", "content-type": "application/json" });
      response.end(JSON.stringify({ error: { message: "full", code: "rate_limit_exceeded" } }));
      return;
    }
    const { hostname, port } = target;
    const { method, headers, url: path } = request;
    const onward = http.request({ hostname, port, path, method, headers }, (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      answer.pipe(response);
    });
    request.pipe(onward);
  });
  await new Promise((ready) => proxy.listen(0, "127.0.0.1", ready));
  const url = `http://127.0.0.1:${proxy.address().port}/v1`;
  const patient = new OpenAI({ baseURL: url, apiKey: "none", maxRetries: 3 });
  const answer = await patient.chat.completions.create({ ...seeded, max_tokens: 1 });
  assert.equal(answer.object, "chat.completion");
  assert.equal(asked, 3);
  proxy.close();
  proxy.closeAllConnections();
}

async function refusals() {
  const refused = (fields, kind, code) =>
    assert.rejects(client.chat.completions.create({ ...seeded, ...fields }), (error) => {
      assert.ok(error instanceof kind, String(error));
      assert.equal(error.code, code);
      return true;
    });
  await refused({ model: "no-such-model" }, OpenAI.NotFoundError, "model_not_found");
  await refused({ temperature: 3 }, OpenAI.BadRequestError, "invalid_value");
}

async function stoppedInMidStream() {
  // A text that cannot end before the server does.
  const schema = {
    type: "object",
    properties: { n: { type: "array", items: { type: "integer" }, minItems: 400 } },
    required: ["n"],
  };
  const stream = await client.chat.completions.create({
    ...seeded,
    max_tokens: 1900,
    stream: true,
    response_format: { type: "json_schema", json_schema: { name: "n", schema } },
  });
  let chunks = 0;
  const read = async () => {
    for await (const _ of stream) {
      chunks += 1;
      if (chunks === 3) process.kill(Number(server), "SIGTERM");
    }
  };
  await assert.rejects(read, (error) => {
    assert.ok(error instanceof OpenAI.APIError, String(error));
    assert.equal(error.code, "engine_stopped");
    return true;
  });
  assert.ok(chunks >= 3);
}

const checks = [plainAndStreamed, parsed, tools, responses, retries, refusals];
if (server) checks.push(stoppedInMidStream);
for (const check of checks) {
  await check();
  console.log(`${check.name}: as the SDK wants it`);
}
