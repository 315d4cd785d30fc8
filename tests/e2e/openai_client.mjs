// OpenAI's JavaScript client against the server at argv[2], about the picture in argv[3]; argv[4] are the questions as
// JSON. Prints what it was told as JSON. Runs where `openai` is in node_modules.
import { readFileSync } from "node:fs";
import OpenAI from "openai";

const [url, picture, questions] = process.argv.slice(2);
const source = `data:image/jpeg;base64,${readFileSync(picture).toString("base64")}`;
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "any", maxRetries: 0 });
const image = { type: "image_url", image_url: { url: source } };

async function unary() {
  const messages = [{ role: "user", content: [image] }];
  const reply = await client.chat.completions.create({ model: "blip2", messages, logprobs: true });
  const tokens = reply.choices[0].logprobs.content.map((token) => token.token);
  return { text: reply.choices[0].message.content, tokens: tokens.join("").trim() };
}

async function conversation() {
  const messages = [];
  const answers = [];
  for (const text of JSON.parse(questions)) {
    const asked = { type: "text", text };
    messages.push({ role: "user", content: messages.length ? [asked] : [image, asked] });
    const stream = client.chat.completions.stream({ model: "blip2", messages });
    const said = (await stream.finalChatCompletion()).choices[0].message;
    messages.push(said);
    answers.push(said.content);
  }
  return answers;
}

async function refusal() {
  try {
    await client.chat.completions.create({ model: "blip2", messages: [{ role: "user", content: "?" }] });
  } catch (error) {
    return { name: error.constructor.name, status: error.status, param: error.param, code: error.code };
  }
}

const models = (await client.models.list()).data.map((model) => model.id);
console.log(JSON.stringify({ models, unary: await unary(), answers: await conversation(), refusal: await refusal() }));
